"""How much of a step is communication: steps with collectives on and off by turns, in a pass of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from benchbox import stats
from benchbox.schema import Communication, Interval
from benchbox.worker.clock import StepClock, make_clock
from benchbox.worker.data import MicroBatches
from benchbox.worker.engine import Collective, Engine
from benchbox.worker.loop import run_steps
from benchbox.worker.ranks import Ranks

_NUM_PAIRS = 6  # of blocks, where there are steps enough
MIN_STEPS = 2  # of either kind: two pairs
NUM_FIRST_STEPS = 2  # in which DeepSpeed records, and compares among ranks, what is gathered when

# A ring sends all but a rank's own part: once to gather or to scatter, twice to do one after the other.
_TIMES_SENT = {"all-gather": 1, "reduce-scatter": 1, "all-reduce": 2}


def time_communication(
    engine: Engine, batches: Iterator[MicroBatches], ranks: Ranks, num_steps: int
) -> Communication:
    """Take about ``num_steps`` steps of either kind, in pairs of blocks: on off, off on, on off, and so on.

    Drift of the machine falls on both kinds alike. Without collectives ranks compute nonsense, of the same
    shapes; nothing that uses this engine may follow.
    """
    num_pairs = max(MIN_STEPS, min(_NUM_PAIRS, num_steps))
    block = max(1, round(num_steps / num_pairs))
    clock = make_clock(engine.device, block)
    engine.prepare_silence()
    on: list[float] = []
    off: list[float] = []
    for _ in range(NUM_FIRST_STEPS):
        engine.step(next(batches))
    for pair in range(num_pairs):
        for is_on in (True, False) if pair % 2 == 0 else (False, True):
            with contextlib.nullcontext() if is_on else engine.silent():
                (on if is_on else off).append(_mean_step_ns(engine, batches, clock, ranks, block))
    exposed = [a - b for a, b in zip(on, off, strict=True)]
    low, high = stats.mean_interval(exposed, independent=True)
    num_bytes, formula = sent_per_step(engine.collectives(), ranks.world_size)
    return Communication(
        num_steps_on=num_pairs * block,
        num_steps_off=num_pairs * block,
        step_time_on_ns=round(stats.mean(on)),
        step_time_off_ns=round(stats.mean(off)),
        step_time_off_quickest_ns=round(min(off)),
        exposed_ns=round(stats.mean(exposed)),
        exposed_interval_ns=Interval(low=low, high=high),
        bytes_per_step=num_bytes,
        bytes_formula=formula,
    )


def _mean_step_ns(
    engine: Engine, batches: Iterator[MicroBatches], clock: StepClock, ranks: Ranks, num_steps: int
) -> float:
    """A block begins together, whatever the one before was; on a GPU with one step that is not counted,
    because waiting has emptied the launch queue."""
    ranks.wait()
    if engine.device.type == "cuda":
        engine.step(next(batches))
    return stats.mean(run_steps(engine, batches, clock, num_steps).time_ns)


def sent_per_step(collectives: tuple[Collective, ...], world_size: int) -> tuple[int, str]:
    """Bytes that one of ``world_size`` ranks must send in one optimizer step, and how they come about.

    An all-gather or a reduce-scatter of n bytes sends (W - 1) / W n, an all-reduce twice that (Rajbhandari et
    al. 2020, "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models", section 7).
    """
    total = sum(_TIMES_SENT[c.kind] * c.times * c.num_bytes for c in collectives)
    terms = " + ".join(
        f"{_TIMES_SENT[c.kind] * c.times} × {c.num_bytes} bytes of {c.what} ({c.kind})" for c in collectives
    )
    return round(total * (world_size - 1) / world_size), f"(W - 1) / W × ({terms}), W = {world_size}"
