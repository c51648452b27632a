"""Memory of a device: what was foretold, part by part, against what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from benchbox.errors import NothingToPlotError
from benchbox.report.plots.canvas import (
    BLACK,
    BLUE,
    GREEN,
    GRID,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    YELLOW,
    legend_below,
    new_figure,
)
from benchbox.report.plots.plot import BarName, Plot, report_labels
from benchbox.report.text import UNKNOWN, case_labels
from benchbox.report.text import memory as in_bytes
from benchbox.schema import CaseResult, MemoryEstimate, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_CASES = 24
GIB = 2.0**30
PARTS = (
    ("parameters", "parameters_bytes", BLUE),
    ("gradients", "gradients_bytes", SKY),
    ("optimizer state", "optimizer_state_bytes", GREEN),
    ("saved activations", "saved_activations_bytes", ORANGE),
    ("largest temporary", "largest_temporary_bytes", YELLOW),
    ("communication buffers", "communication_buffers_bytes", PURPLE),
)
"""Of the estimated peak, in the order in which they are stacked."""
MEASURED = (
    ("peak allocated", "peak_memory_allocated_bytes", "|", VERMILION),
    ("reserved", "peak_memory_reserved_bytes", "D", INK),
    ("used on the device", "device_memory_used_bytes", "o", INK),
    ("peak RSS of the worker", "peak_host_rss_bytes", "s", INK),
)


class _Row(NamedTuple):
    name: BarName
    estimate: MemoryEstimate | None
    measured: dict[str, int]
    """By the summary's field; what is unknown is missing."""
    outcome: str


def memory(reports: Sequence[Report]) -> Plot:
    """One bar for each case; without an estimate the measured marks stand alone.

    Raises:
        NothingToPlotError: no case has an estimate or a measured figure.
    """
    rows = [row for row in _rows(reports) if row.estimate or row.measured]
    if not rows:
        raise NothingToPlotError("memory: no case has a measured or an estimated figure")
    kept = sorted(sorted(rows, key=_size)[-MAX_CASES:], key=rows.index)
    notes = [f"The {MAX_CASES} largest of {len(rows)} cases."] if len(rows) > MAX_CASES else []
    without = sum(row.estimate is None for row in rows)
    if without:
        notes.append(f"No estimate in this report for {without} of {len(rows)} cases.")
    where = report_labels(reports)[0] if len(reports) == 1 else f"{len(reports)} reports"
    columns = ["estimated peak", *(name for name, _, _ in PARTS), *(name for name, _, _, _ in MEASURED)]
    return Plot(
        title=f"Memory: {where}",
        description=f"Memory of {len(rows)} cases, estimated parts stacked and measured peaks marked.",
        columns=("case", "outcome", *columns),
        rows=tuple(map(_cells, rows)),
        notes=tuple(notes),
        draw=lambda: _draw(f"Memory · {where}", kept),
    )


def measured_bytes(result: CaseResult, device: str) -> dict[str, int]:
    """The measured figures that say something on such a device: a GPU's own, or the host's."""
    fields = [field for _, field, _, _ in MEASURED if (field == "peak_host_rss_bytes") == (device == "cpu")]
    known = {field: getattr(result.summary, field, None) for field in fields}
    return {field: value for field, value in known.items() if value is not None}


def _rows(reports: Sequence[Report]) -> list[_Row]:
    rows = []
    for name, report in zip(report_labels(reports), reports, strict=True):
        labels = case_labels([result.case for result in report.cases])
        for result in report.cases:
            shown = BarName(labels[result.case.case_id], name if len(reports) > 1 else None)
            measured = measured_bytes(result, report.environment.device)
            rows.append(_Row(shown, result.memory_estimate, measured, result.outcome or "not finished"))
    return rows


def _size(row: _Row) -> int:
    return max([*row.measured.values(), row.estimate.peak_allocated_bytes if row.estimate else 0])


def _cells(row: _Row) -> tuple[str, ...]:
    parts = [getattr(row.estimate, field) if row.estimate else None for _, field, _ in PARTS]
    measured = [row.measured.get(field) for _, field, _, _ in MEASURED]
    peak = row.estimate.peak_allocated_bytes if row.estimate else None
    texts = [UNKNOWN if value is None else in_bytes(value) for value in (peak, *parts, *measured)]
    return (row.name.whole(), row.outcome, *texts)


def _draw(title: str, rows: Sequence[_Row]) -> Figure:
    figure = new_figure(title, 8.4, 1.5 + sum(row.name.height() for row in rows))
    axes = figure.subplots()
    axes.grid(visible=False, axis="y")
    longest = [max(row.measured.values(), default=0) / GIB for row in rows]
    axes.hlines(range(len(rows)), 0, longest, color=GRID, linewidth=2.5, zorder=0.9)  # behind the bars
    handles = [*_draw_estimates(axes, rows), *_draw_measured(axes, rows)]
    sizes = {row.estimate.device_memory_bytes for row in rows if row.estimate}
    if len(sizes) == 1 and (total := sizes.pop()) and total < 2.5 * max(map(_size, rows)):
        axes.axvline(total / GIB, color=BLACK, linewidth=1.2, linestyle=":")
        axes.annotate(
            f"device {in_bytes(total)}", (total / GIB, 1), xycoords=("data", "axes fraction"), fontsize=8,
            ha="right", va="bottom",
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [row.name.short(row.outcome) for row in rows], fontsize=8.5)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.set_xlabel("GiB")
    legend_below(figure, handles)
    return figure


def _draw_estimates(axes: Axes, rows: Sequence[_Row]) -> list[Any]:
    places = [place for place, row in enumerate(rows) if row.estimate]
    estimates = [row.estimate for row in rows if row.estimate]
    if not estimates:
        return []
    left = [0.0] * len(places)
    handles: list[Any] = []
    for name, field, color in PARTS:
        widths = [getattr(estimate, field) / GIB for estimate in estimates]
        if any(widths):
            handles.append(axes.barh(places, widths, left=left, height=0.62, color=color, label=name))
            left = [start + width for start, width in zip(left, widths, strict=True)]
    return handles


def _draw_measured(axes: Axes, rows: Sequence[_Row]) -> list[Any]:
    handles: list[Any] = []
    for name, field, marker, color in MEASURED:
        known = [(place, row.measured[field]) for place, row in enumerate(rows) if field in row.measured]
        if known:
            handles += axes.plot(
                [size / GIB for _, size in known], [place for place, _ in known], linestyle="none",
                marker=marker, color=color,
                markersize=17 if marker == "|" else 5, markeredgewidth=2.6 if marker == "|" else 1.2,
                markerfacecolor="none", label=f"measured: {name}",
            )  # fmt: skip
    return handles
