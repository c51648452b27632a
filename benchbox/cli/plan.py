"""``benchbox plan``: which device, how many, for how long, at what cost."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from benchbox.errors import BadInputError

if TYPE_CHECKING:
    from benchbox.schema import Report

_MAX_TOP = 1000


def plan(
    files: Annotated[list[Path], typer.Argument(help="report.json files to plan from.")],
    *,
    job: Annotated[Path | None, typer.Option(help="TOML with a [job] table; options override it.")] = None,
    model: Annotated[str | None, typer.Option(help="Which of the reports' models the job trains.")] = None,
    samples: Annotated[int | None, typer.Option(help="Samples to train on, in all.")] = None,
    dataset_size: Annotated[int | None, typer.Option(help="With --epochs, instead of it.")] = None,
    epochs: Annotated[float | None, typer.Option(help="With --dataset-size.")] = None,
    global_batch_size: Annotated[int | None, typer.Option(help="Samples of an optimizer step.")] = None,
    deadline: Annotated[str | None, typer.Option(help="E.g. 90m, 48h or 10d.")] = None,
    budget: Annotated[float | None, typer.Option(help="In the prices' currency.")] = None,
    target: Annotated[
        str | None, typer.Option(help="Devices, by comma. Default: all that are known.")
    ] = None,
    counts: Annotated[str | None, typer.Option(help="Numbers of devices, e.g. 1,2,4 or 1-64.")] = None,
    devices_per_host: Annotated[int | None, typer.Option(help="Default: 8.")] = None,
    network_gb_per_s: Annotated[float | None, typer.Option(help="Between hosts, for each device.")] = None,
    prices: Annotated[Path | None, typer.Option(help="TOML with the prices; docs/plan.md shows one.")] = None,
    top: Annotated[int, typer.Option(help=f"How many configurations to show, up to {_MAX_TOP}.")] = 15,
    output_format: Annotated[
        Literal["terminal", "markdown", "json", "csv"], typer.Option("--format")
    ] = "terminal",
) -> None:
    """Size a compute budget from measured reports: time, cost, energy and carbon, ranked."""
    from msgspec.structs import replace
    from rich.console import Console

    from benchbox.analyze.plan import plan as plan_job
    from benchbox.plan.hardware import load_profiles
    from benchbox.plan.plan_file import checked_job, read_counts, read_job, read_prices, read_targets
    from benchbox.report import plan_view
    from benchbox.report.files import read_report
    from benchbox.schema import PlanJob

    if not 1 <= top <= _MAX_TOP:
        raise BadInputError(f"--top: {top} is no whole number from 1 to {_MAX_TOP}")
    given: dict[str, Any] = {
        "model": model,
        "samples": samples,
        "dataset_size": dataset_size,
        "epochs": epochs,
        "global_batch_size": global_batch_size,
        "deadline": deadline,
        "budget": budget,
        "targets": None if target is None else read_targets(target),
        "counts": read_counts(counts) if counts else None,
        "devices_per_host": devices_per_host,
        "network_gb_per_s": network_gb_per_s,
    }
    from_file = read_job(job) if job else PlanJob()
    # A size that is given in one way stands for the file's, in whichever way that says it.
    if samples is not None:
        from_file = replace(from_file, dataset_size=None, epochs=None)
    elif dataset_size is not None or epochs is not None:
        from_file = replace(from_file, samples=None)
    wanted = replace(
        from_file,
        **{key: value for key, value in given.items() if value is not None},
    )
    wanted, num_samples, deadline_s = checked_job(wanted)
    reports = [read_report(file) for file in files]
    result = plan_job(
        reports,
        wanted,
        num_samples,
        deadline_s,
        read_prices(prices, _today(reports)) if prices else None,
        load_profiles(),
        max(top, 100),
    )
    match output_format:
        case "terminal":
            Console().print(plan_view.terminal_plan(result, top))
        case "markdown":
            sys.stdout.write(plan_view.render_plan_markdown(result, top))
        case "json":
            sys.stdout.write(plan_view.render_plan_json(result))
        case "csv":
            sys.stdout.write(plan_view.render_plan_csv(result))


def _today(reports: Sequence[Report]) -> datetime.date:
    """The day in the zone that is furthest ahead, or the newest report's where the clock is behind it."""
    from benchbox.analyze.history import measured_at

    now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=14)
    return max(now.date(), *(measured_at(report.created_at).date() for report in reports))
