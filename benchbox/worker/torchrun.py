"""Start the ranks of a case through torchrun, from a process that has imported torch already.

Where some ended badly it leaves ``exits.json``: the exit status of each rank, negative for a signal.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch
import torch.multiprocessing
from torch.multiprocessing.spawn import ProcessContext, start_processes

from benchbox.schema import NodePlace, WorkerTask
from benchbox.worker import rank

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def launch_ranks(task: Path, num_ranks: int, variables: Mapping[str, str]) -> None:
    """Be torchrun's agent for one case: fork its ranks, and return when all have ended well.

    Raises:
        SystemExit: status 1, some rank did not.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.environ.update(variables)
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    started = _note_what_is_started()
    told = msgspec.json.decode(task.read_bytes(), type=WorkerTask)
    options = [*_meeting(told.place), "--nproc-per-node", str(num_ranks)]
    options += ["--monitor-interval", "0.05", "--log-dir", str(task.parent / "torchrun")]
    options += ["--start-method", "fork", "--run-path", str(rank.__file__), str(task)]
    try:
        run.run(run.parse_args(options))  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        exits = {
            number: process.exitcode
            for number, process in zip(told.local_ranks, started[0].processes, strict=True)
        }
        (task.parent / "exits.json").write_bytes(msgspec.json.encode(exits))
        raise SystemExit(1) from error


def _meeting(place: NodePlace | None) -> list[str]:
    """Where the ranks meet: addresses, for a host's name may not resolve."""
    if place is None:
        return ["--standalone", "--local-addr", "127.0.0.1"]
    return [
        *("--nnodes", str(place.num_nodes), "--node-rank", str(place.node)),
        *("--master-addr", place.master_address, "--master-port", str(place.master_port)),
        *("--local-addr", place.local_address),
    ]


def _note_what_is_started() -> list[ProcessContext]:
    """What torchrun will start its ranks with, once it has: of several that ended badly its own error tells
    the status of one, which may be a rank that only lost its peer.

    Until then torchrun is told that there is no GPU. It asks, to bind processes to nodes of memory where a
    case takes all devices, and asking starts the driver: in a fork of such a process CUDA does not work.
    """
    start: Callable[..., ProcessContext] = start_processes
    is_available = torch.cuda.is_available
    started: list[ProcessContext] = []

    def start_and_note(*args: Any, **options: Any) -> ProcessContext:
        torch.cuda.is_available = is_available
        started.append(start(*args, **options))
        return started[-1]

    torch.cuda.is_available = lambda: False
    torch.multiprocessing.start_processes = start_and_note  # type: ignore[attr-defined]
    return started
