"""``benchbox estimate``: will it fit? Without a device, and before anything runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer


def estimate(
    suite: Annotated[str, typer.Argument(help="A suite file, or the name of a shipped suite such as quick.")],
    profile: Annotated[
        str | None, typer.Option(help="The device, as `benchbox hw list` calls it. Default: this machine's.")
    ] = None,
    output_format: Annotated[
        Literal["terminal", "markdown", "json", "csv"], typer.Option("--format")
    ] = "terminal",
) -> None:
    """Foretell the memory of each case, whether it fits, and the largest batch that would."""
    import contextlib

    from rich.console import Console

    from benchbox.measure.estimate import detected_device, device_of_profile, estimates_for
    from benchbox.measure.launch import WorkerServer
    from benchbox.plan.hardware import find_profile, load_profiles
    from benchbox.plan.suite import find_suite, load_suite
    from benchbox.report.estimates import csv_estimate, markdown_estimate, terminal_estimate
    from benchbox.report.text import indented_json
    from benchbox.schema import SuiteEstimate

    path = find_suite(suite)
    loaded = load_suite(path)
    device = (
        detected_device() if profile is None else device_of_profile(find_profile(profile, load_profiles()))
    )
    with contextlib.ExitStack() as servers:
        import_dirs = (str(path.parent.absolute()), str(Path.cwd()))
        found = estimates_for(
            loaded.cases, device, lambda: servers.enter_context(WorkerServer({})), import_dirs
        )
    result = SuiteEstimate(
        suite=loaded.name,
        device=device.name,
        device_memory_bytes=device.memory_bytes,
        cases=loaded.cases,
        estimates=tuple(found[case.case_id] for case in loaded.cases),
    )
    match output_format:
        case "terminal":
            console = Console()
            console.print(terminal_estimate(result))
        case "markdown":
            sys.stdout.write(markdown_estimate(result))
        case "csv":
            sys.stdout.write(csv_estimate(result))
        case "json":
            sys.stdout.write(indented_json(result))
