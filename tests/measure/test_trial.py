"""What `--try` runs beside the timing of both sides."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from benchbox.measure.trial import _NO_PASSES
from benchbox.worker import passes
from benchbox.worker.data import make_batches
from benchbox.worker.ranks import Place, Ranks
from benchbox.worker.strategies import make_engine
from tests.worker.tasks import CPU, make_case, make_task


def test_both_sides_are_timed_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("check_losses", "time_communication", "time_all_reduce"):
        monkeypatch.setattr(passes, name, lambda *_: None)
    task = make_task(tmp_path, make_case(data="host"), extra_passes=True)
    task = replace(task, measure=replace(task.measure, **_NO_PASSES))
    engine, batches = make_engine(task.case, CPU, ()), make_batches(task, CPU)
    one_of_two = Ranks(Place(world_size=2), None)
    now_ns = time.monotonic_ns()
    made: dict[str, Any] = {}
    for found in passes.extra_passes(task, CPU, one_of_two, engine, batches, [1_000_000] * 9, now_ns):
        made |= found
    assert set(made) == {"evidence_passes_s", "flops", "flops_unknown_reason", "loss_check"}
