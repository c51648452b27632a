"""How long it takes to foretell a hundred cases, against starting a worker."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest

from benchbox.measure.estimate import EstimateDevice, estimates_for
from benchbox.measure.launch import WorkerServer
from benchbox.schema import Case
from tests.factories import make_case

pytestmark = pytest.mark.perf

MOST_TIMES_A_START = 4.0
"""Ten seconds where a worker takes 2.5 to start, as on the two-core machine where the bound was set."""


def hundred_cases() -> list[Case]:
    """The reference model's cross of 80 and a small one's of 20, over strategies and accumulation as well."""
    cross = itertools.product(
        (8, 16, 32, 64, 128), ("fp32", "tf32", "bf16", "fp16"), (False, True), ("contiguous", "channels_last")
    )
    cases = [
        make_case(
            per_device_batch_size=size,
            precision=precision,
            gradient_checkpointing=checkpointing,
            memory_format=memory_format,
        )
        for size, precision, checkpointing, memory_format in cross
    ]
    for strategy, steps, precision in itertools.product(
        ("ddp", "zero1", "zero2", "zero3", "fsdp2"), (1, 4), ("fp32", "bf16")
    ):
        cases.append(
            make_case(strategy=strategy, world_size=8, gradient_accumulation_steps=steps, precision=precision)
        )
    return cases


def test_a_hundred_cases_take_a_few_times_what_a_start_takes(tmp_path: Path) -> None:
    cases = hundred_cases()
    device = EstimateDevice("a GPU", "gpu", "9.0", 80 << 30)
    started_at = time.perf_counter()
    with WorkerServer({}) as server:
        start_s = time.perf_counter() - started_at
        found = estimates_for(cases, device, lambda: server, ())
        total_s = time.perf_counter() - started_at
    assert len(found) == 100
    assert all(answer.estimate is not None for answer in found.values())
    print(
        f"\n100 cases: {total_s:.1f} s, {total_s / start_s:.2f} times the {start_s:.1f} s of a worker's start"
    )
    assert total_s <= MOST_TIMES_A_START * start_s
