"""Small drawings of one case, as numbers for a template: cheap enough for a thousand cases on one page.

Coordinates fill a box of :data:`WIDTH` by :data:`HEIGHT`, which the page stretches; the words beside a
drawing are HTML, so that they stay readable at any width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from benchbox.report.plots.phases import PHASES, phase_shares
from benchbox.report.plots.roofline import Point, Roofs
from benchbox.report.series import Series, case_series, throttled_spans
from benchbox.report.text import duration, percent, significant
from benchbox.schema import CaseResult, PhaseTimes

WIDTH, HEIGHT = 600.0, 60.0
NUM_BINS = 36


class Box(NamedTuple):
    """A rectangle's left edge, width, and the name of its colour."""

    x: float
    width: float
    name: str = ""


class Histogram(NamedTuple):
    """Step times of all attempts together."""

    path: str
    median_x: float
    p95_x: float
    least: str
    most: str
    num_beyond: int
    """Steps longer than the right edge."""
    data: str


class Strip(NamedTuple):
    """One telemetry series."""

    name: str
    unit: str
    least: str
    mean: str
    most: str
    line: str
    band: str


class Telemetry(NamedTuple):
    """All series of a case over the same time."""

    strips: tuple[Strip, ...]
    throttled: tuple[Box, ...]
    starts: tuple[float, ...]
    """Where the second and later attempts begin."""
    data: str


class PhaseRow(NamedTuple):
    """One phase, as a row beside its bar."""

    name: str
    time: str
    share: str


def histogram(step_time_ns: Sequence[int], median_ns: int, p95_ns: int) -> Histogram | None:
    """``None`` for fewer than eight steps. Beyond the right edge lie stragglers past twice the usual span."""
    if len(step_time_ns) < 8:
        return None
    least, most = min(step_time_ns), max(step_time_ns)
    edge = min(most, least + max(2 * (p95_ns - least), 1))
    span = max(edge - least, 1)
    counts = [0] * NUM_BINS
    num_beyond = 0
    for time_ns in step_time_ns:
        if time_ns > edge:
            num_beyond += 1
        else:
            counts[min(NUM_BINS - 1, int((time_ns - least) / span * NUM_BINS))] += 1
    tallest = max(counts)
    width = WIDTH / NUM_BINS
    path = "".join(
        f"M{place * width:.1f} {HEIGHT:.0f}v{-HEIGHT * count / tallest:.1f}h{width - 1.5:.1f}V{HEIGHT:.0f}z"
        for place, count in enumerate(counts)
        if count
    )
    edges = (least + span * place / NUM_BINS for place in range(NUM_BINS))
    lines = [f"{start / 1e6:.6g}\t{count}" for start, count in zip(edges, counts, strict=True) if count]
    beyond = [f"above {edge / 1e6:.6g}\t{num_beyond}"] if num_beyond else []
    return Histogram(
        path=path,
        median_x=_clamp((median_ns - least) / span * WIDTH),
        p95_x=_clamp((p95_ns - least) / span * WIDTH),
        least=duration(least),
        most=duration(edge),
        num_beyond=num_beyond,
        data="\n".join(["from ms\tsteps", *lines, *beyond]),
    )


def telemetry(result: CaseResult, max_points: int) -> Telemetry | None:
    """``None`` where there are no samples."""
    series = case_series(result, max_points)
    if not series:
        return None
    end_s = max(point.at_s for one in series for point in one.points)
    scale = WIDTH / max(end_s, 1e-9)
    return Telemetry(
        strips=tuple(_strip(one, scale) for one in series),
        throttled=tuple(
            Box(start * scale, max((min(end, end_s) - start) * scale, 1.0))
            for start, end in throttled_spans(result)
        ),
        starts=tuple(start * scale for start in series[0].starts[1:] if start < end_s),
        data=_telemetry_data(series),
    )


def phase_boxes(phases: PhaseTimes) -> tuple[list[Box], list[PhaseRow]]:
    """The bar, and the same as rows."""
    boxes, rows, x = [], [], 0.0
    for (name, field, _), share in zip(PHASES, phase_shares(phases), strict=True):
        boxes.append(Box(x, share * WIDTH, name.replace(" ", "-")))
        rows.append(PhaseRow(name, duration(getattr(phases, field)), percent(100 * share)))
        x += share * WIDTH
    return boxes, rows


class RooflineDot(NamedTuple):
    """A case under its roofs, in a box of 300 by 150 with equal scales."""

    roofs: tuple[tuple[str, str], ...]
    """A path, and where the roof is from."""
    x: float
    y: float
    place: str
    """``6.50 FLOP/byte, 0.157 TFLOP/s``."""
    sentences: tuple[str, ...]
    """Of each of ``roofs``."""


def roofline_dot(point: Point, roofs: Sequence[Roofs]) -> RooflineDot | None:
    """``None`` where no roof is known in the case's precision."""
    flats = [roof.tflops[point.precision] for roof in roofs if point.precision in roof.tflops]
    if not flats:
        return None
    left, right = math.log10(point.intensity) - 1.5, math.log10(point.intensity) + 1.5
    top = math.log10(max(*flats, point.tflops)) + 0.15
    bottom = min(math.log10(max(point.tflops, 1e-12)), top - 2) - 0.4

    def place(intensity_log: float, tflops: float) -> tuple[float, float]:
        height = (math.log10(max(tflops, 1e-12)) - bottom) / (top - bottom)
        return 300 * (intensity_log - left) / (right - left), 150 * (1 - height)

    paths, sentences = [], []
    for roof in roofs:
        flat = roof.tflops.get(point.precision)
        if flat is None:
            continue
        logs = [left, right]
        if roof.bytes_per_s is not None:
            ridge = math.log10(flat * 1e12 / roof.bytes_per_s)
            logs = [left, min(max(ridge, left), right), right]
        corners = [place(log, roof.limit_tflops(point.precision, 10**log) or flat) for log in logs]
        paths.append(("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in corners), roof.source))
        sentences.append(_under(point, roof, flat))
    x, y = place(math.log10(point.intensity), point.tflops)
    text = f"{significant(point.intensity)} FLOP/byte, {significant(point.tflops)} TFLOP/s"
    return RooflineDot(tuple(paths), x, y, text, tuple(sentences))


def _under(point: Point, roof: Roofs, flat: float) -> str:
    limit = roof.limit_tflops(point.precision, point.intensity)
    if limit is None:
        share = percent(100 * point.tflops / flat)
        return f"{roof.source}: {share} of {significant(flat)} TFLOP/s; the bandwidth is unknown"
    side = "memory bandwidth" if limit < flat else "arithmetic"
    share = percent(100 * point.tflops / limit)
    return f"{roof.source}: {share} of {significant(limit)} TFLOP/s, a roof of {side}"


def _strip(series: Series, scale: float) -> Strip:
    top = series.most * 1.08 or 1.0
    lines, bands = [], []
    for _, group in groupby(series.points, key=lambda point: point.attempt):
        points = list(group)
        xs = [point.at_s * scale for point in points]
        line = "L".join(f"{x:.0f} {_y(p.mean, top)}" for x, p in zip(xs, points, strict=True))
        # A lone sample is a short dash, or nobody would see it.
        lines.append(f"M{line}" if len(points) > 1 else f"M{line}h6")
        if series.num_lines > 1:
            there = "L".join(f"{x:.0f} {_y(p.high, top)}" for x, p in zip(xs, points, strict=True))
            back = "L".join(f"{x:.0f} {_y(p.low, top)}" for x, p in zip(xs[::-1], points[::-1], strict=True))
            bands.append(f"M{there}L{back}z")
    return Strip(
        series.name,
        series.unit,
        significant(series.least),
        significant(series.mean),
        significant(series.most),
        "".join(lines),
        "".join(bands),
    )


def _y(value: float, top: float) -> str:
    return f"{HEIGHT * (1 - value / top):.0f}"


def _telemetry_data(series: Sequence[Series]) -> str:
    """Tab-separated: one line a point of the longest series; others may have fewer."""
    heads = ["attempt", "s", *(f"{one.name} ({one.unit})" for one in series)]
    by_time: dict[tuple[int, str], list[str]] = {}
    for place, one in enumerate(series):
        for point in one.points:
            row = by_time.setdefault((point.attempt + 1, f"{point.at_s:.2f}"), [""] * len(series))
            row[place] = f"{point.mean:.4g}"
    lines = [f"{attempt}\t{at}\t" + "\t".join(row) for (attempt, at), row in by_time.items()]
    return "\n".join(["\t".join(heads), *lines])


def _clamp(x: float) -> float:
    return min(max(x, 0.0), WIDTH)
