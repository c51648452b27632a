"""That the simulated memory is that of a real GPU, by figures that others published."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchbox.worker.device_memory import MIB, surroundings
from tests.worker.published_memory import PUBLISHED, Published, line, simulated_mib

PAGE = Path(__file__).parent.parent.parent / "docs" / "memory.md"

DRIVER_KEEPS_MIB = (328, 551)
"""Of an H100 of 80 GB: "Reserved" in listings of `nvidia-smi -q` that others published."""


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda published: published.what)
def test_published_less_simulated_is_one_number_up_to_the_largest_batch(published: Published) -> None:
    simulated = list(simulated_mib(published))
    page = PAGE.read_text("utf-8")
    assert all(line(published, *one) in page for one in simulated)
    beside = [published.peak_mib[size] - reserved for size, _, reserved in simulated]
    assert max(published.peak_mib.values()) > 60_000
    assert max(beside) - min(beside) < 150

    context = surroundings(is_gpu=True, compute_capability="9.0").context
    low, high = min(beside) - DRIVER_KEEPS_MIB[1], max(beside) - DRIVER_KEEPS_MIB[0]
    assert context.low < low * MIB < context.middle < high * MIB < context.high
