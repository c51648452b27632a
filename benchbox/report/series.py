"""Telemetry of a case as a few short series over measured time, for pictures and sparklines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from benchbox.schema import SLOWING_REASONS_MASK, AttemptResult, CaseResult, DeviceTelemetry, HostTelemetry

_GIB = 2.0**30
_DEVICE = (
    ("memory used", "GiB", "memory_used_bytes", 1 / _GIB),
    ("utilization", "%", "utilization_gpu_pct", 1.0),
    ("power", "W", "power_w", 1.0),
    ("SM clock", "MHz", "clock_sm_mhz", 1.0),
    ("temperature", "°C", "temperature_c", 1.0),
)
_HOST = (
    ("worker CPU, user", "% of a processor", "worker_cpu_user_pct", 1.0),
    ("worker CPU, kernel", "% of a processor", "worker_cpu_kernel_pct", 1.0),
    ("worker memory", "GiB", "worker_rss_bytes", 1 / _GIB),
    ("host CPU, user", "% of all processors", "host_cpu_user_pct", 1.0),
)
GAP_S = 0.15
"""Between two attempts, in the pictures' time."""


class Point(NamedTuple):
    """One sample, or a stretch of them: over all devices."""

    attempt: int
    at_s: float
    mean: float
    low: float
    high: float


class Series(NamedTuple):
    """One figure over measured time, attempts one after the other."""

    name: str
    unit: str
    points: tuple[Point, ...]
    """At least one; samples that failed are missing."""
    num_lines: int
    """Devices that each point is over."""
    starts: tuple[float, ...]
    """Where each attempt begins, s."""

    @property
    def least(self) -> float:
        """Of all devices and points."""
        return min(point.low for point in self.points)

    @property
    def most(self) -> float:
        """As above."""
        return max(point.high for point in self.points)

    @property
    def mean(self) -> float:
        """Over points."""
        return sum(point.mean for point in self.points) / len(self.points)


def case_series(result: CaseResult, max_points: int) -> list[Series]:
    """What is known of the devices, or of the host where there is none. Long series are thinned by means."""
    attempts = [attempt for attempt in result.attempts if attempt.outcome == "ok"]
    on_device = any(attempt.devices for attempt in attempts)
    found = []
    for name, unit, field, scale in _DEVICE if on_device else _HOST:
        points, num_lines = _series(attempts, field, scale, max_points)
        if points:
            found.append(Series(name, unit, tuple(points), num_lines, tuple(_starts(attempts))))
    return found


def throttled_spans(result: CaseResult) -> list[tuple[float, float]]:
    """Stretches of the same time in which some device held its clocks back, in seconds.

    A sample stands for the time to the middle between it and its neighbours, at an end of its attempt for
    half of the gap.
    """
    spans: list[tuple[float, float]] = []
    attempts = [attempt for attempt in result.attempts if attempt.outcome == "ok"]
    for attempt, start in zip(attempts, _starts(attempts), strict=True):
        for device in attempt.devices:
            masks = device.throttle_reasons or ()
            if not any(mask and mask & SLOWING_REASONS_MASK for mask in masks):
                continue
            first_at_ns = _first_at(attempt)
            times = [start + (at_ns - first_at_ns) / 1e9 for at_ns in device.sample_at_ns]
            for place, mask in enumerate(masks):
                if mask and mask & SLOWING_REASONS_MASK:
                    spans.append(_around(times, place))
    return _merged(spans)


def _series(
    attempts: Sequence[AttemptResult], field: str, scale: float, max_points: int
) -> tuple[list[Point], int]:
    """All attempts' points, and the devices that they are over."""
    share = max(2, max_points // max(1, len(attempts)))
    points: list[Point] = []
    num_lines = 0
    for number, (attempt, start) in enumerate(zip(attempts, _starts(attempts), strict=True)):
        columns = [
            (source.sample_at_ns, column)
            for source in _sources(attempt)
            if (column := getattr(source, field, None)) is not None
        ]
        if not columns:
            continue
        offset_s = start - _first_at(attempt) / 1e9
        points += _thinned(_samples(number, columns, offset_s, scale), share)
        num_lines = max(num_lines, len(columns))
    return points, num_lines


def _samples(
    attempt: int,
    columns: Sequence[tuple[Sequence[int], Sequence[float | None]]],
    offset_s: float,
    scale: float,
) -> list[Point]:
    """A point for each sample of an attempt; ``columns`` are each source's times and values."""
    times_ns = columns[0][0]
    if len(columns) == 1:  # nearly always, and quicker
        return [
            Point(attempt, offset_s + at_ns / 1e9, scaled, scaled, scaled)
            for at_ns, value in zip(times_ns, columns[0][1], strict=False)
            if value is not None
            for scaled in (value * scale,)
        ]
    found = []
    # Devices are sampled together, so that their columns are equally long; a shorter one ends the series.
    for at_ns, *values in zip(times_ns, *(column for _, column in columns), strict=False):
        known = [value * scale for value in values if value is not None]
        if known:
            at_s = offset_s + at_ns / 1e9
            found.append(Point(attempt, at_s, sum(known) / len(known), min(known), max(known)))
    return found


def _thinned(points: list[Point], most: int) -> list[Point]:
    """At most ``most`` points, each over a stretch of equally many."""
    if len(points) <= most:
        return points
    count = len(points)
    stretches = [points[count * place // most : count * (place + 1) // most] for place in range(most)]
    return [
        Point(
            stretch[0].attempt,
            sum(p.at_s for p in stretch) / len(stretch),
            sum(p.mean for p in stretch) / len(stretch),
            min(p.low for p in stretch),
            max(p.high for p in stretch),
        )
        for stretch in stretches
    ]


def _sources(attempt: AttemptResult) -> list[DeviceTelemetry | HostTelemetry]:
    """The devices; the host where there is none."""
    return list(attempt.devices) or ([attempt.host] if attempt.host else [])


def _first_at(attempt: AttemptResult) -> int:
    return min((source.sample_at_ns[0] for source in _sources(attempt) if source.sample_at_ns), default=0)


def _starts(attempts: Sequence[AttemptResult]) -> list[float]:
    """Where each attempt begins in the pictures' time, s."""
    starts, at_s = [], 0.0
    for attempt in attempts:
        starts.append(at_s)
        ends = [source.sample_at_ns[-1] for source in _sources(attempt) if source.sample_at_ns]
        at_s += (max(ends, default=0) - _first_at(attempt)) / 1e9 + GAP_S
    return starts


def _around(times: Sequence[float], place: int) -> tuple[float, float]:
    """Half of the way to the sample before and to the one after, or half of the gap between attempts."""
    at = times[place]
    start = (times[place - 1] + at) / 2 if place else max(0.0, at - GAP_S / 2)
    return start, (at + times[place + 1]) / 2 if place + 1 < len(times) else at + GAP_S / 2


def _merged(spans: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Spans that touch or overlap become one."""
    merged: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1] + GAP_S:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
