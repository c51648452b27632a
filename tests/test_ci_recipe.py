"""The recipes in docs/ci.md: the shell one is run, the others' benchbox commands are parsed."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from benchbox.cli import app
from benchbox.report.files import read_report, write_report
from tests.report.test_comparison_formats import slowed
from tests.runs import environment

PAGE = (Path(__file__).parent.parent / "docs/ci.md").read_text(encoding="utf-8")
SUITE = """
[workload]
model = "mlp"
sizes = [16, 16, 4]
[axes]
per_device_batch_size = [8]
[measure]
repetitions = 1
max_seconds = 0.3
num_phase_steps = 0
num_trajectory_steps = 0
telemetry_hz = 0
"""


@pytest.mark.timeout(300)
def test_the_shell_recipe_runs(tmp_path: Path) -> None:
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites/ci.toml").write_text(SUITE)
    (tmp_path / "benchbox").write_text(f'#!/bin/sh\nexec {sys.executable} -m benchbox.cli "$@"\n')
    (tmp_path / "benchbox").chmod(0o755)
    recipe = PAGE.split("<!-- run by tests/test_ci_recipe.py -->")[1]
    script = re.search(r"```sh\n(.*?)```", recipe, re.DOTALL)
    assert script is not None
    path = environment()["PATH"]

    def run(**variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", script[1]],
            cwd=tmp_path,
            env=environment(PATH=f"{tmp_path}:{path}", **variables),
            capture_output=True,
            text=True,
            check=False,
        )

    first = run()
    assert first.returncode == 2
    assert "base/report.json: cannot be read" in first.stderr
    report = read_report(tmp_path / "new/report.json")
    (tmp_path / "base").mkdir()
    write_report(slowed(report, 1000.0), tmp_path / "base/report.json")  # so that no noise makes it worse
    second = run()
    assert second.returncode == 0, second.stdout + second.stderr
    assert "nothing became worse" in second.stdout


def test_every_benchbox_command_of_the_page_is_one() -> None:
    commands = re.findall(r"^[ -]*(?:run: )?(benchbox .*(?:\n +--.*)*)", PAGE, re.MULTILINE)
    commands += re.findall(r"run: >\n\s+(benchbox .*\n.*)", PAGE)
    assert len(commands) >= 6
    root = typer.main.get_command(app)
    for text in commands:
        words = shlex.split(re.split(r"\|\||#|>", text)[0].replace("\n", " "))
        command = root.commands[words[1]]  # type: ignore[attr-defined]
        command.make_context(words[1], words[2:], resilient_parsing=False)
