"""Throughput over the number of devices against the ideal, and the efficiency beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchbox.errors import NothingToPlotError
from benchbox.report.figures import RANKS_OF_A_CPU
from benchbox.report.plots.canvas import INK, MARKERS, MUTED, SERIES, doubling_axis, legend_below, panels
from benchbox.report.plots.plot import Plot, listing, report_labels
from benchbox.report.text import UNKNOWN, case_label, percent, significant
from benchbox.schema import Case, CaseResult, Interval, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_LINES = 8

_Lines = dict[str, list[CaseResult]]


def scaling(reports: Sequence[Report]) -> Plot:
    """One line for each configuration that ran on several numbers of devices.

    Raises:
        NothingToPlotError: none did.
    """
    found = _lines(reports)
    lines = {name: r for name, r in found.items() if len({x.case.world_size for x in r}) > 1}
    if not lines:
        raise NothingToPlotError("scaling: no configuration was measured on two numbers of devices")
    kept = dict(list(lines.items())[:MAX_LINES])
    spare = [name for name in lines if name not in kept]
    where = report_labels(reports)[0] if len(reports) == 1 else f"{len(reports)} reports"
    notes = [f"No room for {listing(spare)}."] if spare else []
    if any(report.environment.device == "cpu" for report in reports):
        notes.append(f"{RANKS_OF_A_CPU[0].upper()}{RANKS_OF_A_CPU[1:]}.")
    rows = [(name, *_cells(result)) for name, results in lines.items() for result in results]
    most = max(result.case.world_size for results in lines.values() for result in results)
    return Plot(
        title=f"Scaling: {where}",
        description=f"Samples/s and efficiency of {len(lines)} configurations on up to {most} devices.",
        columns=("configuration", "devices", "samples/s", "weak efficiency", "strong efficiency"),
        rows=tuple(rows),
        notes=tuple(notes),
        draw=lambda: _draw(f"Scaling · {where}", kept),
    )


def _lines(reports: Sequence[Report]) -> _Lines:
    found: _Lines = {}
    labels = report_labels(reports)
    for label, report in zip(labels, reports, strict=True):
        for result in sorted(report.cases, key=lambda r: r.case.world_size):
            if result.summary is not None:
                name = _without_world_size(result.case)
                shown = name if len(reports) == 1 else f"{name}, {label}"
                found.setdefault(shown, []).append(result)
    return found


def _without_world_size(case: Case) -> str:
    words = case_label(case)
    return words.replace(f" x{case.world_size}", "", 1) if case.world_size > 1 else words


def _cells(result: CaseResult) -> tuple[str, ...]:
    assert result.summary is not None
    known = result.scaling
    return (
        str(result.case.world_size),
        significant(result.summary.samples_per_second, 4),
        _share(known.weak_efficiency if known else None),
        _share(known.strong_efficiency if known else None),
    )


def _share(value: float | None) -> str:
    return UNKNOWN if value is None else percent(100 * value)


def _draw(title: str, lines: _Lines) -> Figure:
    from matplotlib.lines import Line2D

    figure, (left, right) = panels(title, 2, height=3.6)
    sizes = [result.case.world_size for results in lines.values() for result in results]
    handles: list[Any] = []
    for place, (name, results) in enumerate(lines.items()):
        color, marker = SERIES[place % len(SERIES)], MARKERS[place % len(MARKERS)]
        _draw_rates(left, results, color, marker)
        _draw_efficiency(right, results, color, marker)
        handles.append(Line2D([], [], color=color, marker=marker, label=name))
    handles.append(Line2D([], [], color=INK, linestyle=":", label="ideal"))
    if any(r.scaling and r.scaling.strong_efficiency for results in lines.values() for r in results):
        handles.append(Line2D([], [], color=INK, linestyle=(0, (4, 2)), label="strong scaling"))
    for axes, heading, unit in ((left, "throughput", "samples/s"), (right, "efficiency", "%")):
        axes.set_title(heading)
        axes.set_ylabel(unit)
        doubling_axis(axes, sizes, "devices")
        axes.set_ylim(0, 1.05 * max(axes.get_ylim()[1], 100 if unit == "%" else 0))
        axes.yaxis.set_major_formatter("{x:,g}")
    right.axhline(100, color=MUTED, linestyle=":", linewidth=1.2)
    legend_below(figure, handles)
    return figure


def _draw_rates(axes: Axes, results: Sequence[CaseResult], color: str, marker: str) -> None:
    sizes = [result.case.world_size for result in results]
    rates = [result.summary.samples_per_second for result in results if result.summary]
    axes.plot(sizes, rates, color=color, marker=marker)
    ideal = [rates[0] * size / sizes[0] for size in sizes]
    axes.plot(sizes, ideal, color=color, linestyle=":", linewidth=1.2)


def _draw_efficiency(axes: Axes, results: Sequence[CaseResult], color: str, marker: str) -> None:
    for kind, style in (("weak", "-"), ("strong", (0, (4, 2)))):
        known = [
            (result.case.world_size, value, getattr(result.scaling, f"{kind}_efficiency_interval"))
            for result in results
            if (value := getattr(result.scaling, f"{kind}_efficiency", None)) is not None
        ]
        if known:
            sizes = [size for size, _, _ in known]
            axes.plot(
                sizes, [100 * value for _, value, _ in known], color=color, marker=marker, linestyle=style
            )
            ends = [interval or Interval(low=value, high=value) for _, value, interval in known]
            axes.fill_between(
                sizes, [100 * e.low for e in ends], [100 * e.high for e in ends], color=color, alpha=0.18
            )
