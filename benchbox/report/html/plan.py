"""A plan on a page: its answers, the time-cost front, and the best configurations."""

from __future__ import annotations

from typing import NamedTuple

from benchbox.errors import NothingToPlotError
from benchbox.report.html.figures import InlineFigure, inline
from benchbox.report.plan_view import plan_answers, plan_closing, plan_table
from benchbox.report.plots.plan import plan
from benchbox.report.text import clean
from benchbox.schema import PlanResult

MAX_ROWS = 100


class PlanView(NamedTuple):
    """Texts are cleaned, not escaped."""

    job: str
    answers: tuple[str, ...]
    figure: InlineFigure | None
    no_figure: str | None
    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


def plan_section(result: PlanResult, place: int) -> PlanView:
    """``place`` sets the ids of its picture apart from those of other plans."""
    titles, rows = plan_table(result, MAX_ROWS)
    job, *answers = plan_answers(result)
    figure, reason = None, None
    try:
        figure = inline(plan(result), f"plan{place}")
    except NothingToPlotError as error:
        reason = clean(str(error))
    return PlanView(
        job=job,
        answers=tuple(answers),
        figure=figure,
        no_figure=reason,
        titles=titles,
        rows=tuple(tuple(map(clean, row)) for row in rows),
        notes=tuple(map(clean, plan_closing(result, MAX_ROWS))),
    )
