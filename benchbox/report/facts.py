"""What a report says beyond its summaries, looked up in its attempts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

from benchbox.schema import (
    AttemptResult,
    CaseResult,
    Communication,
    Environment,
    Flops,
    LossCheck,
    PhaseTimes,
    RankResult,
)
from benchbox.stats import mean, median

T = TypeVar("T")

OutcomeWord = Literal["ok", "oom", "unsupported", "timeout", "crashed", "invalid", "not finished"]


def outcome_word(result: CaseResult) -> OutcomeWord:
    """The outcome, or ``not finished``."""
    return result.outcome or "not finished"


def phase_times(result: CaseResult) -> PhaseTimes | None:
    """Of the first rank that timed phases."""
    return next((rank.phases for rank in _ranks(result.attempts) if rank.phases), None)


def loss_check(result: CaseResult) -> LossCheck | None:
    """Of the first rank that compared losses."""
    return next((rank.loss_check for rank in _ranks(result.attempts) if rank.loss_check), None)


def flop_counts(result: CaseResult) -> Flops | None:
    """Of the first rank that counted them."""
    return next((rank.flops for rank in _ranks(result.attempts) if rank.flops), None)


def first_and_last_loss(result: CaseResult) -> tuple[float | None, float | None]:
    """Of the first rank that measured, each ``None`` where it is unknown."""
    known = ((rank.first_loss, rank.last_loss) for rank in _ranks(result.attempts) if rank.step_time_ns)
    return next(known, (None, None))


def seconds_until_ready(attempts: Sequence[AttemptResult]) -> float | None:
    """From a worker's start to its first step, the middle of all ranks that came so far."""
    spans = [
        (rank.ready_at_ns - rank.process_start_at_ns) / 1e9
        for rank in _ranks(attempts)
        if rank.ready_at_ns is not None
    ]
    return median(spans) if spans else None


def major_page_faults(attempts: Sequence[AttemptResult]) -> int | None:
    """Within the windows of all ranks together: pages that had to come from a disk."""
    known = [rank.host_usage.major_page_faults for rank in _ranks(attempts) if rank.host_usage]
    return sum(known) if known else None


def rank_results(result: CaseResult) -> dict[int, list[RankResult]]:
    """What each rank measured in the attempts that are ``ok``, by rank."""
    by_rank: dict[int, list[RankResult]] = {}
    for rank in _ranks([attempt for attempt in result.attempts if attempt.outcome == "ok"]):
        by_rank.setdefault(rank.rank, []).append(rank)
    return dict(sorted(by_rank.items()))


def mean_step_ns(ranks: Sequence[RankResult]) -> float:
    """Over all measured steps; 0 where there are none."""
    times = [time_ns for rank in ranks for time_ns in rank.step_time_ns]
    return mean(times) if times else 0.0


def communication(result: CaseResult) -> Communication | None:
    """Of the slowest rank, in the first attempt in which it was measured."""
    slowest = result.summary.slowest_rank if result.summary else None
    known = [rank.communication for rank in _ranks(result.attempts) if rank.rank == slowest]
    return next((found for found in known if found), None)


def warmup_ends(attempts: Sequence[AttemptResult]) -> list[str]:
    """How warm-up ended, each way once, in the order of attempts."""
    return _distinct([rank.warmup_end for rank in _ranks(attempts)])


def stop_reasons(attempts: Sequence[AttemptResult]) -> list[str]:
    """Why measuring stopped, each reason once, in the order of attempts."""
    return _distinct([rank.stop_reason for rank in _ranks(attempts)])


def device_name(environment: Environment) -> str:
    """What was trained on, in the driver's or the kernel's words."""
    names = _distinct([device.name for device in environment.devices])
    if not names:
        count = 1 + len(environment.nodes)
        return environment.host.cpu_model if count == 1 else f"{count} × {environment.host.cpu_model}"
    count = len(environment.devices) + sum(len(node.devices) for node in environment.nodes)
    return " + ".join(names) if count == 1 else f"{count} × {' + '.join(names)}"


def _ranks(attempts: Sequence[AttemptResult]) -> list[RankResult]:
    return [rank for attempt in attempts for rank in attempt.ranks]


def _distinct(values: Sequence[T | None]) -> list[T]:
    return list(dict.fromkeys(value for value in values if value is not None))
