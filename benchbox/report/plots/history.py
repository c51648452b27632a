"""How throughput went over several reports of one machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from benchbox.errors import NothingToPlotError
from benchbox.report.facts import device_name
from benchbox.report.plots.canvas import MARKERS, MUTED, SERIES, legend_below, new_figure
from benchbox.report.plots.plot import Plot, listing
from benchbox.report.text import UNKNOWN, case_labels, clean, plus_minus, significant
from benchbox.schema import CaseSummary, Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_LINES = 7


class _Line(NamedTuple):
    label: str
    points: list[tuple[int, CaseSummary]]
    """Place of the report in time, and the figures there."""


def history(reports: Sequence[Report]) -> Plot:
    """A line for each case that at least two reports measured, as a share of its first rate.

    Where there are more than fit, those that moved most are drawn.

    Raises:
        NothingToPlotError: no case stands in two reports.
    """
    ordered = sorted(reports, key=lambda report: report.created_at)
    lines = [line for line in _lines(ordered) if len(line.points) > 1]
    if not lines:
        raise NothingToPlotError("history: no case was measured in two of the reports")
    kept = sorted(sorted(lines, key=_movement, reverse=True)[:MAX_LINES], key=lines.index)
    spare = [line.label for line in lines if line not in kept]
    dates = [clean(report.created_at[:16].replace("T", " ")) for report in ordered]
    rows = [
        (line.label, dates[place], significant(s.samples_per_second, 4), _interval(s), _ratio(line, s))
        for line in lines
        for place, s in line.points
    ]
    devices = list(dict.fromkeys(clean(device_name(report.environment), 60) for report in ordered))
    notes = [f"Left out, because they moved less: {listing(spare)}."] if spare else []
    if len(devices) > 1:
        notes.append(f"Not one machine's history: the reports come from {listing(devices)}.")
    return Plot(
        title=f"History: {len(ordered)} reports",
        description=f"Samples/s of {len(lines)} cases over {len(ordered)} reports; the first is 100 %.",
        columns=("case", "report", "samples/s", "95 %", "of the first"),
        rows=tuple(rows),
        notes=tuple(notes),
        draw=lambda: _draw(f"History · {len(ordered)} reports", kept, dates),
    )


def _lines(ordered: Sequence[Report]) -> list[_Line]:
    """Cases are the same where their id is: it is a hash of what they mean."""
    found: dict[str, _Line] = {}
    for place, report in enumerate(ordered):
        labels = case_labels([result.case for result in report.cases])
        for result in report.cases:
            if result.summary is not None:
                line = found.setdefault(result.case.case_id, _Line(labels[result.case.case_id], []))
                line.points.append((place, result.summary))
    return list(found.values())


def _movement(line: _Line) -> float:
    rates = [summary.samples_per_second for _, summary in line.points]
    return max(rates) / min(rates) if min(rates) > 0 else 0.0


def _interval(summary: CaseSummary) -> str:
    interval = summary.samples_per_second_interval
    return UNKNOWN if interval is None else plus_minus(interval)


def _ratio(line: _Line, summary: CaseSummary) -> str:
    first = line.points[0][1].samples_per_second
    return f"{significant(100 * summary.samples_per_second / first, 4)} %" if first else UNKNOWN


def _draw(title: str, lines: Sequence[_Line], dates: Sequence[str]) -> Figure:
    from matplotlib.lines import Line2D

    figure = new_figure(title, 8.4, 4.4)
    axes = figure.subplots()
    handles = []
    for number, (label, points) in enumerate(lines):
        color, marker = SERIES[number % len(SERIES)], MARKERS[number % len(MARKERS)]
        share = 100 / (points[0][1].samples_per_second or 1)
        places = [place for place, _ in points]
        rates = [summary.samples_per_second * share for _, summary in points]
        ends = [summary.samples_per_second_interval for _, summary in points]
        low = [end.low * share if end else rate for end, rate in zip(ends, rates, strict=True)]
        high = [end.high * share if end else rate for end, rate in zip(ends, rates, strict=True)]
        axes.plot(places, rates, color=color, marker=marker)
        axes.fill_between(places, low, high, color=color, alpha=0.15, linewidth=0)
        handles.append(Line2D([], [], color=color, marker=marker, label=clean(label, 48)))
    axes.axhline(100, color=MUTED, linestyle=":", linewidth=1.2)
    step = -(-len(dates) // 8)
    shown = list(range(0, len(dates), step))
    axes.set_xticks(shown, [dates[place].replace(" ", "\n") for place in shown])
    axes.set_ylabel("samples/s, % of the first report")
    legend_below(figure, handles)
    return figure
