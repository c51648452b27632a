"""``benchbox compare``: is it slower, and is that real?"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from benchbox.errors import BadInputError

if TYPE_CHECKING:
    from benchbox.schema.comparison import Comparison

Format = Literal["terminal", "markdown", "github", "junit", "json", "csv"]


def compare(
    base: Annotated[Path, typer.Argument(help="The report.json to compare with.")],
    new: Annotated[list[Path], typer.Argument(help="One report.json or more; each is held against BASE.")],
    output_format: Annotated[Format, typer.Option("--format")] = "terminal",
    threshold: Annotated[
        float | None,
        typer.Option(help="Smallest change of throughput that matters, in %. Default: 2."),
    ] = None,
    memory_threshold: Annotated[
        float | None, typer.Option(help="The same for peak memory. Default: 5.")
    ] = None,
    energy_threshold: Annotated[
        float | None, typer.Option(help="The same for joules per sample. Default: 5.")
    ] = None,
    across: Annotated[
        list[str] | None,
        typer.Option(help="A field that may differ, such as device, driver or torch. Repeatable."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 3 where noise hides the answer.")
    ] = False,
) -> None:
    """Compare reports. Exit codes: 0 nothing worse, 1 a regression, 2 bad input, 3 not comparable, or with
    --strict too noisy to tell."""
    from benchbox.analyze.compare import thresholds_of
    from benchbox.analyze.identity import check_across
    from benchbox.analyze.matching import compare_sides, side_of
    from benchbox.report.files import read_report, without_collector

    limits = thresholds_of(threshold, memory_threshold, energy_threshold)
    fields = check_across(across or [])
    # One after the other: the raw times of one large report are enough to hold at once.
    with without_collector():
        before = side_of(str(base), read_report(base))
        comparisons = [
            compare_sides(before, side_of(str(path), read_report(path)), limits, fields) for path in new
        ]
    show_comparisons(comparisons, output_format, strict=strict)
    raise typer.Exit(exit_code(comparisons, strict=strict))


def exit_code(comparisons: Sequence[Comparison], *, strict: bool) -> int:
    """1 where anything became worse, else 3 where something cannot be compared or, with ``strict``, told."""
    cases = [case for comparison in comparisons for case in comparison.cases]
    if any(case.is_worse() for case in cases):
        return 1
    if any(case.verdict == "not-comparable" for case in cases):
        return 3
    if not all(comparison.is_comparable() for comparison in comparisons):
        return 3
    return 3 if strict and any(case.is_undecided() for case in cases) else 0


def show_comparisons(comparisons: Sequence[Comparison], output_format: Format, *, strict: bool) -> None:
    """Print, and for ``github`` write the step's summary.

    A reader that leaves early, as ``head`` does, changes nothing about the exit code: 1 would be a
    regression.
    """
    import os

    try:
        _show(comparisons, output_format, strict=strict)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered goes there


def _show(comparisons: Sequence[Comparison], output_format: Format, *, strict: bool) -> None:
    from benchbox.report import comparison_files as files
    from benchbox.report.comparison_markdown import render_comparison_markdown

    match output_format:
        case "terminal":
            from rich.console import Console

            from benchbox.report.comparison_terminal import comparison_view

            console = Console()
            with console.capture() as shown:  # which itself would end with 1 where the reader has left
                for comparison in comparisons:
                    console.print(comparison_view(comparison))
            sys.stdout.write(shown.get())
        case "markdown":
            sys.stdout.write("\n".join(map(render_comparison_markdown, comparisons)))
        case "github":
            _show_on_github(comparisons)
        case "junit":
            sys.stdout.write(files.render_comparison_junit(comparisons, strict=strict))
        case "json":
            sys.stdout.write(files.render_comparison_json(comparisons))
        case "csv":
            sys.stdout.write(files.render_comparison_csv(comparisons))


def _show_on_github(comparisons: Sequence[Comparison]) -> None:
    """Annotations on standard output, the table into ``$GITHUB_STEP_SUMMARY`` or, outside of Actions, there
    too."""
    import os

    from benchbox.report.comparison_markdown import github_annotations, github_summary

    summary = github_summary(comparisons)
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if path:
        try:
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(summary)
        except OSError as error:
            raise BadInputError(f"$GITHUB_STEP_SUMMARY: {path}: {error.strerror or error}") from None
    else:
        sys.stdout.write(summary)
    for comparison in comparisons:
        for line in github_annotations(comparison):
            print(line)
