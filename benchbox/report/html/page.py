"""Reports become one HTML page that fetches nothing: style and script stand in it, pinned by hashes."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from benchbox.report import sentences
from benchbox.report.comparison_text import rule_sentence
from benchbox.report.environment_rows import environment_rows
from benchbox.report.facts import outcome_word
from benchbox.report.figures import STAR, rests_on_steps
from benchbox.report.hints import report_hints
from benchbox.report.html.answer import Answer, answer
from benchbox.report.html.columns import Cell, Column, cell, known_columns, unknown_columns
from benchbox.report.html.comparison import comparison_view, verdicts
from benchbox.report.html.details import Detail, detail
from benchbox.report.html.pictures import pictures
from benchbox.report.html.plan import plan_section
from benchbox.report.html.side_by_side import compare_with_first, configurations
from benchbox.report.html.template_files import environment, source
from benchbox.report.plots.plot import report_labels
from benchbox.report.text import case_labels, clean
from benchbox.schema import CaseResult, PlanResult, Report
from benchbox.schema.comparison import Comparison
from benchbox.schema.history import History

AXES = (
    ("model", "model"),
    ("batch", "per_device_batch_size"),
    ("precision", "precision"),
    ("checkpointing", "gradient_checkpointing"),
    ("accumulation", "gradient_accumulation_steps"),
    ("memory format", "memory_format"),
    ("compile", "compile"),
    ("strategy", "strategy"),
    ("devices", "world_size"),
    ("data", "data"),
)
MAX_TABLE_ROWS = 300
"""A picture's data beyond that stands as tab-separated text: a table of so many cells is slow to open."""

MAX_CARDS = 3
"""The answers of more reports stand in a table."""

MANY_CASES, MAX_POINTS, MAX_POINTS_OF_MANY = 200, 72, 36
"""Points of a telemetry strip: fewer where there are so many cases that the page would grow too large."""


class Row(NamedTuple):
    """One case in the table."""

    report: int
    place: int
    """Of the case in its report."""
    detail: Detail
    cells: tuple[Cell, ...]
    axes: tuple[str, ...]
    """The values that the filters go by, in their order."""


class Filter(NamedTuple):
    """A choice among the values of one axis."""

    name: str
    values: tuple[str, ...]


class Section(NamedTuple):
    """One report's own part of the page."""

    name: str
    heading: str
    created: str
    version: str
    answer: Answer
    hints: tuple[str, ...]
    telemetry_cost: str
    environment: tuple[tuple[str, str], ...]


def render_page(
    reports: Sequence[Report],
    comparisons: Sequence[Comparison] = (),
    histories: Sequence[History] = (),
    plans: Sequence[PlanResult] = (),
) -> str:
    """The whole page: reports, several of them side by side, then what other files hold."""
    style, script = source("page.css"), source("page.js")
    names = report_labels(reports)
    rows, filters, columns = _table(reports, names)
    courses, figures, missing = pictures(reports, histories)
    compared = compare_with_first(reports, names)
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            policy=_policy(style, script),
            style=style,
            script=script,
            title=_title(names, comparisons, histories, plans),
            sections=[_section(report, name) for report, name in zip(reports, names, strict=True)],
            max_cards=MAX_CARDS,
            names=names,
            columns=columns,
            unknown=unknown_columns(reports),
            rows=rows,
            filters=filters,
            star=STAR if any(rests_on_steps(report) for report in reports) else None,
            courses=courses,
            figures=figures,
            missing=missing,
            verdicts=list(map(verdicts, compared)),
            rule=next((rule_sentence(one) for one in compared if one.is_comparable()), None),
            configurations=configurations(reports, compared) if compared else [],
            comparisons=list(map(comparison_view, comparisons)),
            plans=[plan_section(plan, place) for place, plan in enumerate(plans)],
            max_table_rows=MAX_TABLE_ROWS,
        )
    )


def _title(
    names: Sequence[str],
    comparisons: Sequence[Comparison],
    histories: Sequence[History],
    plans: Sequence[PlanResult],
) -> str:
    if len(names) == 1:
        return names[0]
    if names:
        return f"{len(names)} reports: {', '.join(names)}"
    kinds = {"comparison": comparisons, "history": histories, "plan": plans}
    return " and ".join(kind for kind, found in kinds.items() if found).capitalize()


def _policy(style: str, script: str) -> str:
    """Nothing may be fetched, and nothing may run or style but these two texts."""
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _section(report: Report, name: str) -> Section:
    labels = case_labels([result.case for result in report.cases])
    return Section(
        name=name,
        heading=sentences.heading(report),
        created=clean(report.created_at, 40),
        version=clean(report.benchbox_version, 40),
        answer=answer(report),
        hints=(*map(clean, report_hints(report)), *sentences.case_hints(report, labels)),
        telemetry_cost=sentences.telemetry_cost_line(report.telemetry_cost, report.suite.measure, labels),
        environment=tuple((clean(what), clean(value)) for what, value in environment_rows(report)),
    )


def _table(reports: Sequence[Report], names: Sequence[str]) -> tuple[list[Row], list[Filter], list[Column]]:
    results = [
        (number, place, result)
        for number, report in enumerate(reports)
        for place, result in enumerate(report.cases)
    ]
    columns = known_columns([result for _, _, result in results])
    axes = [_axis_values(result, names[number]) for number, _, result in results]
    titles = ["report", "outcome", *(name for name, _ in AXES)]
    kept = [place for place in range(len(titles)) if len({values[place] for values in axes}) > 1]
    filters = [Filter(titles[p], _ordered({values[p] for values in axes})) for p in kept]
    max_points = MAX_POINTS if len(results) <= MANY_CASES else MAX_POINTS_OF_MANY
    labels = [case_labels([result.case for result in report.cases]) for report in reports]
    rows = [
        Row(
            report=number,
            place=place,
            detail=detail(reports[number], result, labels[number][result.case.case_id], max_points),
            cells=tuple(cell(column, result) for column in columns),
            axes=tuple(values[p] for p in kept),
        )
        for (number, place, result), values in zip(results, axes, strict=True)
    ]
    return rows, filters, columns


def _axis_values(result: CaseResult, name: str) -> list[str]:
    values = [getattr(result.case, field) for _, field in AXES]
    words = [("yes" if value else "no") if isinstance(value, bool) else clean(str(value)) for value in values]
    return [name, outcome_word(result), *words]


def _ordered(values: set[str]) -> tuple[str, ...]:
    return tuple(sorted(values, key=lambda v: (0, int(v), "") if v.isdecimal() else (1, 0, v)))
