"""What Slurm tells the tasks of a job of itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from benchbox.errors import BadInputError
from benchbox.plan.tomlfile import quoted

_FIRST_PORT = 10_000
_NUM_PORTS = 20_000
"""Below the range that the kernel gives to outgoing connections."""
_ONE_EACH = re.compile(r"1(\(x\d+\))?")
_PREFIX = re.compile(r"[A-Za-z0-9._-]*")
_RANGES = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")
_MAX_LIST_CHARACTERS = 1 << 20


class SlurmStep(NamedTuple):
    """This task's place in the job step."""

    num_nodes: int
    node: int
    first_host: str
    port: int
    """The same for all tasks of a job, and another one for another job on the same machine."""


def slurm_step(variables: Mapping[str, str]) -> SlurmStep | None:
    """What the variables that ``srun`` sets say; ``None`` outside of Slurm and on a single node.

    A step's own variables come before those of the whole job.

    Raises:
        BadInputError: a variable makes no sense, or the node has more than one task.
    """
    num_nodes = _number(variables, "SLURM_STEP_NUM_NODES", "SLURM_NNODES")
    if num_nodes is None or num_nodes < 2:
        return None
    node = _number(variables, "SLURM_NODEID")
    job = _number(variables, "SLURM_JOB_ID")
    name, nodes = _first_of(variables, "SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST")
    if node is None or job is None or nodes is None:
        return None
    _refuse_several_tasks(variables)
    try:
        host = first_host(nodes)
    except ValueError:
        raise BadInputError(f"{name}: {quoted(nodes)} is no list of hosts") from None
    return SlurmStep(num_nodes, node, host, _FIRST_PORT + job % _NUM_PORTS)


def first_host(nodes: str) -> str:
    """The first host of a list such as ``n[01-04,7],login``.

    Raises:
        ValueError: it is none.
    """
    if len(nodes) > _MAX_LIST_CHARACTERS:
        raise ValueError
    host, rest = "", nodes.strip()
    while rest and not rest.startswith(","):
        if rest.startswith("["):
            ranges, bracket, rest = rest[1:].partition("]")
            if not bracket or not _RANGES.fullmatch(ranges):
                raise ValueError
            host += re.split("[-,]", ranges, maxsplit=1)[0]
            continue
        match = _PREFIX.match(rest)
        if match is None or not match.group():
            raise ValueError
        host, rest = host + match.group(), rest[match.end() :]
    if not host or host.startswith("-"):
        raise ValueError
    return host


def _refuse_several_tasks(variables: Mapping[str, str]) -> None:
    local = _number(variables, "SLURM_LOCALID")
    tasks = variables.get("SLURM_STEP_TASKS_PER_NODE")
    several = local not in (None, 0)
    if tasks is not None:
        several = several or not _ONE_EACH.fullmatch(tasks)
    else:
        several = several or (_number(variables, "SLURM_NTASKS_PER_NODE") or 1) > 1
    if several:
        raise BadInputError(
            "Slurm started more than one task on a node; benchbox starts a node's ranks itself: "
            "srun --ntasks-per-node=1"
        )


def _first_of(variables: Mapping[str, str], *names: str) -> tuple[str, str | None]:
    for name in names:
        if variables.get(name):
            return name, variables[name]
    return names[-1], None


def _number(variables: Mapping[str, str], *names: str) -> int | None:
    name, text = _first_of(variables, *names)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise BadInputError(f"{name}: {quoted(text)} is no number")
    return int(text)
