"""Run the commands in the documents' console blocks again and write down what they print now.

python docs/outputs.py, or make pictures. Shown lines stand in runs between ``…``; each run is found again by
its first line and replaced by as many printed lines. What cannot be found is named, to be mended by hand.
"""

from __future__ import annotations

import sys
import tempfile
from itertools import groupby, takewhile
from pathlib import Path

from tests.test_docs import BLOCK, COMMITTED, DOCUMENTS, prepare, run, shape

CUT = "…"
MIN_ANCHOR = 12
"""Characters at a line's beginning that tell it from others."""


def main() -> int:
    """Rewrite every document; the number of runs that were not found again."""
    num_lost = 0
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder:
            prepare(path, Path(folder))
            for language, info, block in BLOCK.findall(text):
                if language == "console":
                    now, lost = refreshed(block, slow=info == "slow", folder=Path(folder))
                    text = text.replace(block, now)
                    for line in lost:
                        sys.stdout.write(f"{path.name}: not printed any more: {line}\n")
                    num_lost += len(lost)
        path.write_text(text, encoding="utf-8")
    return num_lost


def refreshed(block: str, *, slow: bool, folder: Path) -> tuple[str, list[str]]:
    """The block with what its commands print now, and the first lines of runs that were not found."""
    lines: list[str] = []
    lost: list[str] = []
    printed: list[str] = []
    for is_command, group in groupby(block.splitlines(), key=lambda line: line.startswith("$ ")):
        if is_command:
            for line in group:
                printed = run(f"benchbox report {COMMITTED}" if slow else line[2:], folder).splitlines()
                lines.append(line)
            continue
        for is_cut, shown in groupby(group, key=lambda line: CUT in line):
            wanted = list(shown)
            found = wanted if is_cut else _found(wanted, printed)
            if found is None:
                lost.append(wanted[0])
            lines += wanted if found is None else found
    return "\n".join(lines) + "\n", lost


def _found(wanted: list[str], printed: list[str]) -> list[str] | None:
    """As many printed lines as ``wanted`` has, from the one that is like its first: that begins as it does,
    or differs from it in figures alone."""
    first = wanted[0].rstrip()
    common = [_num_alike(first, line) for line in printed]
    shapes = [shape(line) for line in printed]
    if max(common, default=0) >= min(MIN_ANCHOR, len(first)):
        start = common.index(max(common))
    elif shape(first) in shapes:
        start = shapes.index(shape(first))
    else:
        return None
    return [line.rstrip() for line in printed[start : start + len(wanted)]]


def _num_alike(one: str, other: str) -> int:
    """Characters that both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


if __name__ == "__main__":
    sys.exit(min(main(), 1))
