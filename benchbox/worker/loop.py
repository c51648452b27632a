"""The measured loop, flat: take a batch, train on it, mark the time."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, get_args

import msgspec
import torch
from torch import Tensor

from benchbox.schema import ANOTHER_RANK_ENDED, HostUsage, MeasureSettings, StopReason, WarmupEnd, Window
from benchbox.worker.clock import StepClock, make_clock
from benchbox.worker.data import MicroBatches
from benchbox.worker.engine import Engine
from benchbox.worker.others import OthersWatch
from benchbox.worker.ranks import ALONE, Ranks
from benchbox.worker.stopping import Measuring, Warmup, ci_target

_CHARGES = ("ru_utime", "ru_stime", "ru_minflt", "ru_majflt")


class LossNotFiniteError(Exception):
    """The training is over: a rank's loss is no finite number. The text is this rank's reason."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What warm-up and windows gave."""

    warmup_s: float
    warmup_step_time_ns: list[int]
    warmup_end: WarmupEnd
    step_time_ns: list[int]
    windows: list[Window]
    stop_reason: StopReason
    first_loss: float
    last_loss: float
    host_usage: HostUsage


class Steps(NamedTuple):
    """What a stretch of steps gave."""

    time_ns: list[int]
    loss: Tensor
    """The last one, still on the device."""
    ended_at_ns: int
    """By ``time.monotonic_ns``, before any of the clock's marks was read: thousands take milliseconds."""


def run_steps(engine: Engine, batches: Iterator[MicroBatches], clock: StepClock, num_steps: int) -> Steps:
    """Train ``num_steps`` steps, and wait for the last."""
    clock.start()
    for step in range(num_steps):
        batch = next(batches)
        loss = engine.step(batch)
        clock.mark(step)
    clock.wait(num_steps)
    ended_at_ns = time.monotonic_ns()
    return Steps(clock.read_ns(num_steps), loss, ended_at_ns)


def measure(
    engine: Engine,
    batches: Iterator[MicroBatches],
    settings: MeasureSettings,
    *,
    compiles: bool,
    report_progress: Callable[[str, int, float], None],
    ranks: Ranks = ALONE,
) -> Measured:
    """Warm up until step times settle, then measure windows until more would not tell more.

    Between windows, and only there, the device is waited for and progress is written. On a GPU each window
    is preceded by one step that is not counted, because the wait has emptied the launch queue.

    Ranks take the same number of steps in every block and window, because each step is all of theirs: rank 0
    decides, and they agree in between. There too each looks at its last loss.

    Raises:
        LossNotFiniteError: the last loss of a block or window is not, on any rank; all raise it at once.
    """
    on_gpu = engine.device.type == "cuda"
    target = ci_target(settings, engine.device.type)
    started_at = time.monotonic()
    clock = make_clock(engine.device, max(settings.max_warmup_steps, settings.max_measured_steps))

    first_times, loss, _ = run_steps(engine, batches, clock, 1)
    first_loss = last_loss = _finite(loss, 1, ranks)
    budget_from = time.monotonic() if compiles else started_at  # compiling is not paid from the budget
    warmup = Warmup(settings, target, engine.device.type, budget_from)
    warmup_end = ranks.agree_on(warmup.add(first_times), get_args(WarmupEnd))
    while warmup_end is None:
        times, loss, _ = run_steps(engine, batches, clock, ranks.agree(warmup.next_block()))
        warmup_end = ranks.agree_on(warmup.add(times), get_args(WarmupEnd))
        last_loss = _finite(loss, len(warmup.step_time_ns), ranks)
        report_progress("warm-up", len(warmup.step_time_ns), times[-1] / 1e9)
    warmup_s = time.monotonic() - started_at

    if on_gpu:
        torch.cuda.reset_peak_memory_stats(engine.device)
    measuring = Measuring(settings, target, engine.device.type, budget_from)
    step_time_ns: list[int] = []
    windows: list[Window] = []
    usage = _Usage()
    stop_reason = None
    expected_step_s = warmup.mean_step_s()
    while stop_reason is None:
        num_steps = ranks.agree(measuring.next_window(step_time_ns, expected_step_s))
        if on_gpu:
            engine.step(next(batches))
        before = resource.getrusage(resource.RUSAGE_SELF)
        times, loss, end_at_ns = run_steps(engine, batches, clock, num_steps)
        # The window ends when its last step has; on a GPU its first was launched before it could begin.
        start_at_ns = end_at_ns - sum(times)
        usage.add(before, resource.getrusage(resource.RUSAGE_SELF))
        step_time_ns.extend(times)
        windows.append(Window(start_at_ns=start_at_ns, end_at_ns=end_at_ns, num_steps=num_steps))
        expected_step_s = sum(step_time_ns) / len(step_time_ns) / 1e9
        report_progress("measuring", len(step_time_ns), expected_step_s)
        last_loss = _finite(loss, len(warmup.step_time_ns) + len(step_time_ns), ranks)
        stop_reason = ranks.agree_on(measuring.reason_to_stop(step_time_ns), get_args(StopReason))

    return Measured(
        warmup_s=warmup_s,
        warmup_step_time_ns=warmup.step_time_ns,
        warmup_end=warmup_end,
        step_time_ns=step_time_ns,
        windows=windows,
        stop_reason=stop_reason,
        first_loss=first_loss,
        last_loss=last_loss,
        host_usage=usage.record(),
    )


def _finite(loss: Tensor, num_steps: int, ranks: Ranks) -> float:
    """This rank's loss after ``num_steps`` steps, once all ranks know theirs to be finite."""
    own = float(loss.item())
    (over_ranks,) = ranks.mean([own])
    if not math.isfinite(own):
        raise LossNotFiniteError(f"the loss is not finite: {own:.6g} at step {num_steps}")
    if not math.isfinite(over_ranks):
        raise LossNotFiniteError(f"{ANOTHER_RANK_ENDED} the case: its loss is not finite")
    return own


class _Usage:
    """What the kernel charged to this process, summed over windows."""

    def __init__(self) -> None:
        self._others = OthersWatch()
        self._total = [0.0] * len(_CHARGES)

    def add(self, before: resource.struct_rusage, after: resource.struct_rusage) -> None:
        """Add a window between two readings."""
        for place, name in enumerate(_CHARGES):
            self._total[place] += getattr(after, name) - getattr(before, name)

    def record(self) -> HostUsage:
        """The sums, and what others used since this was made."""
        user_s, kernel_s, minor, major = self._total
        return HostUsage(
            cpu_user_s=user_s,
            cpu_kernel_s=kernel_s,
            minor_page_faults=int(minor),
            major_page_faults=int(major),
            other_cpu_pct=self._others.used_pct(),
        )
