"""Throughput over the number of devices against the ideal, and the efficiency beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from benchbox.errors import NothingToPlotError
from benchbox.report.figures import RANKS_OF_A_CPU
from benchbox.report.plots.canvas import (
    BLUE,
    GRID,
    INK,
    MARKERS,
    MUTED,
    SERIES,
    VERMILION,
    doubling_axis,
    legend_below,
    new_figure,
    panels,
)
from benchbox.report.plots.plot import BarName, Plot, listing, report_labels, short_label, told_apart
from benchbox.report.text import UNKNOWN, case_label, percent, rate_text
from benchbox.schema import Case, CaseResult, Interval, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_LINES = 7
"""Of the colours that can be seen on white."""
MAX_PAIRS = 48
_FEWER: Any = {"marker": "o", "color": BLUE, "markerfacecolor": "none", "markeredgewidth": 1.4}
_MORE: Any = {"marker": "o", "color": BLUE}
_IDEAL: Any = {"marker": "|", "color": INK, "markersize": 11, "markeredgewidth": 1.6}
_EFFICIENCY: Any = {
    "weak": {"marker": "o", "color": BLUE},
    "strong": {"marker": "D", "color": VERMILION, "markerfacecolor": "none", "markeredgewidth": 1.4},
}
_STRONG: Any = {"linestyle": (0, (4, 2)), "markerfacecolor": "none"}


class _Line(NamedTuple):
    """A configuration on rising numbers of devices."""

    name: BarName
    results: list[CaseResult]
    baseline: CaseResult | None
    """The case of one device that its weak efficiency is against. ``results`` begins with it where the
    configuration itself did not run on one device, as ``single`` stands for one device of every strategy."""


_Lines = dict[str, _Line]


def scaling(reports: Sequence[Report]) -> Plot:
    """One line for each configuration that ran on several numbers of devices, or can be set against one.

    Raises:
        NothingToPlotError: none did.
    """
    found = _lines(reports)
    lines = {name: line for name, line in found.items() if len({r.case.world_size for r in line.results}) > 1}
    if not lines:
        raise NothingToPlotError("scaling: no configuration was measured on two numbers of devices")
    counts = {result.case.world_size for line in lines.values() for result in line.results}
    # Two marks are no course: rows then, which have room for many configurations.
    draw, room = (_draw_pairs, MAX_PAIRS) if len(counts) == 2 else (_draw, MAX_LINES)
    kept = dict(list(lines.items())[:room])
    spare = [name for name in lines if name not in kept]
    where = report_labels(reports)[0] if len(reports) == 1 else f"{len(reports)} reports"
    notes = [f"No room for {listing(spare)}."] if spare else []
    if any(report.environment.device == "cpu" for report in reports):
        notes.append(f"{RANKS_OF_A_CPU[0].upper()}{RANKS_OF_A_CPU[1:]}.")
    if any(line.baseline is line.results[0] for line in lines.values()):
        notes.append("What did not run on one device begins at the case that its efficiency is against.")
    rows = [(name, *_cells(result)) for name, line in lines.items() for result in line.results]
    count = "one configuration" if len(lines) == 1 else f"{len(lines)} configurations"
    return Plot(
        title=f"Scaling: {where}",
        description=f"Samples/s and efficiency of {count} on up to {max(counts)} devices.",
        columns=("configuration", "devices", "samples/s", "weak efficiency", "strong efficiency"),
        rows=tuple(rows),
        notes=tuple(notes),
        draw=lambda: draw(f"Scaling · {where}", kept),
    )


def _lines(reports: Sequence[Report]) -> _Lines:
    found: dict[str, list[CaseResult]] = {}
    by_id: dict[str, dict[str, CaseResult]] = {}
    names: dict[str, BarName] = {}
    name_of = told_apart([r.case for report in reports for r in report.cases], _without_world_size)
    for label, report in zip(report_labels(reports), reports, strict=True):
        measured = [result for result in report.cases if result.summary is not None]
        for result in sorted(measured, key=lambda r: r.case.world_size):
            name = BarName(name_of(result.case), None if len(reports) == 1 else label)
            shown = name.whole()
            names[shown] = name
            found.setdefault(shown, []).append(result)
            by_id[shown] = {one.case.case_id: one for one in measured}
    return {shown: _line(names[shown], results, by_id[shown]) for shown, results in found.items()}


def _line(name: BarName, results: list[CaseResult], by_id: Mapping[str, CaseResult]) -> _Line:
    named = [by_id.get(r.scaling.weak_baseline_case_id or "") for r in results if r.scaling is not None]
    baseline = next((one for one in named if one is not None and one.case.world_size == 1), None)
    if baseline is not None and results[0].case.world_size > 1:
        results = [baseline, *results]
    return _Line(name, results, baseline)


def _without_world_size(case: Case) -> str:
    words = case_label(case)
    return words.replace(f" x{case.world_size}", "", 1) if case.world_size > 1 else words


def _cells(result: CaseResult) -> tuple[str, ...]:
    assert result.summary is not None
    known = result.scaling
    return (
        str(result.case.world_size),
        rate_text(result.summary.samples_per_second, result.summary.samples_per_second_interval),
        _share(known.weak_efficiency if known else None),
        _share(known.strong_efficiency if known else None),
    )


def _share(value: float | None) -> str:
    return UNKNOWN if value is None else percent(100 * value)


def _draw(title: str, lines: _Lines) -> Figure:
    from matplotlib.lines import Line2D

    results = [result for line in lines.values() for result in line.results]
    weak, strong = (_any_efficiency(results, kind) for kind in ("weak", "strong"))
    figure, axes_of = panels(title, 2 if weak or strong else 1, height=3.6)
    handles: list[Any] = []
    for place, (name, line) in enumerate(lines.items()):
        color, marker = SERIES[place % len(SERIES)], MARKERS[place % len(MARKERS)]
        _draw_rates(axes_of[0], line, color, marker)
        for axes in axes_of[1:]:
            _draw_efficiency(axes, line.results, color, marker)
        handles.append(Line2D([], [], color=color, marker=marker, label=short_label(name, 64)))
    handles.append(Line2D([], [], color=INK, linestyle=":", label="ideal"))
    if strong:
        if weak:
            handles.append(Line2D([], [], color=INK, marker="o", label="weak scaling"))
        handles.append(Line2D([], [], color=INK, marker="o", label="strong scaling", **_STRONG))
    sizes = [result.case.world_size for result in results]
    for axes, (heading, unit) in zip(
        axes_of, (("throughput", "samples/s"), ("efficiency", "%")), strict=False
    ):
        axes.set_title(heading)
        axes.set_ylabel(unit)
        doubling_axis(axes, sizes, "devices")
        axes.set_ylim(0, 1.05 * max(axes.get_ylim()[1], 100 if unit == "%" else 0))
        axes.yaxis.set_major_formatter("{x:,g}")
    for axes in axes_of[1:]:
        axes.axhline(100, color=MUTED, linestyle=":", linewidth=1.2)
    legend_below(figure, handles)
    return figure


def _draw_pairs(title: str, lines: _Lines) -> Figure:
    """A row for each configuration: its rates on both numbers of devices, and its efficiency."""
    from matplotlib.lines import Line2D

    shown = list(lines.values())
    results = [result for line in shown for result in line.results]
    efficiencies = [kind for kind in ("weak", "strong") if _any_efficiency(results, kind)]
    figure = new_figure(title, 8.4, 1.7 + sum(line.name.height() for line in shown))
    axes_of = figure.subplots(1, 2 if efficiencies else 1, sharey=True, squeeze=False).ravel()
    counts = sorted({result.case.world_size for result in results})
    for place, line in enumerate(shown):
        _draw_pair(axes_of[0], place, line)
        for kind in efficiencies:
            _draw_share(axes_of[1], place, line, kind)
    for axes, (heading, unit) in zip(
        axes_of, (("throughput", "samples/s"), ("efficiency", "%")), strict=False
    ):
        axes.set_title(heading)
        axes.set_xlabel(unit)
        axes.set_xlim(0, 1.05 * max(axes.get_xlim()[1], 100 if unit == "%" else 0))
        axes.xaxis.set_major_formatter("{x:,g}")
        axes.locator_params(axis="x", nbins=5)
        axes.grid(visible=False, axis="y")
    for axes in axes_of[1:]:
        axes.tick_params(axis="y", left=False)
        axes.axvline(100, color=MUTED, linestyle=":", linewidth=1.2)
    axes_of[0].set_yticks(range(len(shown)), [line.name.short() for line in shown], fontsize=8.5)
    axes_of[0].set_ylim(len(shown) - 0.4, -0.6)
    marks = zip(
        ("1 device" if size == 1 else f"{size} devices" for size in counts), (_FEWER, _MORE), strict=True
    )
    handles = [Line2D([], [], linestyle="none", label=label, **style) for label, style in marks]
    handles.append(Line2D([], [], linestyle="none", label=f"ideal on {counts[1]}", **_IDEAL))
    handles += [
        Line2D([], [], linestyle="none", label=f"{k} scaling", **_EFFICIENCY[k]) for k in efficiencies
    ]
    legend_below(figure, handles)
    return figure


def _draw_pair(axes: Axes, place: int, line: _Line) -> None:
    rates = [result.summary.samples_per_second for result in line.results if result.summary]
    axes.hlines(place, rates[0], rates[-1], color=GRID, linewidth=2.5, zorder=0.9)
    axes.plot([_of_one(line) * line.results[-1].case.world_size], [place], **_IDEAL)
    axes.plot(rates[:1], [place], **_FEWER)
    axes.plot(rates[-1:], [place], **_MORE)


def _draw_share(axes: Axes, place: int, line: _Line, kind: str) -> None:
    found = line.results[-1].scaling
    value = getattr(found, f"{kind}_efficiency", None)
    if value is not None:
        at = place - 0.14 if kind == "weak" else place + 0.14
        interval = getattr(found, f"{kind}_efficiency_interval")
        if interval is not None:
            color = _EFFICIENCY[kind]["color"]
            axes.hlines(at, 100 * interval.low, 100 * interval.high, color=color, linewidth=4, alpha=0.3)
        axes.plot([100 * value], [at], **_EFFICIENCY[kind])


def _of_one(line: _Line) -> float:
    """Samples a second of one device, of what efficiency is against."""
    start = line.baseline or line.results[0]
    assert start.summary is not None
    return start.summary.samples_per_second / start.case.world_size


def _any_efficiency(results: Sequence[CaseResult], kind: str) -> bool:
    return any(getattr(result.scaling, f"{kind}_efficiency", None) is not None for result in results)


def _draw_rates(axes: Axes, line: _Line, color: str, marker: str) -> None:
    """The ideal begins at what efficiency is against, so that both panels say the same."""
    sizes = [result.case.world_size for result in line.results]
    rates = [result.summary.samples_per_second for result in line.results if result.summary]
    axes.plot(sizes, rates, color=color, marker=marker)
    axes.plot(sizes, [_of_one(line) * size for size in sizes], color=color, linestyle=":", linewidth=1.2)


def _draw_efficiency(axes: Axes, results: Sequence[CaseResult], color: str, marker: str) -> None:
    """Strong scaling is dashed and hollow: on two numbers of devices each line is a single mark."""
    for kind, style in (("weak", {}), ("strong", _STRONG)):
        known = [
            (result.case.world_size, value, getattr(result.scaling, f"{kind}_efficiency_interval"))
            for result in results
            if (value := getattr(result.scaling, f"{kind}_efficiency", None)) is not None
        ]
        if known:
            sizes = [size for size, _, _ in known]
            axes.plot(sizes, [100 * value for _, value, _ in known], color=color, marker=marker, **style)
            ends = [interval or Interval(low=value, high=value) for _, value, interval in known]
            axes.fill_between(
                sizes, [100 * e.low for e in ends], [100 * e.high for e in ends], color=color, alpha=0.18
            )
