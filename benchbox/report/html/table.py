"""A report as a plain HTML table, for a notebook's cell."""

from __future__ import annotations

from benchbox.report import sentences
from benchbox.report.facts import outcome_word
from benchbox.report.html.answer import answer
from benchbox.report.html.columns import cell, known_columns
from benchbox.report.html.template_files import environment
from benchbox.report.text import case_labels
from benchbox.schema import Report


def render_table(report: Report) -> str:
    """All cases with their figures, and the reasons of those that failed. No script, no style."""
    labels = case_labels([result.case for result in report.cases])
    columns = known_columns(report.cases)
    rows = [
        (
            labels[result.case.case_id],
            outcome_word(result),
            None if result.summary or result.outcome == "ok" else sentences.reason_text(result),
            [cell(column, result).text for column in columns],
        )
        for result in report.cases
    ]
    return (
        environment()
        .get_template("table.html.j2")
        .render(heading=sentences.heading(report), answer=answer(report), columns=columns, rows=rows)
    )
