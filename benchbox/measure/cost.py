"""What watching costs: one more attempt of the fastest case, with the sampler on and off by turns."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchbox import stats
from benchbox.measure.attempt import read_rank
from benchbox.measure.launch import WorkerServer
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

_SECONDS = 8.0
_MIN_STEPS_A_TURN = 4
_MIN_TURN_S = 0.25


class Turn(msgspec.Struct, frozen=True):
    """A stretch of time with the sampler on or off throughout."""

    start_at_ns: int
    end_at_ns: int
    on: bool


def fastest_case(suite: Suite, attempts: Sequence[AttemptResult]) -> tuple[Case, float] | None:
    """The ``ok`` case with the shortest steps, whose turns hold the most of them, and its step in seconds."""
    cases = {case.case_id: case for case in suite.cases}
    steps = [
        (stats.median(attempt.ranks[0].step_time_ns) / 1e9, attempt.case_id)
        for attempt in attempts
        if attempt.outcome == "ok"
    ]
    if not steps:
        return None
    step_s, case_id = min(steps)
    return cases[case_id], step_s


def cost_settings(settings: MeasureSettings) -> MeasureSettings:
    """Settings under which the attempt uses its whole time: an interval that is never tight enough."""
    return msgspec.structs.replace(
        settings, max_seconds=_SECONDS, ci_target_pct=1e-9, min_measured_steps=1, max_measured_steps=100_000
    )


def cost_of_watching(
    server: WorkerServer, task: WorkerTask, sampler: Sampler, step_s: float
) -> TelemetryCost | None:
    """Run ``task`` with the sampler by turns; ``None`` where it failed or too few turns held whole steps."""
    folder = Path(task.attempt_dir)
    folder.mkdir(parents=True)
    (folder / "case.json").write_bytes(msgspec.json.encode(task))
    turn_s = max(_MIN_TURN_S, _MIN_STEPS_A_TURN * step_s)
    pid = server.start(task=str(folder / "case.json"), stderr=str(folder / "stderr.txt"))
    turns: list[Turn] = []
    deadline = time.monotonic() + task.measure.effective_timeout_s
    sampler.start(pid)
    on, since_ns = True, time.monotonic_ns()
    try:
        while server.wait(turn_s) is None and time.monotonic() < deadline:
            now_ns = time.monotonic_ns()
            turns.append(Turn(since_ns, now_ns, on))
            on, since_ns = not on, now_ns
            (sampler.resume if on else sampler.pause)()
    finally:
        server.kill_worker()
        sampler.stop()
    rank = read_rank(folder / "rank0.json")
    shutil.rmtree(folder, ignore_errors=True)
    if rank is None or rank.outcome != "ok":
        return None
    return compare_turns(task.case.case_id, rank, turns, sampler.cpu_share_pct)


def compare_turns(
    case_id: str, rank: RankResult, turns: Sequence[Turn], sampler_cpu_pct: float
) -> TelemetryCost | None:
    """Set the step times of each turn with the sampler on against those of the turn after it, with it off.

    Neighbours in time are compared, so slow drift of the machine falls out. The interval is Student's over
    the pairs' log ratios. ``None`` for fewer than two pairs.
    """
    held = [(turn, _steps_within(rank, turn)) for turn in turns]
    pairs = [
        (first, second) if turn.on else (second, first)
        for (turn, first), (_, second) in zip(held[::2], held[1::2], strict=False)
        if first and second
    ]
    if len(pairs) < 2:
        return None
    ratios = [math.log(stats.median(on) / stats.median(off)) for on, off in pairs]
    low, high = stats.mean_interval(ratios, independent=True)
    all_on = [step for on, _ in pairs for step in on]
    all_off = [step for _, off in pairs for step in off]
    return TelemetryCost(
        case_id=case_id,
        step_time_on_ns=round(stats.median(all_on)),
        step_time_off_ns=round(stats.median(all_off)),
        num_steps_on=len(all_on),
        num_steps_off=len(all_off),
        effect_pct=100 * math.expm1(stats.mean(ratios)),
        effect_pct_interval=Interval(low=100 * math.expm1(low), high=100 * math.expm1(high)),
        sampler_cpu_pct=sampler_cpu_pct,
    )


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
