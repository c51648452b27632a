"""``benchbox run --versus``: two real environments by turns, to a verdict and an exit code."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchbox.cli import app
from benchbox.errors import BadInputError, WouldOverwriteError
from benchbox.measure.attempt import Tick
from benchbox.measure.other_side import Surroundings, other_side
from benchbox.measure.runner import Started
from benchbox.measure.versus import MAX_ROUNDS, SIDES, SideName, VersusRun, next_look
from benchbox.plan.suite import load_suite
from benchbox.report.files import read_report
from benchbox.schema import AttemptResult, Case, Outcome
from tests.factories import make_attempt, make_case, make_suite

MODEL = """
import time
from torch import nn

class Net(nn.Sequential):
    def forward(self, x):
        time.sleep({sleep_s})
        return super().forward(x)

def net():
    return Net(nn.Flatten(), nn.Linear(64, 10))
"""
SUITE = """
[workload]
model = "my_versus_net:net"
input_shape = [64]
num_classes = 10

[axes]
per_device_batch_size = [8]

[measure]
repetitions = {repetitions}
max_seconds = 0.4
min_warmup_steps = 1
min_measured_steps = 2
num_phase_steps = 0
num_input_rounds = 0
num_split_rounds = 0
profile_step = false
num_threads = 1
num_trajectory_steps = 0
telemetry_hz = 0
"""


def checkout(folder: Path, sleep_s: float, repetitions: int = 3) -> Path:
    folder.mkdir()
    (folder / "my_versus_net.py").write_text(MODEL.format(sleep_s=sleep_s))
    (folder / "mine.toml").write_text(SUITE.format(repetitions=repetitions))
    return folder


def run(cwd: Path, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchbox.cli", "run", "mine.toml", "--device", "cpu", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "120", **variables},
        check=False,
    )


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("here", "there", "verdict", "code", "output_format"),
    [
        ("slow", "quick", "slower", 1, "github"),  # as in the recipe of docs/ci.md
        pytest.param("quick", "slow", "faster", 0, "terminal", marks=pytest.mark.slow),
    ],
)
def test_a_checkout_that_takes_longer_is_told(
    tmp_path: Path, here: str, there: str, verdict: str, code: int, output_format: str
) -> None:
    """Steps that sleep, for 20 and for 200 ms: so far apart that three rounds tell, whoever else is busy."""
    made = {"quick": checkout(tmp_path / "quick", 0.02), "slow": checkout(tmp_path / "slow", 0.2)}
    summary = tmp_path / "summary.md"
    arguments = ("--versus", made[there], "--out", "out", "--max-minutes", "8", "--format", output_format)
    result = run(made[here], *arguments, GITHUB_STEP_SUMMARY=str(summary))
    assert result.returncode == code, result.stdout + result.stderr
    if output_format == "github":
        assert result.stdout.startswith("::error title=benchbox%3A my_versus_net%3Anet b8 fp32::throughput ")
        assert f"1 {verdict}" in summary.read_text()
    else:
        assert f"1 {verdict}" in result.stdout
    told = result.stdout + result.stderr
    assert [f"[{number}/6] " in told for number in range(1, 7)] == [True] * 6
    comparison = json.loads((made[here] / "out/comparison.json").read_text())["comparisons"][0]
    assert comparison["paired"]
    assert comparison["cases"][0]["verdict"] == verdict
    ratio = comparison["cases"][0]["metrics"][0]["ratio"]
    assert max(ratio, 1 / ratio) > 2
    for side in SIDES:
        report = read_report(made[here] / "out" / side / "report.json")
        assert report.complete
        assert len(report.cases[0].attempts) >= 3
    again = run(made[here], "--versus", made[there], "--out", "out")
    assert again.returncode == 2
    assert "exists" in again.stderr


@pytest.mark.timeout(300)
def test_another_interpreter_runs_this_benchbox(tmp_path: Path) -> None:
    folder = checkout(tmp_path / "here", 0.001, repetitions=1)
    # One round tells nothing, and there is no time for a second one.
    arguments = ["--versus", sys.executable, "--out", "out", "--max-minutes", "0.001", "--strict"]
    result = run(folder, *arguments, "--format", "json")
    assert result.returncode == 3, result.stdout + result.stderr
    (comparison,) = json.loads(result.stdout)["comparisons"]
    assert [case["verdict"] for case in comparison["cases"]] == ["inconclusive"]
    assert "written: out" in result.stderr
    base = read_report(folder / "out/base/report.json")
    assert base.cases[0].outcome == "ok"


def test_what_cannot_be_the_other_side_is_refused(tmp_path: Path) -> None:
    own = [make_case(model="my_versus_net:net")]
    for other, cases, says in (
        (tmp_path / "missing", own, "neither a Python interpreter nor a folder"),
        (tmp_path, [make_case()], "no model of yours"),
        (tmp_path, [make_case(model="msgspec:net")], "`msgspec` is installed"),
    ):
        with pytest.raises(BadInputError, match=says), other_side(other, cases, tmp_path):
            pass


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--max-minutes", "5"], "--max-minutes: goes with --versus alone"),
        (["--threshold", "2"], "--threshold: goes with --versus alone"),
        (["--memory-threshold", "2"], "--memory-threshold: goes with --versus alone"),
        (["--energy-threshold", "2"], "--energy-threshold: goes with --versus alone"),
        (["--versus", "x", "--memory-threshold", "0"], "--memory-threshold: 0 is not a percentage"),
        (["--versus", "x", "--energy-threshold", "0"], "--energy-threshold: 0 is not a percentage"),
        (["--strict"], "--strict: goes with --versus alone"),
        (["--format", "csv"], "--format: goes with --versus alone"),
        (["--versus", "x", "--trace"], "--trace: cannot be had with --versus"),
        (["--versus", "x", "--skip-unfit"], "--skip-unfit: cannot be had with --versus"),
        (["--versus", "x"], "--versus: x: neither a Python interpreter nor a folder"),
    ],
)
def test_what_is_refused_leaves_no_folder_behind(tmp_path: Path, arguments: list[str], says: str) -> None:
    suite = checkout(tmp_path / "here", 0.001) / "mine.toml"
    result = CliRunner().invoke(app, ["run", str(suite), "--out", str(tmp_path / "out"), *arguments])
    assert isinstance(result.exception, BadInputError)
    assert says in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_what_is_there_is_kept_unless_force_is_said(tmp_path: Path) -> None:
    suite = checkout(tmp_path / "here", 0.001) / "mine.toml"
    asked = ["run", str(suite), "--versus", sys.executable, "--out", str(tmp_path / "out")]
    for name in ("base/report.json", "comparison.json"):
        former = tmp_path / "out" / name
        former.parent.mkdir(parents=True, exist_ok=True)
        former.write_text("former")
        result = CliRunner().invoke(app, asked)
        assert isinstance(result.exception, WouldOverwriteError)
        told = f"{former}: exists; start anew with --force, or choose another --out"
        assert str(result.exception) == told
        assert former.read_text() == "former"


def test_a_killed_run_leaves_no_verdict_of_the_run_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def ends_at_once(run: VersusRun, *_: object) -> Generator[None, None, None]:
        raise Killed
        yield

    monkeypatch.setattr(VersusRun, "__enter__", lambda run: run)
    monkeypatch.setattr(VersusRun, "events", ends_at_once)
    suite = checkout(tmp_path / "here", 0.001) / "mine.toml"
    out = tmp_path / "out"
    names = [f"{side}/report.{kind}" for side in SIDES for kind in ("json", "md")]
    for name in ["comparison.json", *names]:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("former")
    asked = ["run", str(suite), "--versus", sys.executable, "--out", str(out), "--force", "--quiet"]
    with pytest.raises(Killed):
        CliRunner().invoke(app, asked)
    assert [path for path in out.rglob("*") if path.is_file()] == []


def test_an_interpreter_without_torch_is_one_line(tmp_path: Path) -> None:
    folder = checkout(tmp_path / "here", 0.001)
    bare = folder / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')  # no site-packages
    bare.chmod(0o755)
    result = run(folder, "--versus", bare, "--out", "out")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "No module named" in result.stderr


def test_sides_take_turns_at_going_first(tmp_path: Path) -> None:
    suite = load_suite(checkout(tmp_path / "suite", 0.001) / "mine.toml")
    with other_side(Path(sys.executable), suite.cases, tmp_path) as other:
        made = VersusRun(suite, tmp_path, tmp_path, device="cpu", surroundings={"base": other, "new": other})
    ids = {case.case_id for case in suite.cases}
    first = [made._round(number, ids)[0][1][0] for number in range(6)]
    assert first == ["base", "new"] * 3


class Faked(VersusRun):
    """Three cases; attempts end at once, as ``outcomes`` says by case and side."""

    def __init__(self, folder: Path, outcomes: dict[tuple[str, str], Outcome], repetitions: int = 3) -> None:
        suite = make_suite([make_case(seed=seed) for seed in range(3)], repetitions=repetitions)
        here = Surroundings(sys.executable, {}, ())
        super().__init__(suite, folder, folder, device="cpu", surroundings={"base": here, "new": here})
        self.outcomes = outcomes

    def _start_servers(self) -> None:
        pass

    def _attempt(
        self, case: Case, number: int, side: SideName, num_total: int
    ) -> Generator[tuple[SideName, Started | Tick | AttemptResult], None, None]:
        assert len(self.attempts["base"]) + len(self.attempts["new"]) < num_total
        outcome = self.outcomes.get((case.case_id, side), "ok")
        done = make_attempt(case, number, outcome=outcome, **({} if outcome == "ok" else {"ranks": ()}))
        self.attempts[side].append(done)
        yield side, done


def rounds_of(run: VersusRun) -> dict[str, list[list[int]]]:
    """The numbers of each case's attempts, base's and new's."""
    return {
        case.case_id: [[a.attempt for a in run.attempts[side] if a.case_id == case.case_id] for side in SIDES]
        for case in run.suite.cases
    }


def test_only_undecided_cases_go_on_and_looks_are_few(tmp_path: Path) -> None:
    run = Faked(tmp_path, {})
    first, second, third = (case.case_id for case in run.suite.cases)
    answers = [[second, third], [first, third], []]  # what was decided is not taken up again
    asked_after = []

    def undecided() -> list[str]:
        asked_after.append(len(run.attempts["new"]))
        return answers[len(asked_after) - 1]

    for _ in run.events(undecided, max_seconds=600):
        pass
    assert asked_after == [3 * 3, 3 * 3 + 2 * 2, 3 * 3 + 2 * 2 + 3]
    expected = {first: 3, second: 5, third: 8}
    assert rounds_of(run) == {case: [list(range(n))] * 2 for case, n in expected.items()}


def test_all_decided_at_the_first_look_ends_it(tmp_path: Path) -> None:
    run = Faked(tmp_path, {})
    assert len(list(run.events(list, max_seconds=600))) == 3 * 3 * 2


def test_without_time_left_the_suites_repetitions_are_all(tmp_path: Path) -> None:
    run = Faked(tmp_path, {})
    every = [case.case_id for case in run.suite.cases]
    for _ in run.events(lambda: every, max_seconds=0):
        pass
    assert rounds_of(run) == {case: [[0, 1, 2]] * 2 for case in every}


def test_a_suite_may_ask_for_more_rounds_than_are_added(tmp_path: Path) -> None:
    run = Faked(tmp_path, {}, repetitions=MAX_ROUNDS + 1)
    for _ in run.events(list, max_seconds=0):
        pass
    every = list(range(MAX_ROUNDS + 1))
    assert rounds_of(run) == {case.case_id: [every] * 2 for case in run.suite.cases}


def test_a_case_that_failed_on_one_side_is_not_tried_again(tmp_path: Path) -> None:
    first, second, third = (make_case(seed=seed).case_id for seed in range(3))
    run = Faked(tmp_path, {(second, "new"): "oom"})
    for _ in run.events(lambda: [second], max_seconds=600):
        pass
    assert rounds_of(run) == {first: [[0, 1, 2]] * 2, second: [[0]] * 2, third: [[0, 1, 2]] * 2}


def test_a_second_run_leaves_the_first_ones_folder_alone(tmp_path: Path) -> None:
    suite = load_suite(checkout(tmp_path / "suite", 0.001) / "mine.toml")
    with other_side(Path(sys.executable), suite.cases, tmp_path) as other:
        made = VersusRun(suite, tmp_path, tmp_path, device="cpu", surroundings={"base": other, "new": other})
    first = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(first, fcntl.LOCK_EX)
    try:
        with pytest.raises(BadInputError, match="another benchbox run is writing there"), made:
            pass
    finally:
        os.close(first)


def test_looks_grow_apart() -> None:
    looks = [3]
    while looks[-1] < 60:
        looks.append(next_look(looks[-1]))
    assert looks == [3, 5, 8, 12, 18, 27, 41, 62]
