"""Runs that are ended early: nothing that was finished is lost or run again, and nothing is left running."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from benchbox.cli.run import _follow
from benchbox.errors import WorkerStartError
from benchbox.measure.journal import Journal
from benchbox.report.files import read_report
from benchbox.schema import AttemptResult
from tests.factories import make_suite
from tests.runs import (
    MARK,
    FinishedRun,
    benchbox,
    journal_attempts,
    marked_processes,
    start_benchbox,
    wait_until,
    write_suite,
)

TWO_CASES_TWICE = {"repetitions": 2, "max_seconds": 0.3}
NUM_ATTEMPTS = 4
FINISHED: dict[str, Any] = {"repetitions": 2, "telemetry_hz": 10}


class Interrupted:
    """A run that was ended by a signal when it had finished some attempts and was in the next one."""

    def __init__(self, folder: Path, number: signal.Signals, after: int) -> None:
        self.folder = folder
        self.suite = write_suite(folder, **TWO_CASES_TWICE)
        self.out = folder / "out"
        self.mark = uuid.uuid4().hex
        process = start_benchbox("run", self.suite, "--out", self.out, cwd=folder, **{MARK: self.mark})
        assert wait_until(lambda: len(journal_attempts(self.out)) >= after)
        # The next one has begun.
        assert wait_until(lambda: list(self.out.glob(".benchbox-work-*/*/case.json")))
        process.send_signal(number)
        self.stdout, self.stderr = process.communicate(timeout=300)
        self.code = process.returncode
        self.attempts = journal_attempts(self.out)

    def resume(self, *more: str) -> subprocess.CompletedProcess[str]:
        return benchbox("run", self.suite, "--out", self.out, "--resume", *more, cwd=self.folder)


def assert_completed_without_repeating(out: Path, before: list[AttemptResult]) -> None:
    after = journal_attempts(out)
    assert after[: len(before)] == before
    assert len({(attempt.case_id, attempt.attempt) for attempt in after}) == len(after) == NUM_ATTEMPTS
    report = read_report(out / "report.json")
    assert report.complete
    assert [case.outcome for case in report.cases] == ["ok", "ok"]
    started_at = [attempt.started_at for case in report.cases for attempt in case.attempts]
    assert sorted(started_at) == sorted(attempt.started_at for attempt in after)
    assert not list(out.glob(".benchbox-work-*"))


def test_a_killed_run_is_resumed_without_repeating_anything(tmp_path: Path) -> None:
    killed = Interrupted(tmp_path, signal.SIGKILL, after=1)
    assert killed.code == -signal.SIGKILL
    assert 1 <= len(killed.attempts) < NUM_ATTEMPTS
    assert not (killed.out / "report.json").exists()
    assert wait_until(lambda: marked_processes(killed.mark) == [], 20)

    done = killed.resume()
    assert done.returncode == 0, done.stderr
    assert_completed_without_repeating(killed.out, killed.attempts)
    num_left = NUM_ATTEMPTS - len(killed.attempts)
    assert sum(line.startswith("[") for line in done.stdout.splitlines()) == num_left
    assert f"[{NUM_ATTEMPTS}/{NUM_ATTEMPTS}]" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interrupted_run_leaves_a_valid_partial_report_and_can_be_resumed(
    tmp_path: Path, number: signal.Signals
) -> None:
    interrupted = Interrupted(tmp_path, number, after=1)
    assert interrupted.code == 130
    assert interrupted.stderr == "benchbox: interrupted; go on with --resume\n"
    assert wait_until(lambda: marked_processes(interrupted.mark) == [], 20)

    report = read_report(interrupted.out / "report.json")
    assert not report.complete
    in_report = [attempt for case in report.cases for attempt in case.attempts]
    assert sorted(in_report, key=repr) == sorted(interrupted.attempts, key=repr)
    assert 1 <= len(in_report) < NUM_ATTEMPTS
    assert None in [case.outcome for case in report.cases]
    assert sorted(path.name for path in interrupted.out.iterdir()) == [
        "journal.jsonl",
        "report.json",
        "report.md",
    ]

    if number == signal.SIGINT:  # once is enough: what is left behind is the same
        done = interrupted.resume()
        assert done.returncode == 0, done.stderr
        assert_completed_without_repeating(interrupted.out, interrupted.attempts)


def test_resuming_a_complete_run_trains_nothing_and_says_the_same(finished: FinishedRun) -> None:
    out = finished.out
    journal = (out / "journal.jsonl").read_bytes()
    report = read_report(out / "report.json")
    done = benchbox("run", finished.suite, "--out", out, "--resume", cwd=finished.folder)
    assert done.returncode == 0, done.stderr
    assert not any(line.startswith("[") for line in done.stdout.splitlines())
    assert (out / "journal.jsonl").read_bytes() == journal
    assert read_report(out / "report.json").cases == report.cases


def change_the_suite(folder: Path) -> dict[str, str]:
    write_suite(folder, **(FINISHED | {"max_seconds": 7.5}))
    return {}


def change_the_environment(folder: Path) -> dict[str, str]:
    write_suite(folder, **FINISHED)
    return {"MKL_NUM_THREADS": "1"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (change_the_suite, ["`suite.measure.max_seconds` was 0.3 and is now 7.5"]),
        (change_the_environment, ["`environment.worker_variables.MKL_NUM_THREADS` is new"]),
    ],
)
def test_a_run_of_something_else_is_not_resumed_but_named(
    finished: FinishedRun, tmp_path: Path, change: Callable[[Path], dict[str, str]], told: list[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in ("journal.jsonl", "report.json"):
        (out / name).write_bytes((finished.out / name).read_bytes())
    variables = change(tmp_path)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    done = benchbox("run", "tiny.toml", "--out", "out", "--resume", cwd=tmp_path, **variables)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    for text in told:
        assert text in line
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_another_suite_is_refused_before_torch_is_imported(finished: FinishedRun, tmp_path: Path) -> None:
    shutil.copytree(finished.out, tmp_path / "out")
    change_the_suite(tmp_path)
    (tmp_path / "torch.py").write_text("raise OSError('imported')")
    done = benchbox("run", "tiny.toml", "--out", "out", "--resume", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert "`suite.measure.max_seconds` was 0.3 and is now 7.5" in done.stderr


def test_what_is_not_the_runs_own_stays_in_its_folder(finished: FinishedRun, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished.out, out)
    for name in ("work", ".benchbox-work-left"):
        (out / name).mkdir()
        (out / name / "thesis.txt").write_text("mine")
    done = benchbox("run", finished.suite, "--out", out, "--resume", cwd=finished.folder)
    assert done.returncode == 0, done.stderr
    assert (out / "work" / "thesis.txt").read_text() == "mine"
    assert not list(out.glob(".benchbox-work-*"))  # which only a killed run leaves


def test_a_forced_run_that_is_killed_leaves_no_report_of_the_run_before(
    finished: FinishedRun, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished.out, out)
    suite = write_suite(tmp_path, max_seconds=30, ci_target_pct=1e-9)
    process = start_benchbox("run", suite, "--out", out, "--force", cwd=tmp_path)
    assert wait_until(lambda: list(out.glob(".benchbox-work-*/*/progress.json")))
    process.kill()
    process.communicate(timeout=300)
    assert not (out / "report.json").exists()
    assert not (out / "report.md").exists()


def test_a_second_run_in_the_same_folder_is_refused(finished: FinishedRun) -> None:
    before = (finished.out / "journal.jsonl").read_bytes()
    first = Journal(finished.out / "journal.jsonl")
    done = benchbox("run", finished.suite, "--out", finished.out, "--force", cwd=finished.folder)
    first.close()
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "another benchbox run is writing there" in line
    assert (finished.out / "journal.jsonl").read_bytes() == before


def test_a_run_that_loses_its_server_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def events() -> Iterator[AttemptResult]:
        raise WorkerStartError("the worker was ended by SIGKILL")
        yield

    lost: Any = SimpleNamespace(suite=make_suite([]), events=events, can_measure_ceilings=lambda: False)
    monkeypatch.setitem(_follow.__globals__, "ignore_interrupts", lambda: None)  # they are pytest's own
    with pytest.raises(WorkerStartError, match=r"^the worker was ended by SIGKILL; .* go on with --resume$"):
        _follow(lost, Console(), quiet=True)


def test_impatience_does_not_cost_the_report(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, repetitions=1, max_seconds=30, ci_target_pct=1e-9)
    process = start_benchbox("run", suite, "--out", "out", cwd=tmp_path)
    assert wait_until(lambda: list((tmp_path / "out").glob(".benchbox-work-*/*/progress.json")))
    for _ in range(10):
        process.send_signal(signal.SIGINT)
        time.sleep(0.03)
    process.communicate(timeout=300)
    assert process.returncode == 130
    assert not read_report(tmp_path / "out" / "report.json").complete
