"""A step's time split into a part that every step has and a part for each sample."""

from __future__ import annotations

from functools import partial

from benchbox.schema import BatchSplit
from benchbox.stats import mean
from benchbox.worker.data import MicroBatches
from benchbox.worker.engine import Engine
from benchbox.worker.turns import by_turns, interval_of


def halved(batch: MicroBatches) -> MicroBatches:
    """The first half of each micro-batch, rounded down, in memory of its own."""
    return tuple(
        (inputs[: len(inputs) // 2].clone(), targets[: len(targets) // 2].clone())
        for inputs, targets in batch
    )


def split_batch(engine: Engine, batch: MicroBatches, num_steps: int, num_rounds: int) -> BatchSplit:
    """Full against half batch, ``num_rounds`` rounds of turns of ``num_steps``; ``batch`` is on the device.

    The straight line through both: ``per_sample = (full - half) / (samples - half the samples)``, and the
    fixed part is what is left of the full step. Samples are those of one step on this device.
    """
    half = halved(batch)
    num_full = sum(len(targets) for _, targets in batch)
    num_half = sum(len(targets) for _, targets in half)
    for small in (half, half):
        engine.step(small)  # libraries choose anew for a new shape
    pairs = by_turns(
        partial(engine.step, batch), partial(engine.step, half), engine.device, num_steps, num_rounds
    )
    per_sample = [(full_ns - half_ns) / (num_full - num_half) for full_ns, half_ns in pairs]
    fixed = [full_ns - num_full * each for (full_ns, _), each in zip(pairs, per_sample, strict=True)]
    fixed_ns, fixed_interval = interval_of(fixed)
    per_sample_ns, per_sample_interval = interval_of(per_sample)
    return BatchSplit(
        half_batch_size=len(half[0][1]),
        num_steps=len(pairs) * num_steps,
        full_step_time_ns=round(mean([full_ns for full_ns, _ in pairs])),
        half_step_time_ns=round(mean([half_ns for _, half_ns in pairs])),
        fixed_ns=fixed_ns,
        fixed_interval_ns=fixed_interval,
        per_sample_ns=per_sample_ns,
        per_sample_interval_ns=per_sample_interval,
    )
