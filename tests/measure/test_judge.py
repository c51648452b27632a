"""Which of several ends is the attempt's."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from benchbox.measure.judge import Ending, could_not_write, judge, read_exits, read_ranks
from benchbox.schema import PASSES_CUT_SHORT, MeasureSettings, RankResult, WorkerTask
from tests.factories import make_case

LOST = "another rank ended: RuntimeError: Connection closed by peer"
TERM, KILL, SEGV, ABRT = (-int(s) for s in (signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT))


def task_of(world_size: int, folder: str = "/nowhere", strategy: str = "ddp") -> WorkerTask:
    return WorkerTask(
        case=make_case(strategy=strategy, world_size=world_size),
        measure=MeasureSettings(timeout_s=9),
        attempt=0,
        device="cpu",
        extra_passes=True,
        run_dir=folder,
        attempt_dir=folder,
        import_dirs=(),
        data_root=folder,
    )


def rank_of(number: int, outcome: Any = "ok", reason: str | None = None, at_ns: int = 1) -> RankResult:
    return RankResult(
        rank=number,
        outcome=outcome,
        reason=reason,
        process_start_at_ns=0,
        ready_at_ns=None,
        finished_at_ns=at_ns,
        extra_passes_s=0,
    )


RANKS = {
    # by what happened: the files, the exits, whether the kernel killed for memory; outcome, reason and rank
    "all went well": ([rank_of(0), rank_of(1)], {0: 0, 1: 0}, False, ("ok", None, None)),
    "the earliest own word counts": (
        [rank_of(0, "crashed", "E: later", 5), rank_of(1, "oom", "MemoryError", 4)],
        {0: 1, 1: 1},
        False,
        ("oom", "rank 1: MemoryError", 1),
    ),
    "a peer's loss is no cause, however early": (
        [rank_of(0, "crashed", LOST, 3), rank_of(1, "invalid", "NaN", 4)],
        {0: 1, 1: 1},
        False,
        ("invalid", "rank 1: NaN", 1),
    ),
    "what all say alike is of no rank": (
        [rank_of(0, "unsupported", "no fp16", 3), rank_of(1, "unsupported", "no fp16", 4)],
        {0: 1, 1: 1},
        False,
        ("unsupported", "no fp16", 0),
    ),
    "a signal comes before a peer's loss": (
        [rank_of(0, "crashed", LOST)],
        {0: 1, 1: SEGV},
        False,
        ("crashed", "rank 1 was ended by SIGSEGV", 1),
    ),
    "an own word comes before a signal": (
        [rank_of(0, "crashed", "E: why")],
        {0: 1, 1: KILL},
        False,
        ("crashed", "rank 0: E: why", 0),
    ),
    "torchrun's own signals tell least": (
        [],
        {0: TERM, 1: KILL, 2: ABRT, 3: 7},
        False,
        ("crashed", "rank 3 left no result; its exit status was 7", 3),
    ),
    "an abort tells more than what torchrun sends": (
        [],
        {0: KILL, 1: ABRT, 2: TERM, 3: TERM},
        False,
        ("crashed", "rank 1 was ended by SIGABRT", 1),
    ),
    "the kernel killed one for its memory": (
        [rank_of(0, "crashed", LOST)],
        {0: 1, 1: KILL},
        True,
        ("oom", "the kernel killed rank 1 because host memory ran out", 1),
    ),
    "only consequences are left": (
        [rank_of(0, "crashed", LOST)],
        {0: 1, 1: TERM},
        False,
        ("crashed", f"rank 0: {LOST}", 0),
    ),
    "a rank died after all had measured": (
        [rank_of(0), rank_of(1)],
        {0: TERM, 1: SEGV},
        False,
        ("ok", "the passes after measuring ended early: rank 1 was ended by SIGSEGV", None),
    ),
    "ranks that were only told to end have nothing to say": (
        [rank_of(0), rank_of(1)],
        {0: TERM, 1: 1},
        False,
        ("ok", None, None),
    ),
}


@pytest.mark.parametrize("what", RANKS)
def test_the_first_cause_is_the_attempts(what: str) -> None:
    ranks, exits, kernel_killed, expected = RANKS[what]
    ending = Ending(1 if any(exits.values()) else 0, timed_out=False, kernel_killed=kernel_killed)
    assert judge(task_of(len(exits)), ranks, exits, ending) == expected


@pytest.mark.parametrize(
    ("status", "kernel_killed", "expected"),
    [
        (KILL, False, ("crashed", "the ranks' launcher was ended by SIGKILL", None)),
        (KILL, True, ("oom", "the kernel killed the ranks' launcher because host memory ran out", None)),
        (1, False, ("crashed", "torchrun could not start the ranks; its exit status was 1", None)),
        ("the server ended", False, ("crashed", "the server ended", None)),
    ],
)
def test_without_a_word_of_any_rank_the_launcher_is_to_blame(
    status: int | str, kernel_killed: bool, expected: object
) -> None:
    ending = Ending(status, timed_out=False, kernel_killed=kernel_killed)
    assert judge(task_of(2), [], {}, ending) == expected


def test_a_timeout_is_one_whatever_the_ranks_say() -> None:
    ending = Ending(KILL, timed_out=True, kernel_killed=True)
    assert judge(task_of(2), [rank_of(0, "oom", "MemoryError")], {}, ending).outcome == "timeout"


def test_what_all_ranks_have_measured_stands_when_the_passes_after_it_take_too_long() -> None:
    ending = Ending(KILL, timed_out=True, kernel_killed=False)
    both = [rank_of(0), rank_of(1)]
    assert judge(task_of(2), both, {}, ending) == (
        "ok",
        "the passes after measuring ended early: still running after 9 s",
        None,
    )
    assert judge(task_of(2), both[:1], {}, ending).outcome == "timeout"
    for strategy in ("single", "ddp"):
        assert judge(task_of(1, strategy=strategy), both[:1], {0: KILL}, ending).outcome == "ok"
        assert judge(task_of(1, strategy=strategy), [], {0: KILL}, ending).outcome == "timeout"
    wrong = rank_of(0, "invalid", "losses differ")
    assert judge(task_of(1, strategy="single"), [wrong], {0: KILL}, ending).outcome != "ok"


@pytest.mark.parametrize(
    ("code", "kernel_killed", "how"),
    [
        (SEGV, False, "the worker was ended by SIGSEGV"),
        (TERM, False, "the worker was ended by SIGTERM"),
        (KILL, True, "the kernel killed the worker because host memory ran out"),
        (0, False, None),
    ],
)
def test_what_a_worker_alone_has_measured_stands_when_it_dies_after_that(
    code: int, kernel_killed: bool, how: str | None
) -> None:
    ending = Ending(code, timed_out=False, kernel_killed=kernel_killed)
    reason = None if how is None else f"the passes after measuring ended early: {how}"
    for strategy in ("single", "ddp"):
        verdict = judge(task_of(1, strategy=strategy), [rank_of(0)], {0: code}, ending)
        assert verdict == ("ok", reason, None)


def test_what_ranks_left_is_read_by_rank_and_what_is_not_whole_is_not_there(tmp_path: Path) -> None:
    for number in (2, 0):
        (tmp_path / f"rank{number}.json").write_bytes(msgspec.json.encode(rank_of(number)))
    (tmp_path / "rank1.json").write_text('{"rank": 1')
    (tmp_path / "rank3.json").write_bytes(msgspec.json.encode(rank_of(3)))  # of no rank of this case
    task = task_of(3, str(tmp_path))
    assert [rank.rank for rank in read_ranks(task)] == [0, 2]
    assert read_exits(task, 0) == {0: 0, 1: 0, 2: 0}
    assert read_exits(task, 1) == {}
    (tmp_path / "exits.json").write_text('{"0": -15, "1": 7}')
    assert read_exits(task, 1) == {0: -15, 1: 7}
    assert read_exits(task_of(1, str(tmp_path), "single"), -11) == {0: -11}
    assert read_exits(task_of(1, str(tmp_path), "single"), "unknown") == {}


def test_a_full_disk_is_no_outcome() -> None:
    assert could_not_write({0: 1, 1: os.EX_IOERR})
    assert not could_not_write({0: 1, 1: 0})


@pytest.mark.parametrize(
    ("status", "exits", "kernel_killed", "how"),
    [
        (7, {0: 7}, False, "exit status 7"),
        (-signal.SIGSEGV, {0: -signal.SIGSEGV}, False, "the worker was ended by SIGSEGV"),
        ("the server is gone", {}, False, "the server is gone"),
        ("the server is gone", {}, True, "the kernel killed the worker because host memory ran out"),
    ],
)
def test_a_worker_that_ended_in_a_later_pass_says_how(
    status: int | str, exits: dict[int, int], kernel_killed: bool, how: str
) -> None:
    rank = replace(rank_of(0), extra_passes_failed_reason=PASSES_CUT_SHORT)
    ending = Ending(timed_out=False, status=status, kernel_killed=kernel_killed)
    verdict = judge(task_of(1, strategy="single"), [rank], exits, ending)
    assert (verdict.outcome, verdict.reason) == ("ok", f"the passes after measuring ended early: {how}")
