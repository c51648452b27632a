"""One attempt, seen from outside: start the worker, watch it, take what it left, judge how it ended."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Generator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from benchbox.errors import BenchboxError, WorkerStartError
from benchbox.measure.judge import (
    Ending,
    Verdict,
    could_not_write,
    judge,
    read_exits,
    read_ranks,
    some_rank_failed,
)
from benchbox.measure.launch import WorkerServer, start_attempt, stderr_tail
from benchbox.measure.sampler import Sampler
from benchbox.schema import AttemptResult, Case, RankResult, WorkerTask

TICK_S = 0.25
OTHERS_END_WITHIN_S = 5.0
"""For the other ranks, once one has failed: torchrun gives those that heed no SIGTERM half a minute."""
KILL_GRACE_S = 30.0
"""For a process to end that was killed; one that is stuck in the kernel, after a GPU's fault, never does."""


class Tick(msgspec.Struct, frozen=True):
    """Where the running attempt stands, for the live display; ``None`` where nothing is known yet."""

    elapsed_s: float
    phase: str | None
    num_steps: int | None
    step_s: float | None
    device_memory_used_bytes: int | None
    host_rss_bytes: int | None


class _Watch:
    """Kills the worker once its time is over, once ranks go on for too long after one has failed, or once
    the attempt has ended on another machine."""

    def __init__(self, task: WorkerTask, server: WorkerServer, should_stop: Callable[[], bool]) -> None:
        self.timed_out = False
        self.stopped = False
        self._should_stop = should_stop
        self._task = task
        self._server = server
        self._began = time.monotonic()
        self._failed_at: float | None = None
        self._killed_at: float | None = None

    def is_stuck(self) -> bool:
        """Look at the clock and at what ranks say, and kill where that is due. Whether it was in vain."""
        now = time.monotonic()
        if self._killed_at is not None:
            return now - self._killed_at > KILL_GRACE_S
        if self._failed_at is None and some_rank_failed(self._task):
            self._failed_at = now
        self.stopped = self._should_stop()
        self.timed_out = not self.stopped and now - self._began > self._task.measure.effective_timeout_s
        if (
            self.stopped
            or self.timed_out
            or (self._failed_at is not None and now - self._failed_at > OTHERS_END_WITHIN_S)
        ):
            self._killed_at = now
            self._server.kill_worker()
        return False


class _Progress(msgspec.Struct, frozen=True):
    phase: str
    num_steps: int
    step_s: float


def watch_attempt(
    server: WorkerServer,
    task: WorkerTask,
    sampler: Sampler | None,
    rank_variables: Mapping[str, str] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Generator[Tick | AttemptResult, None, None]:
    """Run one attempt to its end. Yields ticks, and last the result.

    ``rank_variables`` are the environment of the ranks that torchrun starts, on top of the server's own.
    ``should_stop`` is asked at every tick whether to end the attempt because it has ended on another machine.

    Closing the iterator early ends the worker with all its processes. One that cannot be killed is left to
    itself, and the server, which waits for it, is closed.
    """
    started_at = datetime.now(UTC)
    oom_kills = _oom_kills()
    began = time.monotonic()
    pid = start_attempt(server, task, rank_variables or {})
    watch = _Watch(task, server, should_stop)
    status: int | str | None
    try:
        if sampler is not None:
            sampler.start(pid)
        while (status := server.wait(TICK_S)) is None:
            if watch.is_stuck():
                server.close()
                status = "the worker could not be killed"
                break
            yield _tick(Path(task.attempt_dir), time.monotonic() - began, sampler)
    except WorkerStartError as error:  # the server has ended; the worker's own word may still be there
        status = str(error)
    finally:
        server.kill_worker()
        if sampler is not None:
            sampler.stop()
    duration_s = time.monotonic() - began

    ending = Ending(status, watch.timed_out, _oom_kills() > oom_kills, watch.stopped)
    yield _result(task, ending, sampler, started_at, duration_s)
    shutil.rmtree(task.attempt_dir, ignore_errors=True)


def unsupported(case: Case, attempt: int, reason: str) -> AttemptResult:
    """The result of an attempt for which no process is started."""
    return AttemptResult(
        case_id=case.case_id,
        attempt=attempt,
        outcome="unsupported",
        reason=reason,
        stderr_tail=None,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        duration_s=0.0,
        overhead_s=None,
        ranks=(),
        devices=(),
        host=None,
    )


def _result(
    task: WorkerTask, ending: Ending, sampler: Sampler | None, started_at: datetime, duration_s: float
) -> AttemptResult:
    ranks, exits = read_ranks(task), read_exits(task, ending.status)
    if could_not_write(exits):
        raise BenchboxError(
            f"{task.attempt_dir}: the worker could not write there; free space, then go on with --resume"
        )
    verdict = judge(task, ranks, exits, ending)
    first = ranks[0] if ranks and ranks[0].rank == task.local_ranks[0] else None
    windows = first.windows if first is not None else ()
    devices, host = sampler.telemetry(windows) if sampler is not None else ((), None)
    reason = verdict.reason
    was_cut_short = verdict.outcome == "ok" and reason is not None  # how long its last pass took is unknown
    if verdict.outcome == "ok" and sampler is not None and sampler.failure is not None:
        reason = "; ".join(filter(None, [reason, f"telemetry is not whole: {sampler.failure}"]))
    return AttemptResult(
        case_id=task.case.case_id,
        attempt=task.attempt,
        outcome=verdict.outcome,
        reason=reason,
        stderr_tail=None if verdict.outcome == "ok" else _stderr_tail(Path(task.attempt_dir), verdict),
        started_at=started_at.isoformat(timespec="seconds"),
        duration_s=duration_s,
        overhead_s=None if first is None or was_cut_short else _overhead_s(first, duration_s),
        ranks=ranks,
        devices=devices,
        host=host,
    )


def _stderr_tail(folder: Path, verdict: Verdict) -> str | None:
    """What the rank to blame printed, or else what the worker or the launcher of the ranks did."""
    own = None if verdict.rank is None else stderr_tail(folder / f"stderr.rank{verdict.rank}.txt")
    return own or stderr_tail(folder / "stderr.txt")


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
        host_rss_bytes=None if latest is None else latest.host_rss_bytes,
    )


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
