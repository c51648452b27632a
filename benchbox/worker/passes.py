"""The passes of their own after measuring, one after another."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from benchbox.schema import Flops, MeasureSettings, WorkerTask
from benchbox.stats import mean
from benchbox.worker.all_reduce import time_all_reduce
from benchbox.worker.communication import MIN_STEPS, NUM_FIRST_STEPS, time_communication
from benchbox.worker.data import MicroBatches
from benchbox.worker.engine import Engine
from benchbox.worker.evidence import collect_evidence
from benchbox.worker.failures import classify
from benchbox.worker.flops import count_flops
from benchbox.worker.phases import time_phases
from benchbox.worker.ranks import Ranks
from benchbox.worker.trajectory import check_losses

_SHARE_OF_TIMEOUT = 0.6
"""Of the time after which an attempt counts as hung: by then steps without collectives shall be over."""


def extra_passes(
    task: WorkerTask,
    device: torch.device,
    ranks: Ranks,
    engine: Engine,
    batches: Iterator[MicroBatches],
    step_time_ns: Sequence[int],
    started_at_ns: int,
) -> Iterator[dict[str, Any]]:
    """Yield what each pass found, as fields of the rank's result. All ranks make the same passes.

    The engine is closed and let go of before the losses are compared: there may be no room for two.
    """
    settings = task.measure
    began = time.monotonic()
    # At most half of the steps that the case is measured for: the other passes have to fit in as well.
    num_phase_steps = min(settings.num_phase_steps, max(1, settings.repetitions * len(step_time_ns) // 2))
    if num_phase_steps:
        yield {"phases": time_phases(engine, batches, num_phase_steps)}
    yield from collect_evidence(
        engine,
        batches,
        task,
        ranks,
        step_time_ns,
        spent_s=time.monotonic() - began,
        started_at_ns=started_at_ns,
    )
    yield {"evidence_passes_s": time.monotonic() - began}
    if settings.num_communication_steps and ranks.world_size > 1:
        num_steps = ranks.agree(_num_communication_steps(settings, step_time_ns, started_at_ns))
        if num_steps >= MIN_STEPS:
            yield {"communication": time_communication(engine, batches, ranks, num_steps)}
    engine.close()
    del engine, batches
    flops, reason = _flops(task)
    yield {"flops": flops, "flops_unknown_reason": reason}
    if settings.num_trajectory_steps:
        yield {"loss_check": check_losses(task, device, ranks)}
    if settings.num_communication_steps and ranks.world_size > 1:
        yield {"all_reduce": time_all_reduce(device, ranks)}


def _num_communication_steps(
    settings: MeasureSettings, step_time_ns: Sequence[int], started_at_ns: int
) -> int:
    """Steps of either kind, as many as fit: a slow case must not become one that hangs."""
    end_at_s = started_at_ns / 1e9 + _SHARE_OF_TIMEOUT * settings.effective_timeout_s
    num_fitting = (end_at_s - time.monotonic()) / (mean(step_time_ns) / 1e9)
    return max(0, min(settings.num_communication_steps, int(num_fitting - NUM_FIRST_STEPS) // 2))


def _flops(task: WorkerTask) -> tuple[Flops | None, str | None]:
    try:
        return count_flops(task.case, task.import_dirs), None
    except Exception as error:  # noqa: BLE001 - a model that cannot run on the meta device has unknown FLOPs
        return None, f"not countable on the meta device: {classify(error)[1]}"
