"""The worked example of docs/plan.md: python docs/plan_example.py [--check]

Runs each command of the page and puts what it prints below it. With --check nothing is written, and the exit
code is 1 where the page shows something else.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "plan.md"
EXAMPLE = re.compile(r"(```sh\nbenchbox (plan .*?)```\n\n```text\n)(.*?)(```)", re.DOTALL)
# What the page says of its examples, in their order: a new report may ask for other limits.
WANTED = (
    r"(?s)deadline of .*: yes\n.*budget of .*: yes\nboth by one configuration: yes\n",
    r"deadline of .*: no; .* would be enough\n",
    r"benchbox: nothing can be foretold: .*; would settle it: ",
)
# The second example shows its answers and not the table, which is that of the first.
NUM_LINES = (None, 4, None)


def main() -> int:
    """Write the page, or compare it."""
    before = PAGE.read_text("utf-8")
    commands = [found[2] for found in EXAMPLE.finditer(before)]
    if len(commands) != len(WANTED):
        sys.stderr.write(f"docs/plan.md has {len(commands)} examples, not {len(WANTED)}\n")
        return 1
    printed = [_printed(command, lines) for command, lines in zip(commands, NUM_LINES, strict=True)]
    for command, text, wanted in zip(commands, printed, WANTED, strict=True):
        if not re.search(wanted, text):
            sys.stderr.write(f"{command}\nprints\n{text}and the page needs {wanted!r}: choose other limits\n")
            return 1
    texts = iter(printed)
    after = EXAMPLE.sub(lambda found: found[1] + next(texts) + found[4], before)
    if "--check" in sys.argv[1:]:
        if after != before:
            sys.stderr.write("docs/plan.md is stale: python docs/plan_example.py writes it anew\n")
        return int(after != before)
    PAGE.write_text(after, "utf-8")
    return 0


def _printed(command: str, num_lines: int | None) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "benchbox.cli", *shlex.split(command.replace("\\\n", " "))],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "80", "XDG_CONFIG_HOME": os.devnull, "NO_COLOR": "1"},
    )
    lines = [line.rstrip() for line in (done.stdout or done.stderr).splitlines()]
    return "\n".join(lines[:num_lines]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
