"""How the time of a plan and of a grade grows. Seconds are printed; what must hold are ratios in one run."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchbox.analyze.grade import grade
from benchbox.analyze.plan import plan
from benchbox.plan.hardware import load_profiles
from benchbox.plan.plan_file import checked_job
from benchbox.plan.throughput_table import read_throughput_table
from benchbox.schema import PlanJob
from tests.plans import report, result
from tests.tables import GPUS, row, true_rate, write_table

pytestmark = pytest.mark.perf
PROFILES = load_profiles([])


def seconds(work: Callable[[], object]) -> float:
    """Of this process on the processor, the best of two: other processes do not count."""
    spans = []
    for _ in range(2):
        start = time.process_time()
        work()
        spans.append(time.process_time() - start)
    return min(spans)


def plan_seconds(num_configurations: int, last_count: int) -> float:
    cases = [
        result(
            100.0 * batch**0.9, per_device_batch_size=batch, precision=precision, gradient_checkpointing=ckpt
        )
        for batch in range(8, 8 + num_configurations // 4)
        for precision in ("bf16", "fp16")
        for ckpt in (False, True)
    ]
    job, samples, _ = checked_job(
        PlanJob(samples=10**9, counts=tuple(range(1, last_count + 1)), network_gb_per_s=12.5)
    )
    source = report("H100-SXM5-80GB", *cases)
    return seconds(lambda: plan([source], job, samples, None, None, PROFILES))


def test_counts_cost_next_to_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """1,024 times the configurations, within ten times the time."""
    few, many = plan_seconds(100, 1), plan_seconds(100, 1024)
    with capsys.disabled():
        print(
            f"\nplan, 33 profiles x 100 configurations: 1 count {few:.2f} s, counts 1 to 1024 {many:.2f} s, "
            f"{many / few:.1f} times as long"
        )
    assert many < 10 * few


def test_a_grade_grows_with_its_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Four times the rows, less than eight times the time."""

    def grade_seconds(num_models: int) -> float:
        rows = [
            row(gpu, true_rate(gpu, 0.4), model=f"net{number}", n_gpus=count)
            for number in range(num_models)
            for gpu in GPUS
            for count in (1, 8)
        ]
        table = read_throughput_table(write_table(tmp_path / "t.csv", rows))
        return seconds(lambda: grade("t", table.rows, (), PROFILES))

    few, many = grade_seconds(20), grade_seconds(80)
    with capsys.disabled():
        print(f"\ngrade: {20 * 14} rows {few:.2f} s, {80 * 14} rows {many / few:.1f} times as long")
    assert many < 8 * few


def test_a_long_batch_curve_is_no_square(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Four times the batches of one model, less than eight times the time."""

    def grade_seconds(num_batches: int) -> float:
        rows = [
            row(gpu, true_rate(gpu, 0.4), batch_per_gpu=batch)
            for gpu in GPUS
            for batch in range(1000, 1000 + num_batches)
        ]
        table = read_throughput_table(write_table(tmp_path / "t.csv", rows))
        return seconds(lambda: grade("t", table.rows, (), PROFILES))

    few, many = grade_seconds(250), grade_seconds(1000)
    with capsys.disabled():
        print(f"\ngrade, one curve a device: 250 batches {few:.2f} s, 1000 batches {many:.2f} s")
    assert many < 8 * few
