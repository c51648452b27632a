"""Ask a worker what the machine reaches, before a suite's cases run on it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec

from benchbox.errors import WorkerStartError
from benchbox.measure.launch import WorkerServer
from benchbox.schema import Ceilings, Suite

_TIMEOUT_S = 120.0
"""On top of the time for the probes: each runs at least three times, however slow the machine."""
_SHARE = 0.1
"""Of the time that the suite may measure, at most."""


def probe_seconds(suite: Suite) -> float:
    """How long the probes of a run of ``suite`` may take in all."""
    settings = suite.measure
    may_measure_s = len(suite.cases) * settings.repetitions * settings.max_seconds
    return min(settings.ceiling_seconds, _SHARE * may_measure_s)


def ask_ceilings(server: WorkerServer, suite: Suite, device: str) -> Ceilings | None:
    """What probes of ``device`` (``cpu`` or ``cuda:0``) reached, in a fork; ``None`` where they failed."""
    with tempfile.TemporaryDirectory(prefix="benchbox-ceilings-") as folder:
        answer = Path(folder, "ceilings.json")
        try:
            server.start(
                ceilings=str(answer),
                stderr=str(Path(folder, "stderr.txt")),
                device=device,
                num_threads=suite.measure.num_threads or 0,
                seconds=probe_seconds(suite),
            )
            status = server.wait(_TIMEOUT_S + 2 * suite.measure.ceiling_seconds)
        except WorkerStartError:  # the kernel may end the server too, for lack of memory
            status = None
        if status is None:
            server.close()
            return None
        try:
            return msgspec.json.decode(answer.read_bytes(), type=Ceilings)
        except (OSError, msgspec.MsgspecError):
            return None
