"""Start the ranks of a case through torchrun, from a process that has imported torch already.

Where ranks ended badly it leaves ``exits.json``: the exit status of each rank that torchrun has waited for,
by rank, negative for a signal.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from benchbox.schema import NodePlace, WorkerTask

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_END_WITHIN_S = 2
"""For the other ranks, once one has ended badly. They are told by SIGTERM, and killed after this time."""


def launch_ranks(task: Path, num_ranks: int, variables: Mapping[str, str]) -> None:
    """Be torchrun's agent for one case: start its ranks, and return when all have ended well.

    Raises:
        SystemExit: status 1, some rank did not.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.environ.update(variables)
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    _shorten_patience()
    rank = [sys.executable, "-P", "-m", "benchbox.worker.rank", str(task)]
    place = msgspec.json.decode(task.read_bytes(), type=WorkerTask).place
    options = [*_meeting(place), "--nproc-per-node", str(num_ranks)]
    options += ["--monitor-interval", "0.05", "--log-dir", str(task.parent / "torchrun"), "--no-python"]
    try:
        run.run(run.parse_args([*options, *rank]))  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        exits = {number: failure.exitcode for number, failure in error.failures.items()}
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


def _shorten_patience() -> None:
    """Torchrun gives ranks that pay no heed to SIGTERM 30 s, and ``--shutdown-timeout`` does not reach the
    place where it ends them because another one failed."""
    from torch.distributed.elastic.multiprocessing.api import PContext

    close = PContext.close

    def close_soon(self: PContext, death_sig: signal.Signals | None = None, timeout: int = 30) -> None:
        close(self, death_sig, min(timeout, _END_WITHIN_S))

    PContext.close = close_soon  # type: ignore[method-assign]
