"""The passes that find out why a case is as fast as it is, within the time that they are given.

With the phases, and the case's share of the run's probe, they take at most as long as the case's steps were
measured, all repetitions together, unless the probe alone takes most of that: a pass that does not fit into
what is left is cut down, and left out where less than its least is left. How much is decided before a pass
begins, from the measured step, so that all ranks take the same number of steps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchbox.schema import WorkerTask
from benchbox.stats import mean
from benchbox.worker import batch_split, input_ablation, profile, turns
from benchbox.worker.data import MicroBatches, num_buffered_steps
from benchbox.worker.engine import Engine
from benchbox.worker.ranks import Ranks

_LOOKS = 3
"""At most; with one there is no telling whether it was disturbed."""
_SETUP_S = 0.05  # of the profiler, on a CPU; what its records cost afterwards comes on top, a little a step

_SHARE_OF_MEASURED = 0.85
"""Of the time that steps are measured for, which is the most that these passes may take: a pass is foretold
from the mean step, and its steps may be slower."""
_SHARE_OF_PROBE = 0.75
"""Of that time, at most: the probe of a run of one quick case shall not leave it without a profile."""
_SHARE_OF_TIMEOUT = 0.5
"""Of the time after which an attempt counts as hung: no pass may make a slow case one that hangs."""


class Budget:
    """Seconds that may still be spent."""

    def __init__(
        self, task: WorkerTask, step_time_ns: Sequence[int], *, spent_s: float, started_at_ns: int
    ) -> None:
        self.step_s = mean(step_time_ns) / 1e9
        measured_s = task.measure.repetitions * sum(step_time_ns) / 1e9
        share_s = _SHARE_OF_MEASURED * measured_s
        share_s -= spent_s + min(task.probe_share_s, _SHARE_OF_PROBE * share_s)
        no_later_s = started_at_ns / 1e9 + _SHARE_OF_TIMEOUT * task.measure.effective_timeout_s
        self._end_at = min(time.monotonic() + share_s, no_later_s)

    def left_s(self) -> float:
        """Negative where too much was spent."""
        return self._end_at - time.monotonic()

    def rounds(self, wanted: int, round_s: float, fixed_s: float, share: float) -> int:
        """How many rounds of ``round_s`` after ``fixed_s`` fit into ``share`` of what is left."""
        return max(0, min(wanted, math.floor((share * self.left_s() - fixed_s) / max(round_s, 1e-9))))


def collect_evidence(
    engine: Engine,
    batches: Iterator[MicroBatches],
    task: WorkerTask,
    ranks: Ranks,
    step_time_ns: Sequence[int],
    *,
    spent_s: float,
    started_at_ns: int,
) -> Iterator[dict[str, Any]]:
    """Yield ``profile``, ``input_ablation`` and ``batch_split`` of a rank's result, as far as there is time.

    ``spent_s`` is what phases took already, ``started_at_ns`` when this process began.
    """
    settings, case = task.measure, task.case
    if not (settings.profile_step or settings.num_input_rounds or settings.num_split_rounds):
        return
    budget = Budget(task, step_time_ns, spent_s=spent_s, started_at_ns=started_at_ns)
    batch = profile.on_device(engine, next(batches))

    look_s = profile.STEPS_A_LOOK * budget.step_s + _SETUP_S
    counted_s = profile.STEPS_COUNTED * budget.step_s
    num_looks = budget.rounds(_LOOKS, look_s, counted_s, 0.4) or budget.rounds(1, look_s, counted_s, 1.0)
    num_looks = ranks.agree(num_looks if settings.profile_step else 0)
    if num_looks:
        keeps = task.trace_path is not None and ranks.place.rank == 0
        trace = Path(task.trace_path) if keeps and task.trace_path is not None else None
        yield {
            "profile": profile.profile_step(
                engine, batch, num_looks=num_looks, compiled=case.compile, trace_path=trace
            )
        }

    num_steps = ranks.agree(turns.steps_a_turn(budget.step_s))
    if case.data != "device":
        num_buffered = num_buffered_steps(case)
        num_own = num_buffered + turns.steps_of_a_turn(num_steps, engine.device)
        num_ready = num_steps * turns.steps_of_a_turn(1, engine.device)
        round_s = 2 * (num_own + num_ready) * budget.step_s
        num_rounds = ranks.agree(budget.rounds(settings.num_input_rounds, round_s, 0.0, 0.6))
        if num_rounds:
            yield {
                "input_ablation": input_ablation.ablate_input(
                    engine,
                    batches,
                    batch,
                    num_buffered=num_buffered,
                    num_steps=num_steps,
                    num_rounds=num_rounds,
                )
            }

    # A compiled model would be compiled anew for the other shape.
    if case.per_device_batch_size > 1 and not case.compile:
        round_s = turns.TURNS_A_ROUND * turns.steps_of_a_turn(num_steps, engine.device) * budget.step_s
        num_rounds = ranks.agree(budget.rounds(settings.num_split_rounds, round_s, 2 * budget.step_s, 1.0))
        if num_rounds:
            yield {"batch_split": batch_split.split_batch(engine, batch, num_steps, num_rounds)}
