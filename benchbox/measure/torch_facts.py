"""Ask the worker's torch what it sees. What it prints meanwhile may be all that says why it sees no GPU."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

import msgspec

from benchbox.errors import WorkerStartError
from benchbox.measure.launch import START_TIMEOUT_S, WorkerServer, stderr_tail
from benchbox.schema import TorchFacts


class TorchAnswer(NamedTuple):
    """What torch says of itself, and the last line that it printed in saying so."""

    facts: TorchFacts
    printed: str | None


def ask_torch(server: WorkerServer, *, cudnn_benchmark: bool) -> TorchAnswer:
    """What the worker's torch says of itself, asked in a fork because the question may open CUDA.

    Raises:
        WorkerStartError: it cannot say.
    """
    with tempfile.TemporaryDirectory() as folder:
        answer, stderr = Path(folder, "facts.json"), Path(folder, "stderr.txt")
        server.start(facts=str(answer), stderr=str(stderr), cudnn_benchmark=cudnn_benchmark)
        status = server.wait(START_TIMEOUT_S)
        printed = _last_line(stderr_tail(stderr))
        if status != 0 or not answer.is_file():
            told = printed or "nothing was printed"
            raise WorkerStartError(f"torch could not describe this machine (status {status}): {told}")
        return TorchAnswer(msgspec.json.decode(answer.read_bytes(), type=TorchFacts), printed)


def _last_line(printed: str | None) -> str | None:
    """Without what stands before the text of a warning, and without the line of code that follows it."""
    lines = [line for line in (printed or "").splitlines() if line.strip() and not line.startswith(" ")]
    return lines[-1].rpartition("Warning: ")[2] if lines else None
