"""``benchbox slurm``: a batch file that runs a suite on several machines."""

from __future__ import annotations

from typing import Annotated

import typer


def slurm(
    suite: Annotated[str, typer.Argument(help="A suite file, or the name of a shipped suite such as quick.")],
    nodes: Annotated[
        int | None, typer.Option(min=1, help="Machines. Default: as many as the largest case needs.")
    ] = None,
    gpus_per_node: Annotated[
        int | None, typer.Option(min=1, help="GPUs of each; without it, CPUs only.")
    ] = None,
    time: Annotated[str | None, typer.Option(help="Longest time, as sbatch reads it: 02:00:00.")] = None,
    partition: Annotated[str | None, typer.Option(help="Where to queue.")] = None,
    account: Annotated[str | None, typer.Option(help="Who pays.")] = None,
    out: Annotated[
        str | None, typer.Option(help="Folder for the report. Default: bench-out/SUITE-JOB.")
    ] = None,
) -> None:
    """Print a batch file for sbatch that runs a suite on several machines."""
    from benchbox.plan.sbatch import Job, batch_file
    from benchbox.plan.suite import find_suite, load_suite

    loaded = load_suite(find_suite(suite))
    print(batch_file(loaded, suite, Job(nodes, gpus_per_node, time, partition, account, out)), end="")
