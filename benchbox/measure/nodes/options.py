"""Which of several machines this one is: what the user says, and under Slurm what Slurm does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from benchbox.errors import BadInputError
from benchbox.measure.nodes.slurm import SlurmStep, slurm_step
from benchbox.plan.tomlfile import quoted

MAX_NODES = 4096


class NodeOptions(NamedTuple):
    """The place of one machine among several."""

    num_nodes: int
    node: int
    host: str
    """Node 0's name or address."""
    port: int
    num_local_ranks: int | None
    """``None``: one for each GPU, or one on a CPU."""


def node_options(
    num_nodes: int | None,
    node: int | None,
    endpoint: str | None,
    num_local_ranks: int | None,
    variables: Mapping[str, str],
) -> NodeOptions | None:
    """What the options say, and Slurm's ``variables`` where they say nothing. ``None``: one machine alone.

    Raises:
        BadInputError: something is missing, out of range, or makes no sense together.
    """
    slurm = slurm_step(variables) if num_nodes is None or num_nodes > 1 else None
    if num_nodes is None:
        num_nodes = slurm.num_nodes if slurm is not None else 1
    if not 1 <= num_nodes <= MAX_NODES:
        raise BadInputError(f"--nnodes: {num_nodes} is not between 1 and {MAX_NODES}")
    if num_nodes == 1:
        _refuse_without_nodes(node, endpoint, num_local_ranks)
        return None
    if slurm is not None and slurm.num_nodes == num_nodes:
        node, endpoint = _filled_in(slurm, node, endpoint)
    if node is None:
        raise BadInputError(f"--nnodes {num_nodes}: say with --node-rank which of them this machine is")
    if endpoint is None:
        raise BadInputError(f"--nnodes {num_nodes}: say with --rdzv-endpoint HOST:PORT where node 0 listens")
    if not 0 <= node < num_nodes:
        raise BadInputError(f"--node-rank: {node} is not between 0 and {num_nodes - 1}")
    if num_local_ranks is not None and not 1 <= num_local_ranks <= MAX_NODES:
        raise BadInputError(f"--nproc-per-node: {num_local_ranks} is not between 1 and {MAX_NODES}")
    host, port = _parsed(endpoint)
    return NodeOptions(num_nodes, node, host, port, num_local_ranks)


def _filled_in(slurm: SlurmStep, node: int | None, endpoint: str | None) -> tuple[int, str]:
    return (
        slurm.node if node is None else node,
        f"{slurm.first_host}:{slurm.port}" if endpoint is None else endpoint,
    )


def _refuse_without_nodes(node: int | None, endpoint: str | None, num_local_ranks: int | None) -> None:
    given = {"--node-rank": node, "--rdzv-endpoint": endpoint, "--nproc-per-node": num_local_ranks}
    for name, value in given.items():
        if value is not None:
            raise BadInputError(f"{name}: goes with --nnodes of 2 or more")


def _parsed(endpoint: str) -> tuple[str, int]:
    host, colon, port = endpoint.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    is_number = port.isascii() and port.isdigit() and len(port) <= 5
    if not colon or not host or not is_number or not 1 <= int(port) <= 65_535:
        raise BadInputError(
            f"--rdzv-endpoint: {quoted(endpoint)} is not HOST:PORT with a port between 1 and 65535"
        )
    return host, int(port)
