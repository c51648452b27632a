"""A batch file for Slurm that runs a suite on several machines."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Sequence
from typing import NamedTuple

from benchbox.errors import BadInputError
from benchbox.plan.tomlfile import quoted
from benchbox.schema import Suite

# As sbatch reads --time: minutes, M:S, H:M:S, D-H, D-H:M, D-H:M:S.
_TIME = re.compile(r"\d+(:\d+){0,2}|\d+-\d+(:\d+){0,2}")


class Job(NamedTuple):
    """What the user asks of Slurm; ``None`` leaves it to the site."""

    num_nodes: int | None
    """``None``: as many as the largest case needs."""
    gpus_per_node: int | None
    time: str | None
    partition: str | None
    account: str | None
    out: str | None


def batch_file(suite: Suite, suite_argument: str, job: Job) -> str:
    """The file's text. The machines are asked for as a whole: a neighbour would be measured too.

    Raises:
        BadInputError: a value is empty or holds what a line of a batch file cannot, or is no time.
    """
    if job.time is not None and not _TIME.fullmatch(job.time):
        raise BadInputError(f"--time: {quoted(job.time)} is no time that sbatch knows, such as 02:00:00")
    options = {
        "--job-name": f"benchbox-{suite.name}",
        "--nodes": str(job.num_nodes or _nodes_needed(suite, job.gpus_per_node)),
        "--ntasks-per-node": "1",
        "--gpus-per-node": None if job.gpus_per_node is None else str(job.gpus_per_node),
        "--time": job.time,
        "--partition": job.partition,
        "--account": job.account,
        "--mem": "0",
    }
    out = f"bench-out/{suite.name}-" if job.out is None else job.out
    for name, value in {**options, "SUITE": suite_argument, "--out": out}.items():
        if value is not None and not value.isprintable():
            raise BadInputError(f"{name}: {quoted(value)} holds a character that a batch file cannot")
        if value is not None and not value.strip():
            raise BadInputError(f"{name}: is empty; name something, or leave it out")
    directives = [f"{name}={shlex.quote(value)}" for name, value in options.items() if value is not None]
    # A part of a job's name may be the shell's to fill in; all else is quoted.
    folder = f'{shlex.quote(out)}"$SLURM_JOB_ID"' if job.out is None else shlex.quote(out)
    lines = [
        "#!/bin/bash",
        *(f"#SBATCH {directive}" for directive in [*directives, "--exclusive"]),
        "set -euo pipefail",
        "",
        "# One task on each node, with all its processors: benchbox starts the ranks itself. Where one task",
        "# fails, the others are to go on: node 0 still has a report to write.",
        _continued(
            ["srun", "--ntasks-per-node=1", '--cpus-per-task="$SLURM_CPUS_ON_NODE"'],
            ["--kill-on-bad-exit=0", "--wait=0"],
            ["benchbox", "run", "--out", folder, "--", shlex.quote(suite_argument)],
        ),
    ]
    return "\n".join(lines) + "\n"


def _nodes_needed(suite: Suite, gpus_per_node: int | None) -> int:
    return math.ceil(max(case.world_size for case in suite.cases) / (gpus_per_node or 1))


def _continued(*parts: Sequence[str]) -> str:
    return " \\\n    ".join(" ".join(part) for part in parts)
