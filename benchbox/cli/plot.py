"""``benchbox plot``: one picture of reports as a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from benchbox.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchbox.report.plots.plot import Plot
    from benchbox.schema import Report

Kind = Literal["throughput", "scaling", "memory", "roofline", "telemetry", "phases", "history", "plan"]


def plot(
    files: Annotated[list[Path], typer.Argument(help="report.json files; for a plan, its JSON.")],
    kind: Annotated[Kind, typer.Option(help="What to draw.")] = "throughput",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A .svg, .png or .pdf file.")] = None,
    case: Annotated[
        str | None, typer.Option(help="For telemetry: a case's label or id. Default: the quickest.")
    ] = None,
) -> None:
    """Draw reports, or a plan: throughput over batch size, scaling, memory, roofline, phases, ..."""
    from benchbox.cli.output import check_out, picture_format, write_result
    from benchbox.report.shown import read_shown

    if out is None:
        raise BadInputError("--out: say which .svg, .png or .pdf file to write")
    file_format = picture_format("--out", out)
    if case is not None and kind != "telemetry":
        raise BadInputError(f"--case: says which case's telemetry to draw; --kind is {kind}")
    check_out(out, files)
    drawn = _plan(files) if kind == "plan" else _plot(kind, [read_shown(file) for file in files], case)

    from benchbox.report.plots.canvas import render

    write_result(render(drawn, file_format), out)
    for note in drawn.notes:
        print(note)


def _plan(files: Sequence[Path]) -> Plot:
    from benchbox.report.plan_view import read_plan
    from benchbox.report.plots.plan import plan

    if len(files) != 1:
        raise BadInputError("--kind plan: draws one plan; give one file")
    return plan(read_plan(files[0]))


def _plot(kind: Kind, reports: Sequence[Report], case: str | None) -> Plot:
    from benchbox.report.plots import history, memory, phases, roofline, scaling, telemetry, throughput

    if kind == "telemetry":
        return telemetry.telemetry(reports, case)
    draw = {
        "throughput": throughput.throughput,
        "scaling": scaling.scaling,
        "memory": memory.memory,
        "roofline": roofline.roofline,
        "phases": phases.phases,
        "history": history.history,
    }
    return draw[kind](reports)
