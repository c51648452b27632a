"""Throughput over batch size: one line a precision, dashed with checkpointing, intervals shaded."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from benchbox.errors import NothingToPlotError
from benchbox.report.facts import OutcomeWord, outcome_word
from benchbox.report.plots.canvas import (
    INK,
    MARKERS,
    PRECISION_COLORS,
    PRECISION_MARKERS,
    SERIES,
    doubling_axis,
    legend_below,
    panels,
)
from benchbox.report.plots.plot import (
    Plot,
    listing,
    report_labels,
    short_label,
    told_apart,
    workload_label,
)
from benchbox.report.text import UNKNOWN, ends_text, rate_text
from benchbox.schema import CaseResult, CaseSummary, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_PANELS = 6
_CHECKPOINTING: Any = {"linestyle": (0, (4, 2)), "markerfacecolor": "none"}
_FAILURES: dict[OutcomeWord, tuple[str, str]] = {
    "oom": ("x", "out of memory"),
    "invalid": ("1", "invalid"),
    "crashed": ("+", "crashed"),
    "timeout": ("|", "timeout"),
    "unsupported": ("_", "unsupported"),
    "not finished": ("2", "not finished"),
}
"""The mark of each outcome without a figure, and its name in the legend."""


class _Line(NamedTuple):
    name: str
    color: str
    marker: str
    checkpointing: bool
    results: list[CaseResult]
    """By batch size, those without a figure too."""


_Panels = dict[str, dict[tuple[str, bool], _Line]]


def throughput(reports: Sequence[Report]) -> Plot:
    """One panel for each workload; of several reports one for each workload and precision, a line a device.

    Raises:
        NothingToPlotError: no configuration was measured with two batch sizes.
    """
    found = _panels(reports)
    curves = {name: lines for name, lines in found.items() if _num_batch_sizes(lines) > 1}
    if not curves:
        raise NothingToPlotError("throughput: no configuration was measured with two batch sizes")
    kept = dict(list(curves.items())[:MAX_PANELS])
    single = [name for name, lines in found.items() if _num_batch_sizes(lines) == 1]
    without = [name for name, lines in found.items() if _num_batch_sizes(lines) == 0]
    spare = [name for name in curves if name not in kept]
    notes = [f"One batch size only, so no curve: {listing(single)}."] if single else []
    notes += [f"No figure for {listing(without)}."] if without else []
    notes += [f"No room for {listing(spare)}."] if spare else []
    rows = [
        (name, line.name, *_cells(result))
        for name, lines in curves.items()
        for line in lines.values()
        for result in line.results
    ]
    where = report_labels(reports)[0] if len(reports) == 1 else f"{len(reports)} reports"
    return Plot(
        title=f"Throughput over batch size: {where}",
        description=_description(curves),
        columns=("workload", "line", "batch a device", "samples/s", "95 % interval", "outcome"),
        rows=tuple(rows),
        notes=tuple(notes),
        draw=lambda: _draw(f"Throughput over batch size · {where}", kept),
    )


def _panels(reports: Sequence[Report]) -> _Panels:
    found: _Panels = {}
    labels = report_labels(reports)
    workload_of = told_apart([r.case for report in reports for r in report.cases], workload_label)
    for place, report in enumerate(reports):
        for result in sorted(report.cases, key=lambda r: r.case.per_device_batch_size):
            case = result.case
            workload, precision = workload_of(case), str(case.precision)
            if len(reports) == 1:
                panel, name = workload, precision
                color, marker = PRECISION_COLORS[precision], PRECISION_MARKERS[precision]
            else:
                panel, name = f"{workload}, {precision}", labels[place]
                color, marker = SERIES[place % len(SERIES)], MARKERS[place % len(MARKERS)]
            checkpointing = case.gradient_checkpointing
            shown = f"{name}, checkpointing" if checkpointing else name
            line = found.setdefault(panel, {}).setdefault(
                (name, checkpointing), _Line(shown, color, marker, checkpointing, [])
            )
            line.results.append(result)
    return found


def _measured(result: CaseResult) -> CaseSummary | None:
    """The figures of a case that computes what it should."""
    return result.summary if result.outcome in ("ok", None) else None


def _num_batch_sizes(lines: dict[tuple[str, bool], _Line]) -> int:
    """Of the line that has the most, failed ones among them, where at least one was measured."""
    return max(
        (
            len({result.case.per_device_batch_size for result in line.results})
            for line in lines.values()
            if any(_measured(result) for result in line.results)
        ),
        default=0,
    )


def _cells(result: CaseResult) -> tuple[str, ...]:
    summary = _measured(result)
    interval = summary.samples_per_second_interval if summary else None
    return (
        f"{result.case.per_device_batch_size:,}",
        rate_text(summary.samples_per_second, interval) if summary else UNKNOWN,
        (ends_text(summary.samples_per_second, interval) if summary else None) or UNKNOWN,
        outcome_word(result),
    )


def _description(curves: _Panels) -> str:
    measured = [
        (summary.samples_per_second, line.name, result.case.per_device_batch_size, summary)
        for lines in curves.values()
        for line in lines.values()
        for result in line.results
        if (summary := _measured(result))
    ]
    rate, name, batch, summary = max(measured, key=lambda one: one[0])
    num_lines = sum(map(len, curves.values()))
    count = "one line" if num_lines == 1 else f"{num_lines} lines"
    best = f"{rate_text(rate, summary.samples_per_second_interval)} samples/s, {name} at batch {batch:,}"
    return f"Samples per second over batch size, {count}. The highest is {best}."


def _draw(title: str, kept: _Panels) -> Figure:
    figure, grid = panels(title, len(kept))
    for axes, (name, lines) in zip(grid, kept.items(), strict=True):
        axes.set_title(short_label(name, 84 if len(kept) == 1 else 46))
        num_marks: dict[int, int] = {}
        for line in lines.values():
            _draw_line(axes, line)
            _mark_failures(axes, line, num_marks)
        sizes = [r.case.per_device_batch_size for line in lines.values() for r in line.results]
        doubling_axis(axes, sizes, "batch size of a device")
        axes.set_ylabel("samples/s")
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter("{x:,g}")
    legend_below(figure, _handles(kept))
    return figure


def _draw_line(axes: Axes, line: _Line) -> None:
    """Broken where a batch size has no figure: nothing was measured on either side of it."""
    style = _CHECKPOINTING if line.checkpointing else {}
    for is_known, group in groupby(line.results, key=lambda result: _measured(result) is not None):
        if not is_known:
            continue
        measured = [(r.case.per_device_batch_size, r.summary) for r in group if r.summary]
        batches = [batch for batch, _ in measured]
        rates = [summary.samples_per_second for _, summary in measured]
        intervals = [summary.samples_per_second_interval for _, summary in measured]
        low = [i.low if i else rate for i, rate in zip(intervals, rates, strict=True)]
        high = [i.high if i else rate for i, rate in zip(intervals, rates, strict=True)]
        axes.plot(batches, rates, color=line.color, marker=line.marker, **style)
        axes.fill_between(batches, low, high, color=line.color, alpha=0.18, linewidth=0)
        if len(batches) == 1:  # a band needs two points
            axes.vlines(batches, low, high, color=line.color, linewidth=5, alpha=0.3)


def _mark_failures(axes: Axes, line: _Line, num_marks: dict[int, int]) -> None:
    """A mark at the foot of the batch sizes without a figure; those of several lines above each other."""
    for result in line.results:
        if _measured(result) is not None:
            continue
        batch = result.case.per_device_batch_size
        height = 0.03 + 0.06 * num_marks.get(batch, 0)
        num_marks[batch] = num_marks.get(batch, 0) + 1
        axes.plot(
            [batch],
            [height],
            transform=axes.get_xaxis_transform(),
            color=line.color,
            **_mark(outcome_word(result)),
            clip_on=False,
        )


def _mark(outcome: OutcomeWord) -> Any:
    # An ``ok`` without figures is a report's own contradiction, and no mark of its own.
    marker, label = _FAILURES.get(outcome, _FAILURES["not finished"])
    return {"marker": marker, "label": label, "markersize": 8, "markeredgewidth": 2.2, "linestyle": "none"}


def _handles(kept: _Panels) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    drawn = [line for lines in kept.values() for line in lines.values()]
    by_name: dict[str, _Line] = {line.name.removesuffix(", checkpointing"): line for line in drawn}
    handles: list[Any] = [
        Line2D([], [], color=line.color, marker=line.marker, label=name) for name, line in by_name.items()
    ]
    if any(line.checkpointing for line in drawn):
        handles.append(Line2D([], [], color=INK, marker="o", label="with checkpointing", **_CHECKPOINTING))
    handles.append(Patch(facecolor=INK, alpha=0.18, label="95 % interval"))
    failed = [outcome_word(r) for line in drawn for r in line.results if _measured(r) is None]
    handles += [Line2D([], [], color=INK, **_mark(outcome)) for outcome in _FAILURES if outcome in failed]
    return handles
