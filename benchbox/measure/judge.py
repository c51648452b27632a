"""How an attempt ended, from what its ranks left and how their processes ended: the first cause counts."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from benchbox.measure.launch import signal_name
from benchbox.schema import ANOTHER_RANK_ENDED, PASSES_CUT_SHORT, Outcome, RankResult, WorkerTask

_ENDED_BY_TORCHRUN = (-signal.SIGTERM, -signal.SIGKILL)
"""How the other ranks end once one has failed. NCCL's watchdog aborts, which is no first cause either."""


class Ending(NamedTuple):
    """How the process that the server forked for the attempt ended."""

    status: int | str
    """Exit status, negative for a signal, or the text that says why it is not known."""
    timed_out: bool
    kernel_killed: bool
    """Whether the kernel killed some process for lack of memory meanwhile."""
    stopped: bool = False
    """Whether it was ended because the attempt had ended on another machine."""


class _Word(msgspec.Struct, frozen=True):
    outcome: Outcome


class Verdict(NamedTuple):
    """The outcome of an attempt, and the rank that is to blame where there is one."""

    outcome: Outcome
    reason: str | None
    rank: int | None = None


def read_rank(path: Path) -> RankResult | None:
    """What a rank left; ``None`` where it left nothing whole."""
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(path.read_bytes(), type=RankResult)
    return None


def read_ranks(task: WorkerTask) -> tuple[RankResult, ...]:
    """What the ranks on this machine left, by rank; those that left nothing are not in it."""
    folder = Path(task.attempt_dir)
    found = (read_rank(folder / f"rank{number}.json") for number in task.local_ranks)
    return tuple(rank for rank in found if rank is not None)


def some_rank_failed(task: WorkerTask) -> bool:
    """Whether one of several ranks has said already that the case did not go well."""
    if task.case.world_size == 1:
        return False
    for number in task.local_ranks:
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            told = Path(task.attempt_dir, f"rank{number}.json").read_bytes()
            if msgspec.json.decode(told, type=_Word).outcome != "ok":
                return True
    return False


def read_exits(task: WorkerTask, status: int | str) -> dict[int, int]:
    """The exit status of each rank, as far as it is known."""
    if task.case.strategy == "single":
        return {} if isinstance(status, str) else {0: status}
    if status == 0:
        return dict.fromkeys(task.local_ranks, 0)
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(Path(task.attempt_dir, "exits.json").read_bytes(), type=dict[int, int])
    return {}


def could_not_write(exits: Mapping[int, int]) -> bool:
    """Whether a rank ended because its last word could not be written: what it left before may be wrong."""
    return os.EX_IOERR in exits.values()


def judge(task: WorkerTask, ranks: Sequence[RankResult], exits: Mapping[int, int], ending: Ending) -> Verdict:
    """The outcome, and why.

    A rank's own word comes first, and of several the earliest; then how ranks without a word ended; last what
    only follows from another's end.
    """
    several = task.case.world_size > 1
    failed = sorted((r for r in ranks if r.outcome != "ok"), key=lambda rank: rank.finished_at_ns)
    all_measured = len(ranks) == len(task.local_ranks) and not failed
    if ending.timed_out:
        return _too_late(task, ending, all_measured=all_measured)
    if all_measured:
        return Verdict("ok", _cut_short(ranks, exits, ending, several=several))
    causes = [rank for rank in failed if not (rank.reason or "").startswith(ANOTHER_RANK_ENDED)]
    if causes:
        return _by_own_word(causes[0], failed, several=several)
    wrote = {rank.rank for rank in ranks}
    silent = {number: code for number, code in exits.items() if number not in wrote}
    died = _by_exit(silent, several=several, kernel_killed=ending.kernel_killed)
    if died is not None and (exits[died.rank or 0] != -signal.SIGTERM or not failed):
        return died
    if failed:
        return _by_own_word(failed[0], failed, several=several)
    return _by_launcher(ending, several=several)


def _too_late(task: WorkerTask, ending: Ending, *, all_measured: bool) -> Verdict:
    """What all ranks have measured stands, as where one of them dies in a later pass."""
    and_then = f"; {ending.status}" if isinstance(ending.status, str) else ""
    late = f"still running after {task.measure.effective_timeout_s:g} s{and_then}"
    if all_measured:
        return Verdict("ok", f"the passes after measuring ended early: {late}")
    return Verdict("timeout", late)


def _by_own_word(rank: RankResult, failed: Sequence[RankResult], *, several: bool) -> Verdict:
    """All ranks say alike what holds for each of them, so then none is named."""
    alike = len(failed) > 1 and all(other.reason == rank.reason for other in failed)
    reason = f"rank {rank.rank}: {rank.reason}" if several and not alike else rank.reason
    return Verdict(rank.outcome, reason, rank.rank)


def _by_exit(silent: Mapping[int, int], *, several: bool, kernel_killed: bool) -> Verdict | None:
    """Blame one of the ranks that left no word; the least telling ways to end come last."""
    if not silent:
        return None
    killed = [number for number, code in silent.items() if code == -signal.SIGKILL]
    if kernel_killed and killed:
        who = _who(killed[0], several=several)
        return Verdict("oom", f"the kernel killed {who} because host memory ran out", killed[0])
    telling = (-signal.SIGABRT, *reversed(_ENDED_BY_TORCHRUN))
    number = min(silent, key=lambda n: telling.index(silent[n]) if silent[n] in telling else -1)
    return Verdict("crashed", _how(number, silent[number], several=several), number)


def _by_launcher(ending: Ending, *, several: bool) -> Verdict:
    status = ending.status
    if ending.stopped:
        return Verdict("crashed", f"{ANOTHER_RANK_ENDED} on another node")
    if ending.kernel_killed and (isinstance(status, str) or status == -signal.SIGKILL):
        who = "the ranks' launcher" if several else "the worker"
        return Verdict("oom", f"the kernel killed {who} because host memory ran out")
    if isinstance(status, str):
        return Verdict("crashed", status)
    if status < 0:
        return Verdict("crashed", f"the ranks' launcher was ended by {signal_name(-status)}")
    return Verdict("crashed", f"torchrun could not start the ranks; its exit status was {status}")


def _cut_short(
    ranks: Sequence[RankResult], exits: Mapping[int, int], ending: Ending, *, several: bool
) -> str | None:
    """What is to be said of ranks that have measured and then ended in a later pass."""
    told_to_end = -signal.SIGTERM if several else 0  # by torchrun, which sends that first
    died = {number: code for number, code in exits.items() if code < 0 and code != told_to_end}
    blamed = _by_exit(died, several=several, kernel_killed=ending.kernel_killed)
    if blamed is None and not any(rank.extra_passes_failed_reason == PASSES_CUT_SHORT for rank in ranks):
        return None
    if blamed is None and isinstance(ending.status, str):
        blamed = _by_launcher(ending, several=several)
    how = f"exit status {ending.status}" if blamed is None else blamed.reason
    return f"the passes after measuring ended early: {how}"


def _how(number: int, code: int, *, several: bool) -> str:
    who = _who(number, several=several)
    if code < 0:
        return f"{who} was ended by {signal_name(-code)}"
    return f"{who} left no result; its exit status was {code}"


def _who(number: int, *, several: bool) -> str:
    return f"rank {number}" if several else "the worker"
