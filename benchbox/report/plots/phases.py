"""Where a step's time goes, a bar for each case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from benchbox.errors import NothingToPlotError
from benchbox.report.facts import phase_times
from benchbox.report.plots.canvas import BLUE, GREEN, INK, ORANGE, PURPLE, SKY, legend_below, new_figure
from benchbox.report.plots.plot import BarName, Plot, report_labels
from benchbox.report.text import case_labels, duration
from benchbox.schema import PhaseTimes, Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_CASES = 24
PHASES = (
    ("input wait", "input_wait_ns", PURPLE),
    ("host to device", "host_to_device_ns", ORANGE),
    ("forward", "forward_ns", SKY),
    ("backward", "backward_ns", BLUE),
    ("optimizer", "optimizer_ns", GREEN),
)


class _Row(NamedTuple):
    name: BarName
    phases: PhaseTimes
    rate: float


def phase_shares(phases: PhaseTimes) -> list[float]:
    """Share of each of :data:`PHASES` in their sum; all zero where no phase took any time."""
    whole_ns = phases.whole_ns
    return [getattr(phases, field) / whole_ns if whole_ns else 0.0 for _, field, _ in PHASES]


def phase_cells(phases: PhaseTimes) -> list[str]:
    """``1.20 ms (12 %)``: each of :data:`PHASES` and its share."""
    return [
        f"{duration(getattr(phases, field))} ({100 * share:.0f} %)"
        for (_, field, _), share in zip(PHASES, phase_shares(phases), strict=True)
    ]


def phases(reports: Sequence[Report]) -> Plot:
    """One bar for each case that timed its phases, in shares of their sum.

    Raises:
        NothingToPlotError: no case did.
    """
    rows = _rows(reports)
    if not rows:
        raise NothingToPlotError("phases: no case timed them; `measure.num_phase_steps` above 0 does")
    kept = sorted(sorted(rows, key=lambda row: row.rate)[-MAX_CASES:], key=rows.index)
    where = report_labels(reports)[0] if len(reports) == 1 else f"{len(reports)} reports"
    return Plot(
        title=f"Phases of a step: {where}",
        description=f"Share of each phase in a step, for {len(rows)} cases.",
        columns=("case", *(name for name, _, _ in PHASES), "sum"),
        rows=tuple(map(_cells, rows)),
        notes=(f"The {MAX_CASES} quickest of {len(rows)} cases.",) if len(rows) > MAX_CASES else (),
        draw=lambda: _draw(f"Phases of a step · {where}", kept),
    )


def _rows(reports: Sequence[Report]) -> list[_Row]:
    rows = []
    for name, report in zip(report_labels(reports), reports, strict=True):
        labels = case_labels([result.case for result in report.cases])
        for result in report.cases:
            timed = phase_times(result)
            if timed is not None:
                shown = BarName(labels[result.case.case_id], name if len(reports) > 1 else None)
                rate = result.summary.samples_per_second if result.summary else 0.0
                rows.append(_Row(shown, timed, rate))
    return rows


def _cells(row: _Row) -> tuple[str, ...]:
    return (row.name.whole(), *phase_cells(row.phases), duration(row.phases.whole_ns))


def _draw(title: str, rows: Sequence[_Row]) -> Figure:
    figure = new_figure(title, 8.4, 1.5 + sum(row.name.height() for row in rows))
    axes = figure.subplots()
    places = range(len(rows))
    left = [0.0] * len(rows)
    handles = []
    for place, (name, _, color) in enumerate(PHASES):
        widths = [100 * phase_shares(row.phases)[place] for row in rows]
        handles.append(axes.barh(places, widths, left=left, height=0.66, color=color, label=name))
        left = [start + width for start, width in zip(left, widths, strict=True)]
    for place, row in enumerate(rows):
        axes.annotate(duration(row.phases.whole_ns), (101, place), va="center", fontsize=8.5, color=INK)
    axes.set_yticks(places, [row.name.short() for row in rows], fontsize=8.5)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, 112)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("% of the step of a pass of its own, whose length stands at the right")
    legend_below(figure, handles)
    return figure
