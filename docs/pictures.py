"""Draw docs/images from a committed report: python docs/pictures.py, or make pictures.

The terminal as an SVG, the page as a browser shows it, light and dark, and the plot of throughput. Each PNG
tells which page it shows, so that a test finds one of an older page.
"""

from __future__ import annotations

import hashlib
import io
import re
import tempfile
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from rich.console import Console

from benchbox.report.build import rediagnosed
from benchbox.report.files import read_report
from benchbox.report.html.page import render_page
from benchbox.report.plots.canvas import render
from benchbox.report.plots.throughput import throughput
from benchbox.report.terminal import terminal_view
from benchbox.schema import Report
from tests.pages.browser import chromium, set_view

ROOT = Path(__file__).parent.parent
SOURCE = Path("reports/intel-r-xeon-r-processor-2-processors/quick/report.json")
IMAGES = ROOT / "docs" / "images"
TERMINAL_COLUMNS = 110
PAGE_WIDTH, PAGE_HEIGHT = 1200, 1080
DIGEST = "page-sha256"
"""The name of a PNG's text that tells which page it shows."""


def main() -> None:
    """Write every picture."""
    for name, content in drawings().items():
        (IMAGES / name).write_bytes(content)
    shown = page()
    digest = PngInfo()
    digest.add_text(DIGEST, digest_of(shown))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "page.html")
        path.write_text(shown, encoding="utf-8")
        with chromium(Path(folder)) as browser:
            for name, dark in (("page", False), ("page-dark", True)):
                set_view(browser, PAGE_WIDTH, PAGE_HEIGHT, dark=dark)
                browser.get(path.as_uri())
                image = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
                # A page has few colours: a palette keeps the file small.
                image = image.quantize(128, dither=Image.Dither.NONE)
                image.save(IMAGES / f"{name}.png", optimize=True, pnginfo=digest)


def drawings() -> dict[str, bytes]:
    """The pictures that are the same on every machine, by their files' names."""
    report = read_report(ROOT / SOURCE)
    return {
        "quick.svg": terminal(report).encode(),
        "throughput.svg": render(throughput([report])),
    }


def page() -> str:
    """What ``benchbox report --format html`` makes of the report."""
    return render_page([rediagnosed(read_report(ROOT / SOURCE))])


def digest_of(text: str) -> str:
    """The SHA-256 of a page, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def terminal(report: Report) -> str:
    """What ``benchbox report`` prints into a terminal."""
    console = Console(record=True, width=TERMINAL_COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(terminal_view(report, TERMINAL_COLUMNS))
    svg = console.export_svg(title=f"benchbox report {SOURCE}")
    # The picture must not fetch fonts from anywhere: the viewer's own monospace font will do.
    return re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)


if __name__ == "__main__":
    main()
