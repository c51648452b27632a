"""What device and host did while a case was measured, attempt after attempt."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from benchbox.errors import BadInputError, NothingToPlotError
from benchbox.report.plots.canvas import BLUE, MUTED, VERMILION, legend_below, new_figure
from benchbox.report.plots.plot import Plot, listing, report_labels
from benchbox.report.series import Series, case_series, throttled_spans
from benchbox.report.text import case_labels, significant
from benchbox.schema import CaseResult, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_POINTS = 400


def telemetry(reports: Sequence[Report], case: str | None = None) -> Plot:
    """One case of one report: ``case`` is its label or id, by default the quickest one with telemetry.

    Raises:
        BadInputError: no case is called so.
        NothingToPlotError: more than one report, or no telemetry.
    """
    if len(reports) > 1:
        raise NothingToPlotError("telemetry: one report at a time")
    (report,) = reports
    labels = case_labels([result.case for result in report.cases])
    result = _find(report, labels, case)
    series = case_series(result, MAX_POINTS)
    label = labels[result.case.case_id]
    if not series:
        raise NothingToPlotError(f"telemetry: no samples of {label}")
    spans = throttled_spans(result)
    notes = ["Samples within the measured windows; attempts stand one after the other."]
    if spans:
        notes.append("Shaded: power or heat held the clocks back.")
    where = f"{label} on {report_labels(reports)[0]}"
    return Plot(
        title=f"Telemetry: {where}",
        description=f"{', '.join(one.name for one in series)} over time, {len(result.attempts)} attempts.",
        columns=("what", "unit", "least", "mean", "most"),
        rows=tuple(_cells(one) for one in series),
        notes=tuple(notes),
        draw=lambda: _draw(f"Telemetry · {where}", series, spans),
    )


def _find(report: Report, labels: dict[str, str], case: str | None) -> CaseResult:
    if case is not None:
        found = [r for r in report.cases if case in (r.case.case_id, labels[r.case.case_id])]
        if not found:
            names = listing([labels[r.case.case_id] for r in report.cases], 8)
            raise BadInputError(f"--case: {case!r} is no case of this report; it has {names}")
        return found[0]
    watched = [r for r in report.cases if r.summary and case_series(r, 2)]
    if not watched:
        raise NothingToPlotError("telemetry: no case of this report has samples")
    return max(watched, key=lambda r: r.summary.samples_per_second if r.summary else 0.0)


def _cells(series: Series) -> tuple[str, ...]:
    figures = (series.least, series.mean, series.most)
    return (series.name, series.unit, *(significant(figure) for figure in figures))


def _draw(title: str, series: Sequence[Series], spans: Sequence[tuple[float, float]]) -> Figure:
    from matplotlib.patches import Patch

    figure = new_figure(title, 8.4, 1.0 + 1.15 * len(series))
    grid = figure.subplots(len(series), 1, sharex=True, squeeze=False).ravel()
    for axes, one in zip(grid, series, strict=True):
        _draw_one(axes, one)
        for start, end in spans:
            axes.axvspan(start, end, facecolor=VERMILION, alpha=0.16, hatch="///", edgecolor=VERMILION, lw=0)
    grid[-1].set_xlabel("s of measured time")
    handles: list[Any] = []
    if spans:
        handles.append(Patch(facecolor=VERMILION, alpha=0.3, hatch="///", label="clocks held back"))
    if series[0].num_lines > 1:
        handles.append(Patch(facecolor=BLUE, alpha=0.18, label=f"range of {series[0].num_lines} devices"))
    legend_below(figure, handles)
    return figure


def _draw_one(axes: Axes, series: Series) -> None:
    attempts = [list(points) for _, points in groupby(series.points, key=lambda point: point.attempt)]
    for points in attempts:
        times = [point.at_s for point in points]
        marker = "." if len(points) < 30 else ""
        axes.plot(times, [p.mean for p in points], color=BLUE, linewidth=1.3, marker=marker)
        if series.num_lines > 1:
            low, high = [p.low for p in points], [p.high for p in points]
            axes.fill_between(times, low, high, color=BLUE, alpha=0.18, linewidth=0)
    for start in series.starts[1:]:
        axes.axvline(start, color=MUTED, linewidth=0.8, linestyle=":")
    axes.set_title(f"{series.name}, {series.unit}", fontsize=8.5, pad=3)
    axes.set_ylim(bottom=0, top=(series.most or 1.0) * 1.15)
    axes.yaxis.set_major_locator(_few_ticks())


def _few_ticks() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(3)
