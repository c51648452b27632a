"""Draw what `benchbox report FILE` prints as an SVG: python docs/pictures.py REPORT.json OUT.svg"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from rich.console import Console

from benchbox.report.files import read_report
from benchbox.report.terminal import terminal_view

WIDTH = 110


def main() -> None:
    """Render the report as a terminal of 110 columns shows it."""
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(terminal_view(read_report(source), WIDTH))
    svg = console.export_svg(title=f"benchbox report {source}")
    # The picture must not fetch fonts from anywhere: the viewer's own monospace font will do.
    target.write_text(re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
