"""Have DeepSpeed's Adam for the host built before the first case that needs it, on no case's time."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Generator, Mapping
from pathlib import Path

import msgspec

from benchbox.errors import WorkerStartError
from benchbox.measure.attempt import TICK_S, Tick
from benchbox.measure.launch import WorkerServer
from benchbox.schema import Case

TIMEOUT_S = 1800.0
"""For a compiler on a slow and busy machine, or another process that is building it now."""


def needs_host_adam(case: Case) -> bool:
    """Whether ``case`` has its weights updated on the host."""
    return case.strategy.endswith("-offload")


def build_host_adam(
    server: WorkerServer, variables: Mapping[str, str], timeout_s: float = TIMEOUT_S
) -> Generator[Tick, None, str | None]:
    """Build it in a fork of ``server``, or find it built; ``variables`` are those of the ranks that need it.

    Yields ticks meanwhile. Returns why it cannot be built; ``None`` also where nobody can tell: the ranks
    then say so themselves. Closing the iterator early ends the build.
    """
    began = time.monotonic()
    timed_out = False
    with tempfile.TemporaryDirectory(prefix="benchbox-build-") as folder:
        answer = Path(folder, "answer.json")
        try:
            server.start(host_adam=str(answer), stderr=str(Path(folder, "stderr.txt")), variables=variables)
            while server.wait(TICK_S) is None:
                elapsed_s = time.monotonic() - began
                if elapsed_s > timeout_s and not timed_out:
                    timed_out = True
                    server.kill_worker()
                yield Tick(elapsed_s, "building DeepSpeedCPUAdam", None, None, None, None)
            if timed_out:
                return f"DeepSpeedCPUAdam was not built within {timeout_s:g} s"
            return msgspec.json.decode(answer.read_bytes(), type=str | None)
        except (WorkerStartError, OSError, msgspec.MsgspecError):
            return None
        finally:
            server.kill_worker()
