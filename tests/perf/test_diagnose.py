"""What diagnosing costs: a large report, and the passes behind a verdict against what was measured."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from benchbox import stats
from benchbox.measure.attempt import watch_attempt
from benchbox.measure.ceilings import ask_ceilings
from benchbox.measure.launch import WorkerServer, worker_variables
from benchbox.report.build import rediagnosed
from benchbox.report.files import write_report
from benchbox.schema import AttemptResult, MeasureSettings, Report, Suite
from tests.analyze.test_diagnose import CEILINGS, MOVING, PRODUCTS, UPDATING, profiled, split
from tests.factories import make_report
from tests.worker.tasks import SMALL_CNN, make_case, make_task

pytestmark = [pytest.mark.perf, pytest.mark.timeout(900)]

NUM_CASES = 1000
BOUND_IN_IMPORTS = 1.0
"""Of ``import torch``, which takes two to three seconds where the report is to take two."""


def large_report() -> Report:
    """A thousand cases, three repetitions each, with evidence of several kinds by turns."""
    report = make_report()
    measured = report.cases[0]
    kinds = (PRODUCTS, MOVING, UPDATING)
    cases = []
    for number in range(NUM_CASES):
        case = replace(measured.case, case_id=f"{number:012x}", seed=number)
        attempts = [replace(attempt, case_id=case.case_id) for attempt in measured.attempts]
        (rank,) = attempts[0].ranks
        rank = replace(rank, profile=profiled(*kinds[number % 3]), batch_split=split(number % 10 / 10))
        attempts[0] = replace(attempts[0], ranks=(rank,))
        cases.append(replace(measured, case=case, attempts=tuple(attempts)))
    suite = replace(report.suite, cases=tuple(result.case for result in cases))
    cost = replace(report.telemetry_cost, case_id=cases[0].case.case_id) if report.telemetry_cost else None
    return replace(report, cases=tuple(cases), suite=suite, telemetry_cost=cost, ceilings=CEILINGS)


def seconds_of(*command: str | Path) -> float:
    times = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run([sys.executable, *map(str, command)], check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return stats.median(times)


def test_a_thousand_cases_are_diagnosed_while_torch_would_be_imported(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    report = large_report()
    write_report(report, path)
    began = time.perf_counter()
    rediagnosed(report)
    rules_s = time.perf_counter() - began
    torch_s = seconds_of("-c", "import torch")
    whole_s = seconds_of("-m", "benchbox.cli", "diagnose", path)
    size_mb = path.stat().st_size / 1e6
    print(
        f"\ndiagnose of {NUM_CASES} cases ({size_mb:.1f} MB): {whole_s:.2f} s, {whole_s / torch_s:.2f} times "
        f"`import torch` ({torch_s:.2f} s); the rules alone {rules_s:.2f} s"
    )
    assert whole_s < BOUND_IN_IMPORTS * torch_s


@pytest.mark.parametrize(
    "changes",
    [{}, {"data": "loader", "num_loader_workers": 1}, {"strategy": "ddp", "world_size": 2}],
    ids=["device", "loader", "ddp"],
)
def test_the_passes_and_the_probe_take_at_most_as_long_as_was_measured(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Phases, profile, input and batch passes of the first attempt, and its share of the run's probe, against
    the windows of all three repetitions. A run of four such cases is a small one."""
    case = make_case(SMALL_CNN, per_device_batch_size=64, **changes)
    caps = {"max_measured_steps": 100_000, "max_warmup_steps": 1000}
    passes = {"num_trajectory_steps": 0, "num_phase_steps": 5}
    task = make_task(tmp_path, case, extra_passes=True, max_seconds=4.0, **caps, **passes)
    task = replace(task, attempt_dir=f"{task.attempt_dir}/own")
    suite = Suite(name="passes", cases=(case,) * 4, measure=task.measure, order_seed=0)
    with WorkerServer(worker_variables(MeasureSettings(), 1, None)) as server:
        ceilings = ask_ceilings(server, suite, "cpu")
        assert ceilings is not None
        probe_s = ceilings.probe_s / len(suite.cases)
        *_, attempt = watch_attempt(server, replace(task, probe_share_s=probe_s), None)
    assert isinstance(attempt, AttemptResult)
    rank = attempt.ranks[0]
    assert rank.profile is not None, msgspec.to_builtins(rank.extra_passes_failed_reason)
    measured_s = sum(rank.step_time_ns) / 1e9 * task.measure.repetitions
    passes_s = rank.evidence_passes_s
    assert passes_s is not None
    print(f"\npasses {passes_s:.2f} s, probe {probe_s:.2f} s, three repetitions {measured_s:.2f} s")
    assert passes_s + probe_s < measured_s
