"""Joules per sample, from what the devices reported while steps were being measured."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

from benchbox.schema import AttemptResult, DeviceTelemetry, Window

EnergySource = Literal["counter", "power-integral"]
Point = tuple[int, float]
"""A clock reading in ns, and what was read then."""


def joules_per_sample(
    attempts: Sequence[AttemptResult], global_batch_size: int
) -> tuple[float, EnergySource] | None:
    """Energy of all devices over the measured windows, divided by the samples trained in them.

    The devices' energy counters come first, the integral of their power second. A window counts where every
    device has two readings within it; ``None`` where no window does.
    """
    counted = _over_windows(attempts, _counter_joules)
    # A counter that stands still while a model trains is not a counter.
    if counted is not None and counted[0] > 0:
        return counted[0] / (counted[1] * global_batch_size), "counter"
    integrated = _over_windows(attempts, _power_joules)
    if integrated is not None:
        return integrated[0] / (integrated[1] * global_batch_size), "power-integral"
    return None


def _over_windows(
    attempts: Sequence[AttemptResult], joules_of: Callable[[DeviceTelemetry, Window], float | None]
) -> tuple[float, int] | None:
    """Joules, and the number of steps that they were spent on."""
    joules, num_steps = 0.0, 0
    for attempt in attempts:
        if not attempt.devices or not attempt.ranks:
            continue
        # Every optimizer step ends with all ranks having waited for each other: one rank's windows are all's,
        # by the clock of their machine.
        windows = {rank.node: rank.windows for rank in reversed(attempt.ranks)}
        for number, window in enumerate(attempt.ranks[0].windows):
            own = [windows.get(device.node, ())[number : number + 1] for device in attempt.devices]
            parts = [
                joules_of(device, *window) if window else None
                for device, window in zip(attempt.devices, own, strict=True)
            ]
            known = [part for part in parts if part is not None]
            if len(known) == len(parts):
                joules += sum(known)
                num_steps += window.num_steps
    return (joules, num_steps) if num_steps else None


def _counter_joules(device: DeviceTelemetry, window: Window) -> float | None:
    """The counter's rise over the window.

    Its value at the window's ends is interpolated; where no sample lies beyond an end, the window's own mean
    rate carries it there.
    """
    points = _points(device.sample_at_ns, device.energy_j)
    inside = _inside(points, window)
    if len(inside) < 2:
        return None
    (first_at, first), (last_at, last) = inside[0], inside[-1]
    if last_at <= first_at or last < first:
        return None
    rate = (last - first) / (last_at - first_at)
    start = _interpolate(points, window.start_at_ns)
    end = _interpolate(points, window.end_at_ns)
    if start is None:
        start = first - rate * (first_at - window.start_at_ns)
    if end is None:
        end = last + rate * (window.end_at_ns - last_at)
    return max(0.0, end - start)


def _power_joules(device: DeviceTelemetry, window: Window) -> float | None:
    """Power over the window by the trapezoid rule; the nearest reading stands for a missing one at an end."""
    points = _points(device.sample_at_ns, device.power_w)
    inside = _inside(points, window)
    if len(inside) < 2:
        return None
    start = _interpolate(points, window.start_at_ns)
    end = _interpolate(points, window.end_at_ns)
    line = [
        (window.start_at_ns, inside[0][1] if start is None else start),
        *inside,
        (window.end_at_ns, inside[-1][1] if end is None else end),
    ]
    area = sum(
        (right_at - left_at) * (left + right) / 2 for (left_at, left), (right_at, right) in pairwise(line)
    )
    return area / 1e9


def _points(at_ns: Sequence[int], values: Sequence[float | None] | None) -> list[Point]:
    if values is None:
        return []
    return [(at, value) for at, value in zip(at_ns, values, strict=True) if value is not None]


def _inside(points: Sequence[Point], window: Window) -> list[Point]:
    return [point for point in points if window.start_at_ns <= point[0] <= window.end_at_ns]


def _interpolate(points: Sequence[Point], at_ns: int) -> float | None:
    """The value at ``at_ns``, linear between neighbours; ``None`` outside of the first and last point."""
    right = bisect_left(points, at_ns, key=lambda point: point[0])
    if right == len(points):
        return None
    right_at, right_value = points[right]
    if right_at == at_ns:
        return right_value
    if right == 0:
        return None
    left_at, left_value = points[right - 1]
    return left_value + (right_value - left_value) * (at_ns - left_at) / (right_at - left_at)
