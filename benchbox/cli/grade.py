"""``benchbox grade``: how well measured throughputs are foretold from each other."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer


def grade(
    table: Annotated[Path, typer.Argument(help="A CSV of measured throughputs; columns: docs/grade.md.")],
    output_format: Annotated[
        Literal["terminal", "markdown", "json", "csv"], typer.Option("--format")
    ] = "terminal",
) -> None:
    """Foretell each device of a table from each other, the target left out, and show the errors."""
    from rich.console import Console

    from benchbox.analyze.grade import grade as grade_rows
    from benchbox.plan.hardware import load_profiles
    from benchbox.plan.throughput_table import read_throughput_table
    from benchbox.report import grade_view

    read = read_throughput_table(table)
    result = grade_rows(table.name, read.rows, read.left_out, load_profiles())
    match output_format:
        case "terminal":
            Console().print(grade_view.terminal_grade(result))
            print(grade_view.last_line(result.overall))
        case "markdown":
            sys.stdout.write(grade_view.render_grade_markdown(result))
        case "json":
            sys.stdout.write(grade_view.render_grade_json(result))
        case "csv":
            sys.stdout.write(grade_view.render_grade_csv(result))
