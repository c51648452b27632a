"""Reports become one HTML page that fetches nothing: style and script stand in it, pinned by hashes."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchbox.errors import NothingToPlotError
from benchbox.report import sentences
from benchbox.report.environment_rows import environment_rows
from benchbox.report.facts import outcome_word
from benchbox.report.figures import STAR, rests_on_steps
from benchbox.report.hints import report_hints
from benchbox.report.html.answer import Answer, answer
from benchbox.report.html.columns import Cell, cell, known_columns
from benchbox.report.html.details import Detail, detail
from benchbox.report.html.figures import InlineFigure, inline
from benchbox.report.html.side_by_side import configurations
from benchbox.report.html.template_files import environment, source
from benchbox.report.plots.history import history
from benchbox.report.plots.memory import memory
from benchbox.report.plots.phases import phases
from benchbox.report.plots.plot import Plot, report_labels
from benchbox.report.plots.roofline import known_roofs, roofline
from benchbox.report.plots.scaling import scaling
from benchbox.report.plots.throughput import throughput
from benchbox.report.text import case_labels, clean
from benchbox.schema import CaseResult, Report

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


def render_page(reports: Sequence[Report]) -> str:
    """The whole page for one report, or for several side by side."""
    style, script = source("page.css"), source("page.js")
    names = report_labels(reports)
    rows, filters, columns = _table(reports, names)
    figures, missing = _figures(reports)
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            policy=_policy(style, script),
            style=style,
            script=script,
            title=names[0] if len(reports) == 1 else f"{len(reports)} reports: {', '.join(names)}",
            sections=[_section(report, name) for report, name in zip(reports, names, strict=True)],
            names=names,
            columns=columns,
            rows=rows,
            filters=filters,
            star=STAR if any(rests_on_steps(report) for report in reports) else None,
            figures=figures,
            missing=missing,
            configurations=configurations(reports) if len(reports) > 1 else [],
            max_table_rows=MAX_TABLE_ROWS,
        )
    )


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


def _table(
    reports: Sequence[Report], names: Sequence[str]
) -> tuple[list[Row], list[Filter], Sequence[object]]:
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
    roofs = [known_roofs(report) for report in reports]
    labels = [case_labels([result.case for result in report.cases]) for report in reports]
    rows = [
        Row(
            report=number,
            place=place,
            detail=detail(
                result,
                labels[number][result.case.case_id],
                reports[number].environment.device,
                roofs[number],
                max_points,
            ),
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


def _figures(reports: Sequence[Report]) -> tuple[list[InlineFigure], list[str]]:
    """The pictures that there is something for, and why the others are missing."""
    wanted: list[tuple[str, Callable[[], Plot]]] = [
        ("throughput", lambda: throughput(reports)),
        ("scaling", lambda: scaling(reports)),
        ("memory", lambda: memory(reports)),
        ("phases", lambda: phases(reports)),
    ]
    for place, report in enumerate(reports):
        wanted.append((f"roofline{place}", lambda report=report: roofline([report])))  # type: ignore[misc]
    if len(reports) > 1:
        wanted.append(("history", lambda: history(reports)))
    figures, missing = [], []
    for name, make in wanted:
        try:
            figures.append(inline(make(), name))
        except NothingToPlotError as reason:
            missing.append(clean(str(reason)))
    return figures, list(dict.fromkeys(missing))
