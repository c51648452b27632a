"""How throughput went over several reports of one machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from benchbox.analyze.history import LEAST_REPORTS
from benchbox.errors import NothingToPlotError
from benchbox.report.history import TOO_FEW, never_ok_text
from benchbox.report.plots.canvas import INK, MARKERS, MUTED, SERIES, legend_below, new_figure
from benchbox.report.plots.plot import Plot, listing, report_labels, short_label
from benchbox.report.text import UNKNOWN, case_labels, clean, plus_minus, rate_text, significant
from benchbox.schema import Report
from benchbox.schema.history import History, HistoryPoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_LINES = 7


class _Line(NamedTuple):
    label: str
    points: list[tuple[int, HistoryPoint]]
    """Place of the report in time, and the figures there."""
    changes: dict[int, float]
    """Place of the first report at a new level, and that level over the one before."""
    failed: tuple[int, str] | None
    """Place of the first report in which the case did not end ``ok`` any more, and how it ended."""


def history(reports: Sequence[Report]) -> Plot:
    """The course over ``reports``, as ``benchbox history`` finds it. Raises as :func:`history_plot` does."""
    from benchbox.analyze.history import history_of, rates_of

    names = report_labels(reports)
    return history_plot(
        history_of([rates_of(name, report) for name, report in zip(names, reports, strict=True)])
    )


def history_plot(found: History) -> Plot:
    """A line for each case that at least two reports have, as a share of its first rate, where its level
    changed, and where it failed. Where there are more than fit, those that failed or moved most are drawn.

    Raises:
        NothingToPlotError: no case stands in two reports that can be compared with the newest.
    """
    from benchbox.analyze.history import measured_at

    seen = {(point.created_at, point.report) for case in found.cases for point in case.points}
    seen |= {(one.created_at, one.report) for case in found.cases if (one := case.no_longer_ok)}
    ordered = sorted(seen, key=lambda report: (measured_at(report[0]), report[1]))
    lines = [line for line in _lines(found, ordered) if len(line.points) > 1 or line.failed]
    if not lines:
        raise NothingToPlotError("history: no case was measured in two of the reports on one machine")
    kept = sorted(sorted(lines, key=_movement, reverse=True)[:MAX_LINES], key=lines.index)
    spare = [line.label for line in lines if line not in kept]
    dates = [clean(created_at[:16].replace("T", " ")) for created_at, _ in ordered]
    notes = [f"Left out, because they moved less: {listing(spare)}."] if spare else []
    notes += [
        f"Left out, because it differs from the newest in {listing(list(map(clean, left.fields)))}: "
        f"{clean(left.report)}."
        for left in found.left_out
    ]
    never = case_labels([never.case for never in found.never_ok])
    notes += [f"{never[one.case.case_id]}: {never_ok_text(one.first)}." for one in found.never_ok]
    rows = [row for line in lines for row in _rows(line, dates)]
    return Plot(
        title=f"History: {len(ordered)} reports",
        description=_description(lines, dates),
        columns=("case", "report", "samples/s", "95 %", "of the first", "new level"),
        rows=tuple(rows),
        notes=tuple(notes),
        draw=lambda: _draw(f"History · {len(ordered)} reports", kept, lines, dates),
    )


def _lines(found: History, ordered: Sequence[tuple[str, str]]) -> list[_Line]:
    """``ordered``: time and name of each report, oldest first."""
    labels = case_labels([course.case for course in found.cases])
    places = {name: place for place, (_, name) in enumerate(ordered)}
    return [
        _Line(
            labels[course.case.case_id],
            [(places[point.report], point) for point in course.points],
            {places[change.report]: change.ratio for change in course.changes},
            (places[failure.report], failure.outcome) if (failure := course.no_longer_ok) else None,
        )
        for course in found.cases
    ]


def _description(lines: Sequence[_Line], dates: Sequence[str]) -> str:
    start = f"Samples/s of {len(lines)} cases over {len(dates)} reports; the first is 100 %."
    failed = [
        f"{clean(line.label)} is {line.failed[1]} from {dates[line.failed[0]]} on"
        for line in lines
        if line.failed
    ]
    start += f" No longer ok: {listing(failed)}." if failed else ""
    changes = [f"{text} from {dates[place]} on" for place, text in _changes(lines).items()]
    if changes:
        return f"{start} {'; '.join(changes)}."
    longest = max(len(line.points) for line in lines)
    return f"{start} {'No level changed' if longest >= LEAST_REPORTS else TOO_FEW}."


def _changes(lines: Sequence[_Line]) -> dict[int, str]:
    """By the place of the first report at the new level: ``3 cases −6.4 to −5.9 %``."""
    found: dict[int, list[float]] = {}
    for line in lines:
        for place, ratio in line.changes.items():
            found.setdefault(place, []).append(100 * (ratio - 1))
    return {place: _change(found[place]) for place in sorted(found)}


def _change(percents: Sequence[float]) -> str:
    count = "1 case" if len(percents) == 1 else f"{len(percents)} cases"
    return f"{count} {_span(percents)}"


def _span(percents: Sequence[float]) -> str:
    ends = [f"{end:+.1f}".replace("-", "−") for end in (min(percents), max(percents))]
    return f"{' to '.join(dict.fromkeys(ends))} %"


def _rows(line: _Line, dates: Sequence[str]) -> list[tuple[str, ...]]:
    """A row a report that measured it, and one for that in which it failed."""
    rows: list[tuple[str, ...]] = []
    for place, point in line.points:
        level = _span([100 * (line.changes[place] - 1)]) if place in line.changes else ""
        rate = rate_text(point.samples_per_second, point.samples_per_second_interval)
        rows.append((line.label, dates[place], rate, _interval(point), _ratio(line, point), level))
    if line.failed:
        rows.append((line.label, dates[line.failed[0]], line.failed[1], UNKNOWN, UNKNOWN, ""))
    return rows


def _movement(line: _Line) -> float:
    if line.failed:
        return float("inf")
    rates = [point.samples_per_second for _, point in line.points]
    return max(rates) / min(rates) if min(rates) > 0 else 0.0


def _interval(point: HistoryPoint) -> str:
    interval = point.samples_per_second_interval
    return UNKNOWN if interval is None else plus_minus(interval)


def _ratio(line: _Line, point: HistoryPoint) -> str:
    first = line.points[0][1].samples_per_second
    return f"{significant(100 * point.samples_per_second / first, 4)} %" if first else UNKNOWN


def _draw(title: str, kept: Sequence[_Line], lines: Sequence[_Line], dates: Sequence[str]) -> Figure:
    from matplotlib.lines import Line2D

    figure = new_figure(title, 8.4, 4.4)
    axes = figure.subplots()
    handles = []
    for number, line in enumerate(kept):
        color, marker = SERIES[number % len(SERIES)], MARKERS[number % len(MARKERS)]
        _draw_line(axes, line, color, marker, shade=0.15 if len(kept) < 4 else 0.06)
        handles.append(Line2D([], [], color=color, marker=marker, label=short_label(line.label, 48)))
    axes.axhline(100, color=MUTED, linestyle=":", linewidth=1.2)
    changes = _changes(lines)
    for number, (place, text) in enumerate(changes.items()):
        axes.axvline(place - 0.5, color=INK, linestyle=(0, (4, 2)), linewidth=1.2)
        # Two heights by turns, so that neighbours can be read.
        axes.annotate(
            f" {text}", (place - 0.5, 1.01 + 0.05 * (number % 2)),
            xycoords=("data", "axes fraction"), fontsize=8.5,
            ha="left" if place <= 0.75 * len(dates) else "right",
        )  # fmt: skip
    if any(line.failed for line in kept):
        cross = Line2D([], [], color=INK, marker="x", markeredgewidth=2, linestyle="--", label="no longer ok")
        handles.append(cross)
    if changes:
        handles.append(Line2D([], [], color=INK, linestyle=(0, (4, 2)), label="level changes"))
    step = -(-len(dates) // 8)
    shown = list(range(0, len(dates), step))
    axes.set_xticks(shown, [dates[place].replace(" ", "\n") for place in shown])
    axes.set_xlim(-0.4, len(dates) - 0.6)
    axes.set_ylabel("samples/s, % of the first report")
    legend_below(figure, handles)
    return figure


def _draw_line(axes: Axes, line: _Line, color: str, marker: str, shade: float) -> None:
    share = 100 / (line.points[0][1].samples_per_second or 1)
    places = [place for place, _ in line.points]
    rates = [point.samples_per_second * share for _, point in line.points]
    ends = [point.samples_per_second_interval for _, point in line.points]
    low = [end.low * share if end else rate for end, rate in zip(ends, rates, strict=True)]
    high = [end.high * share if end else rate for end, rate in zip(ends, rates, strict=True)]
    axes.plot(places, rates, color=color, marker=marker)
    if line.failed:
        ends_at = [places[-1], line.failed[0]]
        level = [rates[-1]] * 2
        axes.plot(ends_at, level, color=color, linestyle="--")
        axes.plot(ends_at[1:], level[1:], color=color, marker="x", markersize=8, markeredgewidth=2)
    axes.fill_between(places, low, high, color=color, alpha=shade, linewidth=0)
