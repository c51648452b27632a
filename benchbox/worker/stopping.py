"""When a warm-up has settled, and when more measuring would not tell more."""

from __future__ import annotations

import math
import time

from benchbox import stats
from benchbox.schema import MeasureSettings, StopReason, WarmupEnd

WARMUP_SHARE = 0.4  # of max_seconds, at most
_BLOCK_S = 0.25  # a block of warm-up steps is about this long
# A GPU's clocks rise and fall with load and heat over seconds, and its driver averages power over one.
_SETTLING_S = {"cuda": 2.0, "cpu": 0.5}
_MIN_SHARE_MEASURED = 0.25  # of max_seconds, where that is less than the settling time
_MIN_STEPS_FOR_INTERVAL = 10
_NUM_STABLE_WINDOWS = 4
_MIN_STEPS_FOR_NOISE = 50


def ci_target(measure: MeasureSettings, device_type: str) -> float:
    """The half-width of the interval, as a share, at which measuring stops."""
    if measure.ci_target_pct is not None:
        return measure.ci_target_pct / 100
    return 0.005 if device_type == "cuda" else 0.02


class Warmup:
    """Feed it step times block by block; it says how long the next block is, and when to stop.

    Settled means: enough time has passed, and the medians of the last two blocks differ by less than
    ``2 * target``. A block is about a quarter of a second long, or one step where that takes longer, and at
    most twice as many steps as the one before, so that a few quick steps from a loader's buffer do not make
    a block that lasts for ever.
    """

    def __init__(self, measure: MeasureSettings, target: float, device_type: str, started_at: float) -> None:
        self._measure = measure
        self._target = target
        self._started_at = started_at
        self._time_cap_s = WARMUP_SHARE * measure.max_seconds
        self._settling_s = min(_SETTLING_S[device_type], self._time_cap_s)
        self._blocks: list[list[int]] = []
        self.step_time_ns: list[int] = []

    def mean_step_s(self) -> float:
        """Of the last two blocks."""
        recent = [step_ns for block in self._blocks[-2:] for step_ns in block]
        return max(stats.mean(recent) / 1e9, 1e-6)

    def next_block(self) -> int:
        """Number of steps to take before asking again."""
        if not self._blocks:
            return 1
        left_s = self._started_at + self._time_cap_s - time.monotonic()
        wanted = round(min(_BLOCK_S, left_s) / self.mean_step_s())
        room = self._measure.max_warmup_steps - len(self.step_time_ns)
        return max(1, min(wanted, 2 * len(self._blocks[-1]), room))

    def add(self, step_time_ns: list[int]) -> WarmupEnd | None:
        """Take the times of a block; the reason to stop warming up, or ``None`` to go on."""
        self._blocks.append(step_time_ns)
        self.step_time_ns.extend(step_time_ns)
        if len(self.step_time_ns) >= self._measure.max_warmup_steps:
            return "step-cap"
        if len(self.step_time_ns) < self._measure.min_warmup_steps:
            return None
        out_of_time = time.monotonic() - self._started_at >= self._time_cap_s
        # The first step compiles, autotunes and allocates: it is a block of its own and settles nothing.
        long_enough = sum(self.step_time_ns[1:]) / 1e9 >= self._settling_s
        if len(self._blocks) >= 3 and (long_enough or out_of_time):
            before, last = (stats.median(block) for block in self._blocks[-2:])
            if abs(last - before) <= 2 * self._target * before:
                return "settled"
        return "time-cap" if out_of_time else None


class Measuring:
    """Decides after each window whether the next one is worth its time."""

    def __init__(self, measure: MeasureSettings, target: float, device_type: str, budget_from: float) -> None:
        self._measure = measure
        self._target = target
        self._began_at = time.monotonic()
        self._deadline = budget_from + measure.max_seconds
        self._min_s = min(_SETTLING_S[device_type], _MIN_SHARE_MEASURED * measure.max_seconds)
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
        now = time.monotonic()
        self._noise.append(stats.relative_noise(step_time_ns))
        if num_steps >= _MIN_STEPS_FOR_INTERVAL and now - self._began_at >= self._min_s:
            width = _relative_width(step_time_ns)
            if width <= self._target:
                return "confidence-interval"
            if self._is_noise_stable(num_steps) and not self._could_still_reach(width, now):
                return "noise-stable"
        return "time-budget" if now >= self._deadline else None

    def _is_noise_stable(self, num_steps: int) -> bool:
        recent = self._noise[-_NUM_STABLE_WINDOWS:]
        enough = num_steps >= _MIN_STEPS_FOR_NOISE and len(recent) == _NUM_STABLE_WINDOWS
        return enough and max(recent) - min(recent) <= 0.05 * min(recent)

    def _could_still_reach(self, width: float, now: float) -> bool:
        """Whether the interval, which shrinks with the root of time, is tight enough at the budget's end."""
        passed_s, whole_s = now - self._began_at, self._deadline - self._began_at
        return bool(width * math.sqrt(passed_s / max(whole_s, passed_s)) <= self._target)


def _relative_width(step_time_ns: list[int]) -> float:
    """The wider of the intervals of the median and of the mean, as a share."""
    return max(
        stats.relative_half_width(stats.median_interval(step_time_ns), stats.median(step_time_ns)),
        stats.relative_half_width(stats.mean_interval(step_time_ns), stats.mean(step_time_ns)),
    )
