"""What watching costs: one more attempt of the fastest case, with the sampler on and off by turns."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from benchbox import stats
from benchbox.errors import WorkerStartError
from benchbox.measure.judge import read_rank
from benchbox.measure.launch import WorkerServer, start_attempt
from benchbox.measure.sampler import Sampler
from benchbox.schema import (
    AttemptResult,
    Case,
    Interval,
    MeasureSettings,
    RankResult,
    Suite,
    TelemetryCost,
    WorkerTask,
)

_LEAST_S, _MOST_S = 4.0, 8.0
"""As long as all attempts of the run were measured, within these: a small run is not kept waiting long."""
_MIN_STEPS_A_TURN = 4
_MIN_TURN_S = 0.25
_ORDER = (True, False, False, True)
"""On, off, off, on, and again: both sides lie around the same middle, so linear drift falls on both alike."""


class Turn(msgspec.Struct, frozen=True):
    """A stretch of time with the sampler on or off throughout."""

    start_at_ns: int
    end_at_ns: int
    on: bool


class _Held(NamedTuple):
    on: bool
    step_time_ns: list[int]


def fastest_case(suite: Suite, attempts: Sequence[AttemptResult]) -> tuple[Case, float] | None:
    """The ``ok`` case with the shortest steps, whose turns hold the most of them, and its step in seconds.

    One that trains in a single process, where there is any: steps of several ranks vary more. Never one that
    ran on several machines: this one's sampler knows nothing of the others.
    """
    cases = {case.case_id: case for case in suite.cases}
    steps = [
        (
            cases[attempt.case_id].world_size,
            stats.median(attempt.ranks[0].step_time_ns) / 1e9,
            attempt.case_id,
        )
        for attempt in attempts
        if attempt.outcome == "ok" and not any(rank.node for rank in attempt.ranks)
    ]
    if not steps:
        return None
    _, step_s, case_id = min(steps)
    return cases[case_id], step_s


def watched_seconds(attempts: Sequence[AttemptResult]) -> float:
    """How long the attempt may take, warm-up included."""
    windows = [window for attempt in attempts for rank in attempt.ranks[:1] for window in rank.windows]
    measured_s = sum(window.end_at_ns - window.start_at_ns for window in windows) / 1e9
    return min(max(measured_s, _LEAST_S), _MOST_S)


def cost_settings(settings: MeasureSettings, seconds: float) -> MeasureSettings:
    """Settings under which the attempt uses all its ``seconds``: an interval that is never tight enough.

    A time to hang that the suite sets is for its own ``max_seconds`` and grows by what this attempt adds.
    """
    timeout_s = settings.timeout_s
    if timeout_s is not None:
        timeout_s += max(0.0, seconds - settings.max_seconds)
    return msgspec.structs.replace(
        settings,
        max_seconds=seconds,
        timeout_s=timeout_s,
        ci_target_pct=1e-9,
        min_measured_steps=1,
        max_measured_steps=100_000,
    )


def cost_of_watching(
    server: WorkerServer,
    task: WorkerTask,
    sampler: Sampler,
    step_s: float,
    rank_variables: Mapping[str, str],
) -> TelemetryCost | None:
    """Run ``task`` with the sampler by turns; ``None`` where it failed or too few turns held whole steps."""
    folder = Path(task.attempt_dir)
    try:
        turns = _take_turns(server, task, sampler, step_s, rank_variables)
        rank = read_rank(folder / "rank0.json")
    except WorkerStartError:  # the server has ended; all else is measured, and must not be lost for it
        server.close()
        return None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if rank is None or rank.outcome != "ok" or sampler.failure is not None:
        return None
    return compare_turns(task.case.case_id, rank, turns, sampler.cpu_share_pct)


def _take_turns(
    server: WorkerServer,
    task: WorkerTask,
    sampler: Sampler,
    step_s: float,
    rank_variables: Mapping[str, str],
) -> list[Turn]:
    """Run ``task`` to its end, with the sampler on and off; the turns that were whole."""
    turn_s = max(_MIN_TURN_S, _MIN_STEPS_A_TURN * step_s)
    pid = start_attempt(server, task, rank_variables)
    turns: list[Turn] = []
    deadline = time.monotonic() + task.measure.effective_timeout_s
    sampler.start(pid)
    since_ns = time.monotonic_ns()
    try:
        while server.wait(turn_s) is None and time.monotonic() < deadline:
            now_ns = time.monotonic_ns()
            turns.append(Turn(since_ns, now_ns, _ORDER[len(turns) % 4]))
            since_ns = now_ns
            (sampler.resume if _ORDER[len(turns) % 4] else sampler.pause)()
    finally:
        server.kill_worker()
        sampler.stop()
    return turns


def compare_turns(
    case_id: str, rank: RankResult, turns: Sequence[Turn], sampler_cpu_pct: float
) -> TelemetryCost | None:
    """Set the mean step times of the turns with the sampler on against those with it off.

    Means, because a sample falls into few steps and a median would never see it. A block of four turns, on,
    off, off, on or the other way round, gives one figure: the mean of its two log step times with the sampler
    on, less that with it off. Drift that is linear over a block cancels. The interval is Student's over the
    blocks. ``None`` for fewer than two blocks.
    """
    blocks = list(_blocks([_Held(turn.on, _steps_within(rank, turn)) for turn in turns]))
    if len(blocks) < 2:
        return None
    ratios = [_log_ratio(block) for block in blocks]
    low, high = stats.mean_interval(ratios, independent=True)
    on = [step for block in blocks for turn in block if turn.on for step in turn.step_time_ns]
    off = [step for block in blocks for turn in block if not turn.on for step in turn.step_time_ns]
    return TelemetryCost(
        case_id=case_id,
        step_time_on_ns=round(stats.mean(on)),
        step_time_off_ns=round(stats.mean(off)),
        num_steps_on=len(on),
        num_steps_off=len(off),
        effect_pct=100 * math.expm1(stats.mean(ratios)),
        effect_pct_interval=Interval(low=100 * math.expm1(low), high=100 * math.expm1(high)),
        sampler_cpu_pct=sampler_cpu_pct,
    )


def _blocks(held: Sequence[_Held]) -> Iterator[Sequence[_Held]]:
    """Four turns in a row that all hold steps, the outer two on and the inner two off or the other way."""
    place = 0
    while place + 4 <= len(held):
        four = held[place : place + 4]
        first = four[0].on
        is_block = [turn.on for turn in four] == [first, not first, not first, first]
        if is_block and all(turn.step_time_ns for turn in four):
            yield four
            place += 4
        else:
            place += 1


def _log_ratio(block: Sequence[_Held]) -> float:
    return sum((1 if turn.on else -1) * math.log(stats.mean(turn.step_time_ns)) for turn in block) / 2


def _steps_within(rank: RankResult, turn: Turn) -> list[int]:
    """The measured steps that lie wholly within the turn."""
    found = []
    number = 0
    for window in rank.windows:
        at_ns = window.start_at_ns
        for step_ns in rank.step_time_ns[number : number + window.num_steps]:
            if turn.start_at_ns <= at_ns and at_ns + step_ns <= turn.end_at_ns:
                found.append(step_ns)
            at_ns += step_ns
        number += window.num_steps
    return found
