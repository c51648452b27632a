"""``benchbox history``: the course of each case over many reports."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from benchbox.errors import BadInputError

if TYPE_CHECKING:
    from benchbox.schema.history import ReportTimes


def history(
    folders: Annotated[list[Path], typer.Argument(help="Folders to search for report.json, or reports.")],
    across: Annotated[list[str] | None, typer.Option(help="A field that may differ. Repeatable.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the courses into this SVG, PNG or PDF.")] = None,
    output_format: Annotated[Literal["terminal", "json"], typer.Option("--format")] = "terminal",
) -> None:
    """Show how each case went over many reports, and at which report its level changed."""
    from benchbox.analyze.history import history_of, rates_of
    from benchbox.analyze.identity import check_across
    from benchbox.cli.output import picture_format
    from benchbox.report.files import without_collector

    fields = check_across(across or [])
    file_format = None if plot is None else picture_format("--plot", plot)
    # One at a time: the raw times of all would not fit into memory.
    with without_collector():
        times = ((path, _read(path, named=path in folders)) for path in find_reports(folders))
        reports = [rates_of(str(path), of_report) for path, of_report in times if of_report is not None]
    if not reports:
        raise _no_report(folders[0])
    found = history_of(reports, fields)
    if plot is not None and file_format is not None:
        from benchbox.report.files import write_bytes
        from benchbox.report.plots.canvas import render
        from benchbox.report.plots.history import history_plot

        write_bytes(render(history_plot(found), file_format), plot)
    if output_format == "json":
        from benchbox.report.text import indented_json

        sys.stdout.write(indented_json(found))
        return
    from rich.console import Console

    from benchbox.report.history import history_view

    Console().print(history_view(found))


def find_reports(places: list[Path]) -> list[Path]:
    """Every file of that name under a folder, and every ``.json`` that lies directly in it; files as named.
    One that is found twice stands once.

    Raises:
        BadInputError: a place holds none.
    """
    found: dict[Path, None] = {}
    for place in places:
        if not place.is_dir():
            found[place] = None
            continue
        inside = {*place.glob("*.json"), *place.rglob("report.json")}
        if not inside:
            raise _no_report(place)
        found |= dict.fromkeys(sorted(inside))
    return list({path.resolve(): path for path in reversed(found)}.values())[::-1]


def _no_report(place: Path) -> BadInputError:
    return BadInputError(f"{place}: no report.json in it")


def _read(path: Path, *, named: bool) -> ReportTimes | None:
    """Nothing for a comparison, a history or a plan that only lies beside reports, as ``run --versus`` leaves
    one."""
    from benchbox.report.files import read_times

    try:
        return read_times(path)
    except BadInputError:
        from benchbox.report.documents import is_other_document

        if named or not is_other_document(path):
            raise
        return None
