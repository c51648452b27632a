"""The roofline: arithmetic rate over arithmetic intensity, under what the device can reach.

Williams, Waterman, Patterson, "Roofline: an insightful visual performance model", CACM 52 (4), 2009: a kernel
of I FLOP per byte runs at most at min(peak rate, I × bandwidth).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from benchbox.analyze.roofline import Rates, bandwidth, rates
from benchbox.errors import NothingToPlotError
from benchbox.report.plots.canvas import (
    INK,
    MUTED,
    PRECISION_COLORS,
    PRECISION_MARKERS,
    legend_below,
    new_figure,
)
from benchbox.report.plots.plot import Plot, listing, report_labels
from benchbox.report.text import UNKNOWN, case_labels, percent, significant
from benchbox.schema import CaseResult, ProfiledStep, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


FAR = 1000.0


class Roofs(NamedTuple):
    """What limits a rate: by precision in TFLOP/s, and bytes per second. ``None`` is unknown."""

    source: str
    tflops: dict[str, float]
    bytes_per_s: float | None

    def limit_tflops(self, precision: str, intensity: float) -> float | None:
        """The roof over a case of such an intensity; ``None`` where a part of it is unknown."""
        flat = self.tflops.get(precision)
        if flat is None or self.bytes_per_s is None:
            return None
        return min(flat, intensity * self.bytes_per_s / 1e12)

    def bend(self, precision: str) -> float | None:
        """The intensity at which the roof becomes flat; ``None`` where a part of it is unknown."""
        flat = self.tflops.get(precision)
        return None if flat is None or not self.bytes_per_s else flat * 1e12 / self.bytes_per_s


class Point(NamedTuple):
    """Where a case's step lies."""

    label: str
    precision: str
    intensity: float
    """FLOP per byte; at most, because each input and output counts once."""
    tflops: float
    """Of one device, over the measured step."""


def roofline(reports: Sequence[Report]) -> Plot:
    """The steps of one report's cases under the device's roofs.

    Raises:
        NothingToPlotError: no case has counted bytes, or nothing is known of the device.
    """
    if len(reports) > 1:
        raise NothingToPlotError("roofline: one report at a time, because each device has roofs of its own")
    (report,) = reports
    labels = case_labels([result.case for result in report.cases])
    measured = [result for result in report.cases if result.summary]
    points = [p for r in measured if (p := step_point(r, labels[r.case.case_id]))]
    if not points:
        raise NothingToPlotError(
            "roofline: no case of this report has a profiled step with counted bytes, so no case has an "
            "intensity"
        )
    roofs = known_roofs(report, measured)
    if not roofs:
        raise NothingToPlotError(
            "roofline: neither a probe nor a hardware profile says what this device reaches; "
            "`benchbox hw init` measures it"
        )
    known = {point.label for point in points}
    without = [labels[r.case.case_id] for r in measured if labels[r.case.case_id] not in known]
    notes = ["Bytes count every input read once and every output written once, so intensities are at most."]
    if report.ceilings is not None and (roofs[0].bytes_per_s or 0) > (
        report.ceilings.device_copy_bytes_per_s or math.inf
    ):
        notes.append("Bandwidth is the most that a class of operators reached, which is above the probe's.")
    notes += [f"No counted bytes for {listing(without)}."] if without else []
    where = report_labels(reports)[0]
    return Plot(
        title=f"Roofline: {where}",
        description=f"Arithmetic rate over intensity of {len(points)} cases under the roofs of the device.",
        columns=("case", "FLOP/byte", "TFLOP/s", *(f"of the roof ({roof.source})" for roof in roofs)),
        rows=tuple((*_cells(point), *(_share(point, roof) for roof in roofs)) for point in points),
        notes=tuple(notes),
        draw=lambda: _draw(f"Roofline · {where}", points, roofs),
    )


def step_point(result: CaseResult, label: str) -> Point | None:
    """The place of a case's whole step; ``None`` where its profile or its rate is unknown.

    Both coordinates count what the profiled step computed, so with what checkpointing computes again.
    """
    profile = profiled_step(result)
    if profile is None or result.summary is None:
        return None
    flops = sum(o.flops or 0 for o in profile.operators)
    moved = sum(o.least_bytes or 0 for o in profile.operators)
    if not flops or not moved:
        return None
    steps_per_s = result.summary.samples_per_second / result.case.global_batch_size
    return Point(label, result.case.precision, flops / moved, flops * steps_per_s / 1e12)


def profiled_step(result: CaseResult) -> ProfiledStep | None:
    """Of the first rank that profiled one."""
    ranks = [rank for attempt in result.attempts for rank in attempt.ranks]
    return next((rank.profile for rank in ranks if rank.profile), None)


def known_roofs(report: Report, results: Sequence[CaseResult]) -> list[Roofs]:
    """What was reached on this machine, then what the vendor states; those of which something is known.

    Of one case alone, the first is the roof that its verdict rests on.
    """
    found = []
    reached, bytes_per_s = _reached(report, results)
    if reached:
        found.append(Roofs("reached here", reached, bytes_per_s))
    profile = report.hardware_profile
    if profile is not None:
        stated = _rates(profile.peak_dense_tflops)
        per_s = profile.memory_bandwidth_gb_per_s
        if stated:
            found.append(Roofs("vendor", stated, None if per_s is None else per_s * 1e9))
    return found


def _reached(report: Report, results: Sequence[CaseResult]) -> tuple[dict[str, float], float | None]:
    """By this run's own probes, else by the profile's; the bandwidth is the most that the probe or a class of
    operators of ``results`` reached."""
    known = {p: found for p in PRECISION_COLORS if (found := _rates_of(report, p)) is not None}
    flats = {p: one.matmul_flops / 1e12 for p, one in known.items() if one.matmul_flops is not None}
    bandwidths = [bandwidth(profiled_step(r), known.get(r.case.precision)) for r in results]
    return flats, max((one for one in bandwidths if one is not None), default=None)


def _rates_of(report: Report, precision: Any) -> Rates | None:
    return rates(precision, report.ceilings, report.hardware_profile)


def _rates(rates: Any) -> dict[str, float]:
    return {name: rate for name in PRECISION_COLORS if (rate := getattr(rates, name)) is not None}


def _cells(point: Point) -> tuple[str, ...]:
    return (point.label, significant(point.intensity), significant(point.tflops))


def _share(point: Point, roof: Roofs) -> str:
    limit = roof.limit_tflops(point.precision, point.intensity)
    return UNKNOWN if not limit else percent(100 * point.tflops / limit)


def _draw(title: str, points: Sequence[Point], roofs: Sequence[Roofs]) -> Figure:
    figure = new_figure(title, 8.4, 5.0)
    axes = figure.subplots()
    precisions = [name for name in PRECISION_COLORS if any(p.precision == name for p in points)]
    low, high = _span(points, roofs)
    for roof, style in zip(roofs, ((0, (4, 2)), "-"), strict=False):
        _draw_roof(axes, roof, precisions, (low, high), style)
    for name in precisions:
        own = [point for point in points if point.precision == name]
        axes.plot(
            [p.intensity for p in own],
            [p.tflops for p in own],
            linestyle="none",
            marker=PRECISION_MARKERS[name],
            color=PRECISION_COLORS[name],
            markeredgecolor=INK,
            markeredgewidth=0.6,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(low, high)
    axes.set_xlabel("FLOP per byte, at most")
    axes.set_ylabel("TFLOP/s of a device")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:,g}")
    legend_below(figure, _handles(precisions, roofs))
    return figure


def _span(points: Sequence[Point], roofs: Sequence[Roofs]) -> tuple[float, float]:
    """Intensities from left to right: every point, and the bends of their roofs, which say on which side of
    one a point lies. A bend too far away for a picture is left outside."""
    intensities = [point.intensity for point in points]
    least, most = min(intensities), max(intensities)
    bends = [b for roof in roofs for p in points if (b := roof.bend(p.precision)) is not None]
    near = [bend for bend in bends if least / FAR < bend < most * FAR]
    return min([least / 6, *(bend / 2 for bend in near)]), max([most * 6, *(bend * 2 for bend in near)])


def _draw_roof(
    axes: Axes, roof: Roofs, precisions: Sequence[str], span: tuple[float, float], style: Any
) -> None:
    low, high = span
    for name in precisions:
        flat = roof.tflops.get(name)
        if flat is None:
            continue
        bend = roof.bend(name)
        xs = [low, high] if bend is None else [low, min(max(bend, low), high), high]
        heights = [roof.limit_tflops(name, x) or flat for x in xs]
        axes.plot(xs, heights, color=PRECISION_COLORS[name], linestyle=style, linewidth=1.4, zorder=1.5)


def _handles(precisions: Sequence[str], roofs: Sequence[Roofs]) -> list[Any]:
    from matplotlib.lines import Line2D

    handles: list[Any] = [
        Line2D([], [], color=PRECISION_COLORS[p], marker=PRECISION_MARKERS[p], linestyle="none", label=p)
        for p in precisions
    ]
    for roof, style in zip(roofs, ((0, (4, 2)), "-"), strict=False):
        handles.append(Line2D([], [], color=MUTED, linestyle=style, label=f"roof, {roof.source}"))  # type: ignore[arg-type]
    return handles
