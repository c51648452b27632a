"""``benchbox report`` and ``benchbox schema``: show what was measured, and its shape."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from benchbox.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchbox.schema import Report


def report(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="report.json files; for a page also the JSON of `compare`, `history` and `plan`."
        ),
    ],
    output_format: Annotated[
        Literal["terminal", "markdown", "html", "csv", "pytest-benchmark", "bencher"],
        typer.Option("--format"),
    ] = "terminal",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write to. Default: standard output.")
    ] = None,
) -> None:
    """Show reports in the terminal, or as Markdown, an HTML page, CSV, or a tracker's JSON."""
    from rich.console import Console

    from benchbox.cli.output import check_out
    from benchbox.report.shown import read_shown
    from benchbox.report.terminal import terminal_view

    if out is not None:
        if output_format == "terminal":
            raise BadInputError("--out: needs a --format other than terminal, as in --format html")
        check_out(out, files)
    if output_format == "html":
        _show(_page(files), out)
        return
    reports = [read_shown(file) for file in files]
    if output_format != "terminal":
        _show(_render(output_format, reports), out)
        return
    console = Console()
    for one in reports:
        console.print(terminal_view(one, console.width))


def _show(text: str, out: Path | None) -> None:
    from benchbox.cli.output import write_result

    if out is None:
        sys.stdout.write(text)
    else:
        write_result(text.encode(), out)


def _page(files: Sequence[Path]) -> str:
    from benchbox.report.documents import read_documents
    from benchbox.report.html.page import render_page

    return render_page(*read_documents(files))


def _render(
    output_format: Literal["markdown", "csv", "pytest-benchmark", "bencher"],
    reports: Sequence[Report],
) -> str:
    match output_format:
        case "markdown":
            from benchbox.report.markdown import render_markdown

            return "\n".join(render_markdown(one) for one in reports)
        case "csv":
            from benchbox.report.csvfile import render_csv

            return render_csv(reports)
        case "pytest-benchmark":
            from benchbox.report.pytest_benchmark import render_pytest_benchmark

            return render_pytest_benchmark(reports)
        case "bencher":
            from benchbox.report.bencher import render_bencher

            return render_bencher(reports)


def schema() -> None:
    """Print the JSON Schema of report.json."""
    from benchbox.report.files import json_schema

    sys.stdout.write(json_schema())
