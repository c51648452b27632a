"""Which pictures a page has: all reports over each other, or of many the newest of each device."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchbox.errors import NothingToPlotError
from benchbox.report.facts import device_name
from benchbox.report.html.figures import InlineFigure, inline
from benchbox.report.plots.history import history
from benchbox.report.plots.memory import memory
from benchbox.report.plots.phases import phases
from benchbox.report.plots.plot import Plot
from benchbox.report.plots.roofline import roofline
from benchbox.report.plots.scaling import scaling
from benchbox.report.plots.throughput import throughput
from benchbox.report.text import clean
from benchbox.schema import Report

MANY_REPORTS = 4
"""More lie too close over each other to be told apart."""


def pictures(reports: Sequence[Report]) -> tuple[list[InlineFigure], list[str]]:
    """The pictures that there is something for, and what is not shown and why."""
    shown = list(reports) if len(reports) <= MANY_REPORTS else _newest(reports)
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
    figures, missing = [], []
    if len(shown) < len(reports):
        missing.append(f"pictures of all {len(reports)} reports: but for the history, the newest of a device")
    for name, make in wanted:
        try:
            figures.append(inline(make(), name))
        except NothingToPlotError as reason:
            missing.append(clean(str(reason)))
    return figures, list(dict.fromkeys(missing))


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
