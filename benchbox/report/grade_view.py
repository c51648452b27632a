"""A grade as people and programs read it: terminal, Markdown, JSON, CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchbox.report.markdown_table import pipe_table
from benchbox.report.text import clean, csv_cell, escape_markdown, indented_json, significant
from benchbox.schema import GradedPair, GradeFigures, GradeGroup, GradeResult, LeftOut

if TYPE_CHECKING:
    from rich.console import Group

_TITLES = ("pairs", "median", "p80", "worst", "coverage")
_MAX_GROUPS = 12


def last_line(figures: GradeFigures) -> str:
    """The line that a script looks for."""
    return (
        f"all: median {figures.median_pct:.1f} % p80 {figures.p80_pct:.1f} % "
        f"worst {figures.worst_pct:.1f} % coverage {figures.coverage_pct:.1f} %"
    )


def terminal_grade(result: GradeResult) -> Group:
    """What is graded, what is left out, a table for each way to group, and the naive rules; without the
    last line."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[Table | Text] = [Text(line) for line in _opening(result)]
    for grouped_by in _groupings(result):
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
        table.add_column(grouped_by, overflow="fold", ratio=1)
        for title in _TITLES:
            table.add_column(title, justify="right", no_wrap=True)
        for name, figures in _shown(result, grouped_by):
            table.add_row(Text(clean(name, limit=60)), *_cells(figures))
        parts += [Text(), table]
    parts += [Text(), *(Text(line) for line in _closing(result))]
    return Group(*parts)


def render_grade_markdown(result: GradeResult) -> str:
    """The same as Markdown; it ends with the last line."""
    lines = [f"# How well {escape_markdown(result.table)} is foretold", ""]
    lines += [f"- {escape_markdown(line.strip())}" for line in _opening(result)]
    for grouped_by in _groupings(result):
        rows = [(name, *_cells(figures)) for name, figures in _shown(result, grouped_by)]
        lines += ["", f"## By {grouped_by}", "", *pipe_table((grouped_by, *_TITLES), rows)]
    lines += ["", *(f"- {escape_markdown(line)}" for line in _closing(result)), ""]
    return "\n".join([*lines, last_line(result.overall), ""])


def render_grade_json(result: GradeResult) -> str:
    """Everything, each pair included."""
    return indented_json(result)


def render_grade_csv(result: GradeResult) -> str:
    """One row a pair, columns as in the schema."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(GradedPair.__struct_fields__)
    for pair in result.pairs:
        writer.writerow([_joined(getattr(pair, name)) for name in GradedPair.__struct_fields__])
    return buffer.getvalue()


def _opening(result: GradeResult) -> list[str]:
    lines = [f"{clean(result.table)}: {result.num_rows} rows, {result.num_rows_graded} of them usable"]
    lines += _left_out("left out", "row", result.rows_left_out)
    lines += _left_out("refused", "pair", result.pairs_refused)
    return lines


def _left_out(verb: str, noun: str, entries: Sequence[LeftOut]) -> list[str]:
    lines = []
    for entry in entries:
        plural = "" if entry.num == 1 else "s"
        line = f"  {verb}: {entry.num} {noun}{plural}: {entry.reason} ({clean(entry.example, limit=90)})"
        lines.append(f"{line}; would settle it: {entry.settled_by}" if entry.settled_by else line)
    return lines


def _closing(result: GradeResult) -> list[str]:
    naive = {"peak FLOP/s": result.naive_peak_flops, "bandwidth": result.naive_bandwidth}
    lines = [
        f"By the ratio of {name} alone: median {figures.median_pct:.1f} %, p80 {figures.p80_pct:.1f} %, "
        f"worst {figures.worst_pct:.1f} %."
        for name, figures in naive.items()
    ]
    unannounced = result.overall.worst_unannounced_pct
    return [*lines, f"Worst error that its interval did not announce: {unannounced:.1f} %."]


def _groupings(result: GradeResult) -> list[str]:
    return list(dict.fromkeys(group.grouped_by for group in result.groups))


def _shown(result: GradeResult, grouped_by: str) -> list[tuple[str, GradeFigures]]:
    """The largest groups, at most a dozen; the JSON has all."""
    groups: list[GradeGroup] = [group for group in result.groups if group.grouped_by == grouped_by]
    return [(group.name, group.figures) for group in groups[:_MAX_GROUPS]]


def _cells(figures: GradeFigures) -> tuple[str, ...]:
    return (
        str(figures.num_pairs),
        f"{figures.median_pct:.1f} %",
        f"{figures.p80_pct:.1f} %",
        f"{significant(figures.worst_pct)} %",
        f"{figures.coverage_pct:.0f} %",
    )


def _joined(value: object) -> str:
    return csv_cell("; ".join(map(str, value)) if isinstance(value, tuple) else value)
