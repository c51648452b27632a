"""Every number of the worked example is what the command prints."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchbox.cli import app
from benchbox.errors import BadInputError

ROOT = Path(__file__).parent.parent
EXAMPLES = re.findall(
    r"```sh\nbenchbox (plan .*?)```\n\n```text\n(.*?)```",
    (ROOT / "docs/plan.md").read_text("utf-8"),
    re.DOTALL,
)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 3


@pytest.mark.parametrize(("command", "shown"), EXAMPLES, ids=["kept", "late", "refused"])
def test_the_worked_example_is_what_is_printed(
    command: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("XDG_CONFIG_HOME", "/nowhere")
    arguments = shlex.split(command.replace("\\\n", " "))
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "80"})
    printed = f"benchbox: {done.exception}" if isinstance(done.exception, BadInputError) else done.stdout
    lines = [line.rstrip() for line in printed.splitlines()]
    wanted = shown.splitlines()
    assert lines[: len(wanted)] == wanted
