"""The commands in the documents run, and print what the documents show; their links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer.main

from benchbox.cli import app
from benchbox.report.html.columns import COLUMNS

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMITTED = "reports/intel-r-xeon-r-processor-2-processors/quick/report.json"
BLOCK = re.compile(r"^```(\S*)[ ]?([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block: its language, what else stands behind the fence, and its text."""

    language: str
    info: str
    text: str


class Command(NamedTuple):
    """A command and the lines that it is said to print."""

    line: str
    shown: list[str]
    slow: bool


def blocks(path: Path) -> list[Block]:
    return [Block(*found) for found in BLOCK.findall(path.read_text(encoding="utf-8"))]


def commands(path: Path) -> list[Command]:
    found: list[Command] = []
    for block in blocks(path):
        if block.language == "console":
            for line in block.text.splitlines():
                if line.startswith("$ "):
                    found.append(Command(line[2:], [], block.info == "slow"))
                else:
                    found[-1].shown.append(line)
    return found


def shape(line: str) -> str:
    """A line without what differs from run to run: figures, units, padding."""
    line = re.sub(r"\d[\d,.]*", "0", line.replace("± over", "±"))
    line = re.sub(r"\b0 (ns|µs|ms|s|KiB|MiB|GiB)\b", "0 unit", line)
    return " ".join(line.split())


def measures(command: Command) -> bool:
    """Whether it prints what it measured just now; all others print the same on every machine.

    A slow run is shown by the report that it left.
    """
    words = command.line.split()[1:]
    starts = (["run"], ["hw", "init"], ["hw", "detect"])
    return not command.slow and "--list" not in words and any(words[: len(one)] == one for one in starts)


def assert_printed(shown: list[str], printed: str, *, masked: bool) -> None:
    """Every shown line was printed, in this order; ``…`` stands for any others, or for the rest of a line.

    ``masked``: whatever its figures are. Else only white space at a line's end may differ.
    """
    look = shape if masked else str.rstrip
    lines = [look(line) for line in printed.splitlines()]
    place = 0
    for line in (look(line) for line in shown):
        if line in ("", "…"):
            continue
        start, cut, _ = line.partition("…")
        while place < len(lines) and not (
            lines[place].startswith(start.rstrip()) if cut else lines[place] == line
        ):
            place += 1
        assert place < len(lines), f"{line!r} was not printed, or not here:\n{printed}"
        place += 1


def run(line: str, folder: Path) -> str:
    name, *arguments = shlex.split(line)
    assert name == "benchbox"
    hidden = ("FORCE_COLOR", "NO_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    environment |= {"PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": str(folder), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-m", "benchbox.cli", *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode in (0, 2), done.stderr
    return done.stdout + done.stderr


def prepare(path: Path, folder: Path) -> None:
    """What the document's commands need: the repository's data, and the files that the document shows."""
    for name in ("reports", "suites", "hw_profiles"):
        (folder / name).symlink_to(ROOT / name)
    for block in blocks(path):
        if block.language in ("python", "toml") and block.info:
            (folder / block.info).write_text(block.text)


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if commands(path)], ids=lambda path: path.stem)
def test_commands_print_what_is_shown(path: Path, tmp_path: Path) -> None:
    prepare(path, tmp_path)
    for command in commands(path):
        # A long run is shown by the report that such a run left.
        line = f"benchbox report {COMMITTED}" if command.slow else command.line
        assert any(one.strip(" …") for one in command.shown), f"{command.line}: nothing is shown"
        assert_printed(command.shown, run(line, tmp_path), masked=measures(command))


def test_most_commands_are_compared_to_the_figure() -> None:
    found = [command for path in DOCUMENTS for command in commands(path)]
    exact = [command.line for command in found if not measures(command)]
    assert len(exact) > len(found) / 2
    assert [line for line in exact if COMMITTED in line]
    assert "benchbox run quick --out first" in exact


@pytest.mark.parametrize(
    ("shown", "exactly", "masked"),
    [
        (["case  samples/s", "one   17.37"], True, True),
        (["one   17.38"], False, True),
        (["one 17.37"], False, True),
        (["one   1…"], True, True),
        (["one   2…"], False, True),
        (["one   17.37", "case  samples/s"], False, False),
        (["two   17.37"], False, False),
    ],
)
def test_what_counts_as_printed(shown: list[str], exactly: bool, masked: bool) -> None:
    for is_masked, expected in ((False, exactly), (True, masked)):
        with nullcontext() if expected else pytest.raises(AssertionError, match="was not printed"):
            assert_printed(shown, "case  samples/s\none   17.37  \n", masked=is_masked)


def benchbox_lines() -> Iterator[tuple[str, str]]:
    for path in DOCUMENTS:
        for block in blocks(path):
            if block.language == "sh":
                for line in block.text.replace("\\\n", "").splitlines():
                    if line.startswith("benchbox "):
                        yield path.name, line.partition(" #")[0]


@pytest.mark.parametrize(("document", "line"), sorted(set(benchbox_lines())))
def test_commands_of_shell_blocks_exist_with_their_options(document: str, line: str) -> None:
    command: Any = typer.main.get_command(app)
    words = shlex.split(line)[1:]
    while words and words[0] in getattr(command, "commands", ()):
        command = command.commands[words.pop(0)]
    assert not hasattr(command, "commands") or words[0].startswith("-"), (
        f"{document}: {line}: no such command"
    )
    known = {"--help"}
    for parameter in command.params:
        known |= {*parameter.opts, *parameter.secondary_opts}
    unknown = [word for word in words if word.startswith("-") and word not in known]
    assert unknown == [], f"{document}: {line}"


@pytest.mark.parametrize("path", [*DOCUMENTS, *(ROOT / "docs/decisions").glob("*.md")], ids=lambda p: p.stem)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(
        r"\]\(([^)#]+)(?:#[^)]*)?\)|(?:src|srcset)=\"([^\"]+)\"", path.read_text("utf-8")
    ):
        place = "".join(target)
        assert place.startswith("http") or (path.parent / place).exists(), place


def test_every_column_of_the_page_is_explained() -> None:
    text = (ROOT / "docs/read-a-report.md").read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and line.count("|") == 4]
    explained = {name.strip() for row in rows for name in row.split("|")[1].split(",")}
    assert {column.title for column in COLUMNS} <= explained


def test_every_document_is_in_the_index() -> None:
    index = (ROOT / "docs/README.md").read_text("utf-8")
    for path in sorted((ROOT / "docs").glob("*.md")):
        assert path.name == "README.md" or f"]({path.name})" in index
