"""One attempt, seen from outside: start the worker, watch it, take what it left, judge how it ended."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from benchbox.errors import BenchboxError, WorkerStartError
from benchbox.measure.launch import WorkerServer, stderr_tail
from benchbox.measure.sampler import Sampler
from benchbox.schema import AttemptResult, Outcome, RankResult, WorkerTask

TICK_S = 0.25
KILL_GRACE_S = 30.0
"""For a process to end that was killed; one that is stuck in the kernel, after a GPU's fault, never does."""


class Tick(msgspec.Struct, frozen=True):
    """Where the running attempt stands, for the live display; ``None`` where nothing is known yet."""

    elapsed_s: float
    phase: str | None
    num_steps: int | None
    step_s: float | None
    device_memory_used_bytes: int | None


class _Progress(msgspec.Struct, frozen=True):
    phase: str
    num_steps: int
    step_s: float


def watch_attempt(
    server: WorkerServer, task: WorkerTask, sampler: Sampler | None
) -> Generator[Tick | AttemptResult, None, None]:
    """Run one attempt to its end. Yields ticks, and last the result.

    Closing the iterator early ends the worker with all its processes. One that cannot be killed is left to
    itself, and the server, which waits for it, is closed.
    """
    folder = Path(task.attempt_dir)
    folder.mkdir(parents=True)
    (folder / "case.json").write_bytes(msgspec.json.encode(task))
    started_at = datetime.now(UTC)
    oom_kills = _oom_kills()
    began = time.monotonic()
    pid = server.start(task=str(folder / "case.json"), stderr=str(folder / "stderr.txt"))
    killed_at: float | None = None
    status: int | str | None
    try:
        if sampler is not None:
            sampler.start(pid)
        while (status := server.wait(TICK_S)) is None:
            now = time.monotonic()
            if killed_at is None and now - began > task.measure.effective_timeout_s:
                killed_at = now
                server.kill_worker()
            if killed_at is not None and now - killed_at > KILL_GRACE_S:
                server.close()
                status = "the worker could not be killed"
                break
            yield _tick(folder, now - began, sampler)
    except WorkerStartError as error:  # the server has ended; the worker's own word may still be there
        status = str(error)
    finally:
        server.kill_worker()
        if sampler is not None:
            sampler.stop()
    duration_s = time.monotonic() - began

    rank = read_rank(folder / "rank0.json")
    if rank is None and status == os.EX_IOERR:
        raise BenchboxError(
            f"{folder}: the worker could not write there; free space, then go on with --resume"
        )
    outcome, reason = _judge(task, rank, status, killed_at is not None, _oom_kills() > oom_kills)
    windows = rank.windows if rank is not None else ()
    devices, host = sampler.telemetry(windows) if sampler is not None else ((), None)
    if outcome == "ok" and sampler is not None and sampler.failure is not None:
        reason = f"telemetry is not whole: {sampler.failure}"
    yield AttemptResult(
        case_id=task.case.case_id,
        attempt=task.attempt,
        outcome=outcome,
        reason=reason,
        stderr_tail=None if outcome == "ok" else stderr_tail(folder / "stderr.txt"),
        started_at=started_at.isoformat(timespec="seconds"),
        duration_s=duration_s,
        overhead_s=None if rank is None else _overhead_s(rank, duration_s),
        ranks=() if rank is None else (rank,),
        devices=devices,
        host=host,
    )
    shutil.rmtree(folder, ignore_errors=True)


def _tick(folder: Path, elapsed_s: float, sampler: Sampler | None) -> Tick:
    progress = None
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        progress = msgspec.json.decode((folder / "progress.json").read_bytes(), type=_Progress)
    latest = sampler.latest() if sampler is not None else None
    return Tick(
        elapsed_s=elapsed_s,
        phase=None if progress is None else progress.phase,
        num_steps=None if progress is None else progress.num_steps,
        step_s=None if progress is None else progress.step_s,
        device_memory_used_bytes=None if latest is None else latest.device_memory_used_bytes,
    )


def read_rank(path: Path) -> RankResult | None:
    """What the worker left; ``None`` where it left nothing whole."""
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(path.read_bytes(), type=RankResult)
    return None


def _judge(
    task: WorkerTask, rank: RankResult | None, status: int | str, timed_out: bool, kernel_killed: bool
) -> tuple[Outcome, str | None]:
    """``status`` is the worker's exit status, or the text that says why it is not known."""
    if timed_out:
        and_then = f"; {status}" if isinstance(status, str) else ""
        return "timeout", f"still running after {task.measure.effective_timeout_s:g} s{and_then}"
    if rank is not None:
        return rank.outcome, rank.reason
    if kernel_killed and (isinstance(status, str) or status == -signal.SIGKILL):
        return "oom", "the kernel killed the worker because host memory ran out"
    if isinstance(status, str):
        return "crashed", status
    if status < 0:
        return "crashed", f"the worker was ended by {_signal_name(-status)}"
    return "crashed", f"the worker left no result; its exit status was {status}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _overhead_s(rank: RankResult, duration_s: float) -> float:
    windows_s = sum(window.end_at_ns - window.start_at_ns for window in rank.windows) / 1e9
    return max(0.0, duration_s - rank.warmup_s - windows_s - rank.extra_passes_s)


def _oom_kills() -> int:
    """How often the kernel has killed a process for lack of memory, in this cgroup and on this machine."""
    total = 0
    for path in (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat")):
        with contextlib.suppress(OSError):
            for line in path.read_text().splitlines():
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    total += int(value)
    return total
