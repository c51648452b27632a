"""How long the passes of a case may take."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from benchbox.worker.evidence import Budget
from tests.worker.tasks import make_case, make_task


@pytest.mark.parametrize(
    ("probe_share_s", "left_s"),
    [(0.0, 7.65), (5.0, 2.65), (100.0, 0.25 * 8.5 - 0.85)],
    ids=["no probe", "a probe", "a probe that takes longer than all measuring"],
)
def test_the_probe_counts_among_what_a_case_may_take(
    tmp_path: Path, probe_share_s: float, left_s: float
) -> None:
    """Ten seconds are measured in two repetitions, 8.5 may be spent, of which phases took 0.85."""
    task = replace(make_task(tmp_path, make_case(), repetitions=2), probe_share_s=probe_share_s)
    started_at_ns = time.monotonic_ns()
    budget = Budget(task, [1_000_000_000] * 5, spent_s=0.85, started_at_ns=started_at_ns)
    assert budget.left_s() == pytest.approx(left_s, abs=0.1)
