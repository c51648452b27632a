"""``benchbox plan``: which device, how many, for how long, at what cost."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer


def plan(
    files: Annotated[list[Path], typer.Argument(help="report.json files to plan from.")],
    *,
    job: Annotated[Path | None, typer.Option(help="TOML with a [job] table; options override it.")] = None,
    model: Annotated[str | None, typer.Option(help="Which of the reports' models the job trains.")] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Samples to train on, in all.")] = None,
    dataset_size: Annotated[int | None, typer.Option(min=1, help="With --epochs, instead of it.")] = None,
    epochs: Annotated[float | None, typer.Option(min=0.000001, help="With --dataset-size.")] = None,
    global_batch_size: Annotated[
        int | None, typer.Option(min=1, help="Samples of an optimizer step.")
    ] = None,
    deadline: Annotated[str | None, typer.Option(help="E.g. 90m, 48h or 10d.")] = None,
    budget: Annotated[float | None, typer.Option(min=0.000001, help="In the prices' currency.")] = None,
    target: Annotated[
        str | None, typer.Option(help="Devices, by comma. Default: all that are known.")
    ] = None,
    counts: Annotated[str | None, typer.Option(help="Numbers of devices, e.g. 1,2,4 or 1-64.")] = None,
    devices_per_host: Annotated[int | None, typer.Option(min=1, help="Default: 8.")] = None,
    network_gb_per_s: Annotated[
        float | None, typer.Option(min=0.000001, help="Between hosts, for each device.")
    ] = None,
    prices: Annotated[Path | None, typer.Option(help="TOML with the prices; docs/plan.md shows one.")] = None,
    top: Annotated[int, typer.Option(min=1, max=1000, help="How many configurations to show.")] = 15,
    output_format: Annotated[
        Literal["terminal", "markdown", "json", "csv"], typer.Option("--format")
    ] = "terminal",
) -> None:
    """Size a compute budget from measured reports: time, cost, energy and carbon, ranked."""
    from msgspec.structs import replace
    from rich.console import Console

    from benchbox.analyze.plan import plan as plan_job
    from benchbox.plan.hardware import load_profiles
    from benchbox.plan.plan_file import checked_job, read_counts, read_job, read_prices
    from benchbox.report import plan_view
    from benchbox.report.files import read_report
    from benchbox.schema import PlanJob

    given: dict[str, Any] = {
        "model": model,
        "samples": samples,
        "dataset_size": dataset_size,
        "epochs": epochs,
        "global_batch_size": global_batch_size,
        "deadline": deadline,
        "budget": budget,
        "targets": tuple(target.split(",")) if target else None,
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
        read_prices(prices) if prices else None,
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
