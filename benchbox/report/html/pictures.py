"""Which pictures a page has: all reports over each other, or of many the newest of each device."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchbox.errors import NothingToPlotError
from benchbox.report.facts import device_name
from benchbox.report.html.figures import InlineFigure, inline
from benchbox.report.plots.history import history, history_plot
from benchbox.report.plots.memory import memory
from benchbox.report.plots.phases import phases
from benchbox.report.plots.plot import Plot
from benchbox.report.plots.roofline import roofline
from benchbox.report.plots.scaling import scaling
from benchbox.report.plots.throughput import throughput
from benchbox.report.text import clean
from benchbox.schema import Report
from benchbox.schema.history import History

MANY_REPORTS = 4
"""More lie too close over each other to be told apart."""


def pictures(
    reports: Sequence[Report], histories: Sequence[History]
) -> tuple[list[InlineFigure], list[InlineFigure], list[str]]:
    """Courses over time, the other pictures that there is something for, and what is not shown and why.

    Raises:
        NothingToPlotError: one of ``histories`` holds no course.
    """
    shown = list(reports) if len(reports) <= MANY_REPORTS else _newest(reports)
    courses = [inline(history_plot(found), f"history{place}") for place, found in enumerate(histories)]
    wanted: list[tuple[str, Callable[[], Plot]]] = []
    if len(reports) > 2:
        wanted.append(("history", lambda: history(reports)))
    if reports:
        wanted += [
            ("throughput", lambda: throughput(shown)),
            ("scaling", lambda: scaling(shown)),
            ("memory", lambda: memory(shown)),
            ("phases", lambda: phases(shown)),
        ]
    for place, report in enumerate(_newest(shown)):
        wanted.append((f"roofline{place}", lambda report=report: roofline([report])))  # type: ignore[misc]
    figures: list[InlineFigure] = []
    missing = []
    if len(shown) < len(reports):
        missing.append(f"pictures of all {len(reports)} reports: but for the history, the newest of a device")
    for name, make in wanted:
        try:
            (courses if name == "history" else figures).append(inline(make(), name))
        except NothingToPlotError as reason:
            missing.append(clean(str(reason)))
    return courses, figures, list(dict.fromkeys(missing))


def _newest(reports: Sequence[Report]) -> list[Report]:
    """Of each device, in the order in which the devices come, and no more than fit over each other."""
    from benchbox.analyze.history import measured_at

    newest: dict[str, Report] = {}
    for report in reports:
        name = device_name(report.environment)
        known = newest.get(name)
        if known is None or measured_at(report.created_at) >= measured_at(known.created_at):
            newest[name] = report
    return list(newest.values())[:MANY_REPORTS]
