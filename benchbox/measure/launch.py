"""Start worker processes and learn how they end."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import msgspec

from benchbox.errors import WorkerStartError
from benchbox.schema import MeasureSettings, WorkerTask

START_TIMEOUT_S = 300.0  # importing torch from a cold network disk can take minutes

# glibc returns large freed blocks to the kernel at once, and every step pays for new pages; these keep them.
_KEEP_FREED_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 36),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 36),
    "MALLOC_TOP_PAD_": str(1 << 26),
}
_HUGE_PAGES = "glibc.malloc.hugetlb=1"  # ask for huge pages: far fewer faults when memory is first touched

REMOVED_VARIABLES = (
    "NVIDIA_TF32_OVERRIDE",  # beats what torch is told: fp32 cases would compute in TF32, or the reverse
)


def inherited_variables() -> dict[str, str]:
    """The controller's own variables, less those under which a case would not compute what it says."""
    return {name: value for name, value in os.environ.items() if name not in REMOVED_VARIABLES}


def tuned_allocator() -> dict[str, str]:
    """The variables that tune glibc's allocator; tunables of the user's own are kept."""
    tunables = os.environ.get("GLIBC_TUNABLES")
    return _KEEP_FREED_MEMORY | {"GLIBC_TUNABLES": f"{tunables}:{_HUGE_PAGES}" if tunables else _HUGE_PAGES}


def worker_variables(
    settings: MeasureSettings, num_threads: int, visible_device: str | None
) -> dict[str, str]:
    """Environment variables that the worker gets on top of those that it inherits.

    ``visible_device`` is the UUID of the one GPU that it may see.
    """
    variables = {"OMP_NUM_THREADS": str(settings.num_threads or num_threads)}
    if settings.host_allocator == "tuned":
        variables |= tuned_allocator()
    if visible_device is not None:
        variables["CUDA_VISIBLE_DEVICES"] = visible_device
    return variables


class WorkerServer:
    """The controller's end of ``benchbox.worker.server``: forks one worker at a time.

    ``python`` is the interpreter that the server and its workers run in. ``with_deepspeed`` has it import
    DeepSpeed for all of them; where no GPU is.

    Raises:
        WorkerStartError: the interpreter or its torch cannot be started.
    """

    def __init__(
        self, variables: Mapping[str, str], python: str = sys.executable, *, with_deepspeed: bool = False
    ) -> None:
        self._python = python
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the server
        try:
            self._process = subprocess.Popen(
                [python, "-P", "-m", "benchbox.worker.server"] + ["--with-deepspeed"] * with_deepspeed,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=inherited_variables() | dict(variables),
                start_new_session=True,
            )
        except OSError as error:
            raise WorkerStartError(
                f"the worker ({self._python}) cannot be started: {error.strerror or error}"
            ) from None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._commands = self._process.stdin
        self._answers = self._process.stdout
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._answers, selectors.EVENT_READ)
        self._pending = b""
        self._worker: int | None = None
        try:
            self._next_answer("ready", START_TIMEOUT_S)
        except BaseException:  # Ctrl-C too: whatever ends the start, nothing may be left running
            self._process.kill()  # it may be busy importing, and would not notice for seconds
            self.close()
            raise

    def __enter__(self) -> WorkerServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, **command: str | bool | float | Mapping[str, str]) -> int:
        """Fork a worker for ``command`` (see the server's ``Command``); its process id, which is also the
        id of its process group."""
        try:
            self._commands.write(msgspec.json.encode(command) + b"\n")
            self._commands.flush()
        except BrokenPipeError:
            raise self._early_end() from None
        self._worker = self._next_answer("started", START_TIMEOUT_S)["started"]
        return self._worker

    def wait(self, timeout_s: float) -> int | None:
        """The worker's exit status, negative for a signal, or ``None`` if it still runs after the time.

        Raises:
            WorkerStartError: the server has ended, so nobody knows how the worker did.
        """
        answer = self._answer(timeout_s)
        if answer is None:
            return None
        self._worker = None
        return answer["status"]

    def has_ended(self) -> bool:
        """Whether the server is gone: the kernel may have killed it for lack of memory."""
        return self._process.poll() is not None

    def kill_worker(self) -> None:
        """End the worker and all that it started."""
        if self._worker is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._worker, signal.SIGKILL)

    def close(self) -> None:
        """End the worker, if there is one, and the server. A second call does nothing."""
        self.kill_worker()
        self._worker = None
        self._selector.close()
        with contextlib.suppress(BrokenPipeError):
            self._commands.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()
        self._stderr.close()

    def _next_answer(self, kind: str, timeout_s: float) -> dict[str, int]:
        answer = self._answer(timeout_s)
        if answer is None or kind not in answer:
            raise WorkerStartError(f"the worker ({self._python}) did not answer: {self._stderr_end()}")
        return answer

    def _answer(self, timeout_s: float) -> dict[str, int] | None:
        """The next line, or ``None`` when the time is over."""
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._pending:
            if not self._selector.select(max(0.0, deadline - time.monotonic())):
                return None
            received = os.read(self._answers.fileno(), 65536)
            if not received:
                raise self._early_end()
            self._pending += received
        line, self._pending = self._pending.split(b"\n", 1)
        return msgspec.json.decode(line, type=dict[str, int])

    def _early_end(self) -> WorkerStartError:
        """What to raise where the server's pipes are closed.

        They close a moment before it counts as ended: waiting makes :meth:`has_ended` true from here on.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=10)
        code = self._process.returncode
        how = "ended early" if code is None or code >= 0 else f"was ended by {signal_name(-code)}"
        return WorkerStartError(f"the worker ({self._python}) {how}: {self._stderr_end()}")

    def _stderr_end(self) -> str:
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "nothing was printed"


def start_attempt(server: WorkerServer, task: WorkerTask, rank_variables: Mapping[str, str]) -> int:
    """Write ``case.json`` and start what runs it: a worker that trains alone, or torchrun with the ranks.

    ``rank_variables`` are the environment of the ranks. Returns the process id of the worker or of torchrun's
    agent, which descends from the server; the ranks descend from the agent.
    """
    folder = Path(task.attempt_dir)
    folder.mkdir(parents=True)
    path = folder / "case.json"
    path.write_bytes(msgspec.json.encode(task))
    told = {"task": str(path), "stderr": str(folder / "stderr.txt")}
    if task.case.strategy == "single":
        return server.start(**told)
    return server.start(**told, num_ranks=len(task.local_ranks), variables=rank_variables)


def stderr_tail(path: Path, max_chars: int = 8000) -> str | None:
    """The end of what a worker printed, without control characters; ``None`` where it printed nothing."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 4 * max_chars))
            text = file.read().decode(errors="replace")
    except OSError:
        return None
    kept = "".join(c for c in text if c in "\n\t" or (c.isprintable() and c != "\ufffd"))
    return kept.strip()[-max_chars:] or None


def signal_name(number: int) -> str:
    """``SIGKILL``."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
