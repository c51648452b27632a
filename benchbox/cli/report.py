"""``benchbox report`` and ``benchbox schema``: show what was measured, and its shape."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer


def report(
    files: Annotated[list[Path], typer.Argument(help="report.json files.")],
    output_format: Annotated[
        Literal["terminal", "markdown", "csv", "pytest-benchmark", "bencher"], typer.Option("--format")
    ] = "terminal",
) -> None:
    """Show reports in the terminal, or as Markdown, CSV, or pytest-benchmark's or Bencher's JSON."""
    from rich.console import Console

    from benchbox.report.bencher import render_bencher
    from benchbox.report.csvfile import render_csv
    from benchbox.report.files import read_report
    from benchbox.report.markdown import render_markdown
    from benchbox.report.pytest_benchmark import render_pytest_benchmark
    from benchbox.report.terminal import terminal_view

    reports = [read_report(file) for file in files]
    match output_format:
        case "terminal":
            console = Console()
            for one in reports:
                console.print(terminal_view(one, console.width))
        case "markdown":
            sys.stdout.write("\n".join(render_markdown(one) for one in reports))
        case "csv":
            sys.stdout.write(render_csv(reports))
        case "pytest-benchmark":
            sys.stdout.write(render_pytest_benchmark(reports))
        case "bencher":
            sys.stdout.write(render_bencher(reports))


def schema() -> None:
    """Print the JSON Schema of report.json."""
    from benchbox.report.files import json_schema

    sys.stdout.write(json_schema())
