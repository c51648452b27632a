"""That the simulated memory is that of a real GPU, by figures that others published."""

from __future__ import annotations

from pathlib import Path

from benchbox.worker.device_memory import MIB, surroundings
from tests.worker.published_memory import PUBLISHED, line, simulated_mib

PAGE = Path(__file__).parent.parent.parent / "docs" / "memory.md"

DRIVER_KEEPS_MIB = (328, 551)
"""Of an H100 of 80 GB, see the page."""


def test_published_less_simulated_is_one_number_for_every_workload_and_batch_size() -> None:
    page, beside = PAGE.read_text("utf-8"), []
    for published in PUBLISHED:
        for simulated in simulated_mib(published):
            assert line(published, *simulated) in page
            batch_size, _, reserved = simulated
            beside.append(published.peak_mib[batch_size] - reserved)
    assert len(beside) == 26
    assert f"It is {min(beside):,} to {max(beside):,} MiB for all 26" in page
    assert max(beside) - min(beside) < 125

    context = surroundings(is_gpu=True, compute_capability="9.0").context
    low, high = min(beside) - DRIVER_KEEPS_MIB[1], max(beside) - DRIVER_KEEPS_MIB[0]
    assert context.low < low * MIB < context.middle < high * MIB < context.high
