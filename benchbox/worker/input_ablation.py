"""What the input costs: the case's own against one batch that is on the device already."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchbox.schema import InputAblation
from benchbox.stats import mean, median
from benchbox.worker.data import MicroBatches
from benchbox.worker.engine import Engine
from benchbox.worker.turns import time_turn


def ablate_input(
    engine: Engine,
    batches: Iterator[MicroBatches],
    batch: MicroBatches,
    *,
    num_buffered: int,
    num_steps: int,
    num_rounds: int,
) -> InputAblation:
    """Own input and ``batch`` (on the device) by turns of ``num_steps`` steps: own, ready, ready, own.

    A loader fills its buffer while the other turn lasts, so each turn with the case's own input first uses
    up the ``num_buffered`` steps that may lie ready. Of the own turns it is the mean that counts, because a
    loader delivers in bursts; of the others the median, because a loader that fills its buffer takes
    processors away from the first of them.
    """
    loaded: list[float] = []
    ready: list[float] = []

    def step_own() -> None:
        engine.step(next(batches))

    def own_turn() -> None:
        for _ in range(num_buffered):
            step_own()
        loaded.append(time_turn(step_own, engine.device, num_steps))

    for _ in range(num_rounds):
        own_turn()
        ready += [time_turn(partial(engine.step, batch), engine.device, 1) for _ in range(2 * num_steps)]
        own_turn()
    return InputAblation(
        num_steps=len(ready),
        loaded_step_time_ns=round(mean(loaded)),
        on_device_step_time_ns=round(median(ready)),
    )
