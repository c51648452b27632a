"""``pytest suites/``: every case is a test, and pytest-benchmark gets the times that were measured."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from msgspec.structs import replace

from benchbox import stats
from benchbox.pytest_plugin import _test_of
from benchbox.report.files import read_report, write_report
from benchbox.report.pytest_benchmark import render_pytest_benchmark
from benchbox.schema import CaseResult, Report
from tests import user_models
from tests.factories import make_attempt, make_case, make_rank, make_report
from tests.runs import TINY, copy_user_models, environment, write_suite

OTHERS = f"""
[[include]]
precision = "fp16"
[[include]]
model = "zoo.models:raises_memory_error"
input_shape = [{user_models.NUM_INPUTS}]
num_classes = {user_models.NUM_CLASSES}
"""


def run_pytest(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=cwd,
        env=environment(COLUMNS="200", PY_COLORS="0"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


class Run:
    """One call of pytest on a folder with a suite of four cases, two of which go well."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        copy_user_models(folder / "suites")
        write_suite(folder / "suites", TINY + OTHERS, repetitions=3)
        (folder / "pyproject.toml").write_text('[tool.pytest.ini_options]\naddopts = "--strict-markers"\n')
        (folder / "settings").mkdir()
        (folder / "settings" / "tiny.toml").write_text("[tool]\n")
        self.done = run_pytest(
            "suites",
            "-rs",
            "--benchmark-json=out.json",
            "--benchmark-autosave",
            "--benchbox-out=kept",
            "--benchbox-device=cpu",
            cwd=folder,
        )

    @property
    def report(self) -> Report:
        return read_report(self.folder / "kept" / "tiny" / "report.json")

    @property
    def benchmarks(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads((self.folder / "out.json").read_text())["benchmarks"]
        return found


@pytest.fixture(scope="module")
def called(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("pytest"))


def test_each_case_is_a_test_with_its_outcome(called: Run) -> None:
    assert "1 failed, 2 passed, 1 skipped" in called.done.stdout
    assert called.done.returncode == 1


def test_a_failure_shows_the_cases_reason_and_not_the_plugins_source(called: Run) -> None:
    assert "oom: MemoryError" in called.done.stdout
    assert "in raises_memory_error" in called.done.stdout
    failures = called.done.stdout.partition("FAILURES")[2].partition("short test summary")[0]
    assert failures
    assert "pytest_plugin.py" not in failures
    assert "Warning" not in called.done.stdout


def test_what_cannot_run_here_is_skipped_with_the_reason(called: Run) -> None:
    assert "unsupported: fp16 training on a CPU" in called.done.stdout


def test_the_times_are_those_that_were_measured(called: Run) -> None:
    measured = {
        case.case.case_id: [t / 1e9 for attempt in case.attempts for t in attempt.ranks[0].step_time_ns]
        for case in called.report.cases
        if case.outcome == "ok"
    }
    assert len(called.benchmarks) == len(measured) == 2
    for benchmark in called.benchmarks:
        steps_s = measured[benchmark["extra_info"]["case"]["case_id"]]
        assert benchmark["stats"]["rounds"] == len(steps_s)
        assert benchmark["stats"]["iterations"] == 1
        assert benchmark["stats"]["median"] == pytest.approx(stats.median(steps_s))
        assert benchmark["stats"]["data"] == pytest.approx(steps_s)
        assert benchmark["group"] == "tiny"


def test_of_several_ranks_both_outputs_have_the_steps_that_the_rate_rests_on() -> None:
    case = make_case(strategy="ddp", world_size=2)
    ranks = (make_rank([1_000_000] * 3), make_rank([1_000_000, 2_000_000, 3_000_000], rank=1))
    result = CaseResult(
        case=case,
        outcome="ok",
        reason=None,
        attempts=(make_attempt(case, 0, *ranks),),
        summary=make_report().cases[0].summary,
    )
    report = replace(make_report(), cases=(result,))
    file: Any = SimpleNamespace(path=Path("tiny.toml"), comparisons={})
    file.result_of = lambda asked: (result, report)
    replayed_s = []

    class Benchmark:
        extra_info: ClassVar[dict[str, Any]] = {}

        @staticmethod
        def pedantic(advance: Callable[[], None], *, rounds: int, **_: object) -> None:
            (now,) = (mark.kwargs["timer"] for mark in test.pytestmark if mark.name == "benchmark")
            for _ in range(rounds):
                before_s = now()
                advance()
                replayed_s.append(now() - before_s)

    test: Any = _test_of(file, case)
    test(Benchmark)
    (rendered,) = json.loads(render_pytest_benchmark([report]))["benchmarks"]
    assert replayed_s == pytest.approx([1e-3, 2e-3, 3e-3])
    assert rendered["stats"]["data"] == pytest.approx(replayed_s)


def test_throughput_memory_and_environment_come_along(called: Run) -> None:
    for benchmark in called.benchmarks:
        extra = benchmark["extra_info"]
        assert extra["samples_per_second"] > 0
        assert extra["peak_host_rss_bytes"] > 0
        assert extra["environment"]["software"]["torch"] == called.report.environment.software.torch


def test_one_selected_case_runs_alone_and_is_compared_with_the_saved_run(called: Run) -> None:
    done = run_pytest(
        "suites", "-k", "mlp-b4", "--benchmark-compare", "--benchbox-out=alone", cwd=called.folder
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed, 3 deselected" in done.stdout
    assert "(NOW)" in done.stdout
    assert "(0001_" in done.stdout
    report = read_report(called.folder / "alone" / "tiny" / "report.json")
    assert [case.case.per_device_batch_size for case in report.cases] == [4]


def test_a_case_that_became_worse_than_in_a_report_fails(called: Run) -> None:
    """The first case took a nanosecond a step in that report, the second is not in it. With two attempts
    each, noise of a busy machine would hide even that."""
    result = called.report.cases[0]
    attempts = []
    for attempt in result.attempts:
        steps = (1,) * len(attempt.ranks[0].step_time_ns)
        attempts.append(replace(attempt, ranks=(replace(attempt.ranks[0], step_time_ns=steps),)))
    suite = replace(called.report.suite, cases=(result.case,))
    base = replace(called.report, suite=suite, cases=(replace(result, attempts=tuple(attempts)),))
    write_report(base, called.folder / "base.json")
    case_ids = " or ".join(case.case.case_id for case in called.report.cases[:2])
    done = run_pytest(
        "suites", "-k", case_ids, "--benchbox-against=base.json", "--benchbox-device=cpu", cwd=called.folder
    )
    assert done.returncode == 1
    assert "\nthroughput slower: " in done.stdout
    assert "1 failed" in done.stdout
    assert "1 passed" in done.stdout


def test_how_a_report_is_held_against_another_can_be_said(called: Run) -> None:
    """Another torch is not comparable, unless that is the point; and no threshold is below zero."""
    environment = called.report.environment
    environment = replace(environment, software=replace(environment.software, torch="0.1"))
    attempts = [
        replace(a, ranks=(replace(a.ranks[0], step_time_ns=(1,) * len(a.ranks[0].step_time_ns)),))
        for a in called.report.cases[0].attempts
    ]
    case = replace(called.report.cases[0], attempts=tuple(attempts))
    suite = replace(called.report.suite, cases=(case.case,))
    write_report(
        replace(called.report, environment=environment, suite=suite, cases=(case,)),
        called.folder / "other.json",
    )
    asked = ["suites", "-k", case.case.case_id, "--benchbox-against=other.json", "--benchbox-device=cpu"]
    done = run_pytest(*asked, cwd=called.folder)
    assert "not comparable with --benchbox-against" in done.stdout
    done = run_pytest(*asked, "--benchbox-across=torch", cwd=called.folder)
    assert "\nthroughput slower: " in done.stdout
    for option in ("threshold", "memory-threshold", "energy-threshold"):
        done = run_pytest(*asked, f"--benchbox-{option}=0", cwd=called.folder)
        assert f"--{option}: 0 is not a percentage" in done.stdout
        assert done.returncode == 1


def test_a_base_without_a_case_of_the_suites_fails_before_anything_is_measured(called: Run) -> None:
    write_report(make_report("cpu"), called.folder / "apart.json")
    done = run_pytest(
        "suites", "-k", "mlp", "--benchbox-against=apart.json", "--benchbox-out=apart", cwd=called.folder
    )
    assert done.returncode == 1
    assert "--benchbox-against: apart.json: has no case in common with the suites" in done.stdout
    assert "passed" not in done.stdout
    assert not (called.folder / "apart").exists()


def test_a_base_that_cannot_be_read_is_told_before_anything_is_measured(called: Run) -> None:
    done = run_pytest(
        "suites", "-k", "mlp", "--benchbox-against=none.json", "--benchbox-out=unmeasured", cwd=called.folder
    )
    assert done.returncode == 1
    assert "tiny.toml could not be run: none.json: cannot be read: No such file or directory" in done.stdout
    assert "Traceback" not in done.stdout
    assert not (called.folder / "unmeasured").exists()


def test_a_kept_report_is_not_overwritten_which_fails_each_test_in_one_line(called: Run) -> None:
    before = (called.folder / "kept" / "tiny" / "report.json").read_bytes()
    done = run_pytest("suites", "-k", "mlp", "--benchbox-out=kept", cwd=called.folder)
    assert "3 failed" in done.stdout
    assert "Traceback" not in done.stdout
    told = [line for line in done.stdout.splitlines() if line.startswith("tiny.toml could not be run: ")]
    assert len(told) == 3
    assert told[0].endswith("tiny: exists; remove it, or choose another --benchbox-out")
    assert (called.folder / "kept" / "tiny" / "report.json").read_bytes() == before


def test_several_test_processes_are_refused(called: Run) -> None:
    done = run_pytest("suites", "-k", "mlp-b4", "-n", "2", "--benchbox-out=parallel", cwd=called.folder)
    assert done.returncode == 1
    assert "2 test processes at once would be in each other's times; run suites with -n 0" in done.stdout
    assert not (called.folder / "parallel").exists()


def test_only_suites_are_collected(called: Run) -> None:
    done = run_pytest("--collect-only", "-q", ".", cwd=called.folder)
    assert done.returncode == 0, done.stdout
    collected = [line for line in done.stdout.splitlines() if "::" in line]
    assert len(collected) == 4
    assert all(line.startswith("suites/tiny.toml::") for line in collected)


def test_a_suite_elsewhere_is_collected_when_it_is_named(tmp_path: Path) -> None:
    write_suite(tmp_path, name="mine")
    assert "no tests" in run_pytest("--collect-only", "-q", ".", cwd=tmp_path).stdout
    named = run_pytest("--collect-only", "-q", "mine.toml", cwd=tmp_path)
    first, second = (line for line in named.stdout.splitlines() if "::" in line)
    assert first.startswith("mine.toml::mlp-b4-fp32-")
    assert second.startswith("mine.toml::mlp-b8-fp32-")
    one = run_pytest("--collect-only", "-q", first, cwd=tmp_path)
    assert [line for line in one.stdout.splitlines() if "::" in line] == [first]
    (tmp_path / "work").mkdir()
    beside = run_pytest("--collect-only", "-q", "../mine.toml", cwd=tmp_path / "work")
    assert len([line for line in beside.stdout.splitlines() if "mine.toml::" in line]) == 2


def test_a_malformed_suite_is_a_collection_error_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "bad.toml").write_text('[axes]\nprecision = ["bf61"]\n')
    done = run_pytest("suites", cwd=tmp_path)
    assert done.returncode == 2
    assert "1 error" in done.stdout
    (told,) = (line for line in done.stdout.splitlines() if "bf61" in line or "axes.precision[0]" in line)
    assert "bad.toml: `axes.precision[0]`" in told
    assert "Traceback" not in done.stdout
