"""When a warm-up has settled, and when more measuring would not tell more."""

from __future__ import annotations

import time

from benchbox import stats
from benchbox.schema import MeasureSettings, StopReason, WarmupEnd

WARMUP_SHARE = 0.4  # of max_seconds, at most
_BLOCK_S = 0.25  # a block of warm-up steps is about this long
_NUM_STABLE_WINDOWS = 4
_MIN_STEPS_FOR_NOISE = 50


def ci_target(measure: MeasureSettings, device_type: str) -> float:
    """The half-width of the interval, as a share, at which measuring stops."""
    if measure.ci_target_pct is not None:
        return measure.ci_target_pct / 100
    return 0.005 if device_type == "cuda" else 0.02


class Warmup:
    """Feed it step times block by block; it says how long the next block is, and when to stop.

    Settled means: the medians of the last two blocks differ by less than ``2 * target``. A block is about a
    quarter of a second long, so that clocks and caches have had half a second to settle, and one step long
    where steps are slower than that.
    """

    def __init__(self, measure: MeasureSettings, target: float, started_at: float) -> None:
        self._measure = measure
        self._target = target
        self._started_at = started_at
        self._blocks: list[list[int]] = []
        self.step_time_ns: list[int] = []

    def next_block(self) -> int:
        """Number of steps to take before asking again."""
        if not self.step_time_ns:
            return 1
        last_s = self.step_time_ns[-1] / 1e9
        room = self._measure.max_warmup_steps - len(self.step_time_ns)
        return max(1, min(round(_BLOCK_S / max(last_s, 1e-6)), self._measure.max_warmup_steps // 4, room))

    def add(self, step_time_ns: list[int]) -> WarmupEnd | None:
        """Take the times of a block; the reason to stop warming up, or ``None`` to go on."""
        self._blocks.append(step_time_ns)
        self.step_time_ns.extend(step_time_ns)
        if len(self.step_time_ns) >= self._measure.max_warmup_steps:
            return "step-cap"
        if len(self.step_time_ns) < self._measure.min_warmup_steps:
            return None
        if len(self._blocks) >= 3:  # the first block is the very first step alone
            before, last = (stats.median(block) for block in self._blocks[-2:])
            if abs(last - before) <= 2 * self._target * before:
                return "settled"
        out_of_time = time.monotonic() - self._started_at >= WARMUP_SHARE * self._measure.max_seconds
        return "time-cap" if out_of_time else None


class Measuring:
    """Decides after each window whether the next one is worth its time."""

    def __init__(self, measure: MeasureSettings, target: float, started_at: float) -> None:
        self._measure = measure
        self._target = target
        self._deadline = started_at + measure.max_seconds
        self._noise: list[float] = []

    def next_window(self, step_time_ns: list[int], expected_step_s: float) -> int:
        """Number of steps in the next window: a tenth of the budget, and never past its end."""
        measure = self._measure
        left_s = self._deadline - time.monotonic()
        window_s = min(measure.max_seconds / 10, left_s)
        steps = max(1, int(window_s / max(expected_step_s, 1e-6)))
        return min(steps, measure.max_measured_steps - len(step_time_ns))

    def reason_to_stop(self, step_time_ns: list[int]) -> StopReason | None:
        """Why measuring is finished, or ``None`` to go on."""
        num_steps = len(step_time_ns)
        if num_steps >= self._measure.max_measured_steps:
            return "step-cap"
        if num_steps < self._measure.min_measured_steps:
            return None
        middle, centre = stats.median(step_time_ns), stats.mean(step_time_ns)
        widths = (
            stats.relative_half_width(stats.median_interval(step_time_ns), middle),
            stats.relative_half_width(stats.mean_interval(step_time_ns), centre),
        )
        if max(widths) <= self._target:
            return "confidence-interval"
        self._noise.append(stats.relative_noise(step_time_ns))
        recent = self._noise[-_NUM_STABLE_WINDOWS:]
        enough = num_steps >= _MIN_STEPS_FOR_NOISE and len(recent) == _NUM_STABLE_WINDOWS
        if enough and max(recent) - min(recent) <= 0.05 * min(recent):
            return "noise-stable"
        if time.monotonic() >= self._deadline:
            return "time-budget"
        return None
