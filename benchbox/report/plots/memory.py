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
    MUTED,
    ORANGE,
    PURPLE,
    SKY,
    SURFACE,
    VERMILION,
    YELLOW,
    legend_below,
    new_figure,
)
from benchbox.report.plots.plot import BarName, Plot, report_labels
from benchbox.report.text import UNKNOWN, case_labels
from benchbox.report.text import memory as in_bytes
from benchbox.schema import CaseResult, Interval, MemoryEstimate, Report

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
CONTEXT, REST = "context", "rest of the peak"
_SHADES: Any = {REST: {"alpha": 0.25}, CONTEXT: {"alpha": 0.6}}
MEASURED = (
    ("peak allocated", "peak_memory_allocated_bytes", "|", VERMILION),
    ("reserved", "peak_memory_reserved_bytes", "D", INK),
    ("used on the device", "device_memory_used_bytes", "o", INK),
    ("peak RSS of the worker", "peak_host_rss_bytes", "s", INK),
)


class Stack(NamedTuple):
    """A bar that ends at the estimated peak of the device."""

    segments: tuple[tuple[str, int], ...]
    """Name and bytes: the parts as far as they stand at once, the rest of the peak, the context."""
    not_at_once_bytes: int
    """By how much the parts together go past the estimated peak of all tensors."""


def stack(estimate: MemoryEstimate) -> Stack:
    """Each part is the most that it takes at any time, so that they seldom add up: what goes past the peak of
    the tensors is cut from the last ones, and what lacks, with the allocator's reserve, is the rest."""
    context = min(estimate.context_bytes, estimate.peak_device_bytes)
    room = min(estimate.peak_allocated_bytes, estimate.peak_device_bytes - context)
    segments, total, whole = [], 0, 0
    for name, field, _ in PARTS:
        size = getattr(estimate, field)
        kept = min(size, room - total)
        segments.append((name, kept))
        total, whole = total + kept, whole + size
    segments += [(REST, estimate.peak_device_bytes - context - total), (CONTEXT, context)]
    return Stack(tuple(segments), whole - total)


def foretold(estimate: MemoryEstimate, field: str) -> tuple[int | None, Interval | None]:
    """What the estimate says of one of :data:`MEASURED`, and within which interval it lies; ``None`` where
    it says nothing. On a CPU the device's peak is the worker's resident size."""
    if field == "peak_memory_allocated_bytes":
        return estimate.peak_allocated_bytes, estimate.peak_allocated_interval_bytes
    if field == "peak_memory_reserved_bytes":
        return estimate.peak_reserved_bytes, None
    return estimate.peak_device_bytes, estimate.peak_device_interval_bytes


def foretold_text(estimate: MemoryEstimate, field: str) -> str:
    """``4.43 GiB (3.54 GiB to 5.81 GiB)``; an interval without width is not shown."""
    value, interval = foretold(estimate, field)
    if value is None:
        return UNKNOWN
    ends = [] if interval is None else [in_bytes(interval.low), in_bytes(interval.high)]
    return in_bytes(value) if len(set(ends)) < 2 else f"{in_bytes(value)} ({' to '.join(ends)})"


class _Row(NamedTuple):
    name: BarName
    estimate: MemoryEstimate | None
    measured: dict[str, int]
    """By the summary's field; what is unknown is missing."""
    outcome: str
    device: str


def memory(reports: Sequence[Report]) -> Plot:
    """One bar for each case, which ends at its estimated peak; without an estimate the measured marks stand
    alone.

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
    if len(rows) > without:
        notes.append(
            "Parts do not all stand at the same time: a bar is cut off at the estimated peak, whose interval "
            "the whiskers are."
        )
    columns = [*(name for name, _, _ in PARTS), "not at the same time", REST, CONTEXT]
    columns += [f"{name}, {how}" for name, _, _, _ in MEASURED for how in ("estimated", "measured")]
    return Plot(
        title=f"Memory: {where}",
        description=f"Memory of {len(rows)} cases, estimated parts stacked up to the estimated peak, "
        "measured peaks marked.",
        columns=("case", "outcome", *columns),
        rows=tuple(map(_cells, rows)),
        notes=tuple(notes),
        draw=lambda: _draw(f"Memory · {where}", kept),
    )


def measured_bytes(result: CaseResult, device: str) -> dict[str, int]:
    """The measured figures that say something on such a device: a GPU's own, or the host's."""
    known = {field: getattr(result.summary, field, None) for field in fields_of(device)}
    return {field: value for field, value in known.items() if value is not None}


def fields_of(device: str) -> list[str]:
    """Those of :data:`MEASURED` that mean something on such a device."""
    return [field for _, field, _, _ in MEASURED if (field == "peak_host_rss_bytes") == (device == "cpu")]


def _rows(reports: Sequence[Report]) -> list[_Row]:
    rows = []
    for name, report in zip(report_labels(reports), reports, strict=True):
        labels = case_labels([result.case for result in report.cases])
        for result in report.cases:
            shown = BarName(labels[result.case.case_id], name if len(reports) > 1 else None)
            device, outcome = report.environment.device, result.outcome or "not finished"
            measured = measured_bytes(result, device)
            rows.append(_Row(shown, result.memory_estimate, measured, outcome, device))
    return rows


def _size(row: _Row) -> int:
    return max([*row.measured.values(), row.estimate.peak_device_bytes if row.estimate else 0])


_NUM_PARTS = len(PARTS) + 3


def _cells(row: _Row) -> tuple[str, ...]:
    texts = [text for _, text in estimated_parts(row.estimate)] if row.estimate else [UNKNOWN] * _NUM_PARTS
    shown = fields_of(row.device)
    for _, field, _, _ in MEASURED:
        texts.append(foretold_text(row.estimate, field) if row.estimate and field in shown else UNKNOWN)
        texts.append(in_bytes(row.measured[field]) if field in row.measured else UNKNOWN)
    return (row.name.whole(), row.outcome, *texts)


def estimated_parts(estimate: MemoryEstimate) -> list[tuple[str, str]]:
    """Name and size of each part, whole, and what makes their sum the estimated peak of the device."""
    stacked = stack(estimate)
    ends = dict(stacked.segments)
    return [
        *((name, in_bytes(getattr(estimate, field))) for name, field, _ in PARTS),
        ("not at the same time", f"−{in_bytes(stacked.not_at_once_bytes)}"),
        *((name, in_bytes(ends[name])) for name in (REST, CONTEXT)),
    ]


def _draw(title: str, rows: Sequence[_Row]) -> Figure:
    figure = new_figure(title, 8.4, 1.5 + sum(row.name.height() for row in rows))
    axes = figure.subplots()
    axes.grid(visible=False, axis="y")
    ends = [row.estimate.peak_device_bytes / GIB if row.estimate else 0.0 for row in rows]
    longest = [
        max([end, *(size / GIB for size in row.measured.values())])
        for end, row in zip(ends, rows, strict=True)
    ]
    axes.hlines(range(len(rows)), ends, longest, color=GRID, linewidth=2.5, zorder=0.9)
    handles = [*_draw_estimates(axes, rows), *_draw_peaks(axes, rows), *_draw_measured(axes, rows)]
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
    stacks = [dict(stack(row.estimate).segments) for row in rows if row.estimate]
    left = [0.0] * len(places)
    handles: list[Any] = []
    for name, color in (*((name, color) for name, _, color in PARTS), (REST, MUTED), (CONTEXT, MUTED)):
        widths = [segments[name] / GIB for segments in stacks]
        if any(widths):
            style = {"height": 0.62, "color": color, "linewidth": 0, **_SHADES.get(name, {})}
            handles.append(axes.barh(places, widths, left=left, label=name, **style))
            left = [start + width for start, width in zip(left, widths, strict=True)]
    return handles


def _draw_peaks(axes: Axes, rows: Sequence[_Row]) -> list[Any]:
    """A whisker over the interval of each peak that something measured is held against."""
    handles: list[Any] = []
    for place, row in enumerate(rows):
        for name, field, _, color in MEASURED if row.estimate else ():
            value, interval = foretold(row.estimate, field) if row.estimate else (None, None)
            if field not in fields_of(row.device) or value is None or interval is None:
                continue
            ends = [[max(0.0, value - interval.low) / GIB], [max(0.0, interval.high - value) / GIB]]
            drawn = axes.errorbar(
                [value / GIB], [place + 0.41], xerr=ends, color=color, fmt=".", markersize=5, capsize=2.5,
                elinewidth=1.2, label=f"estimated: {name}",
            )  # fmt: skip
            if drawn.get_label() not in {handle.get_label() for handle in handles}:
                handles.append(drawn)
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
                markerfacecolor=SURFACE, label=f"measured: {name}",
            )  # fmt: skip
    return handles
