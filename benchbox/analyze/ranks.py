"""What the ranks of one case say beside each other: who is slow, and what their collectives cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from benchbox.schema import (
    AllReduceCeiling,
    AttemptResult,
    CaseResult,
    Communication,
    Interval,
    RankResult,
)
from benchbox.stats import mean, mean_interval

STRAGGLER_PCT = 5.0
"""A rank that is slower by less is not named, however sure the difference: nobody would act on it."""

STEPS_DIFFER_PCT = 5.0
"""A communication pass whose steps differ by less from the measured ones is taken to be about them."""


class RankSummary(NamedTuple):
    """The fields of :class:`~benchbox.schema.CaseSummary` with these names; unknown with a single rank."""

    slowest_rank: int | None = None
    rank_spread_pct: float | None = None
    straggler_ranks: tuple[int, ...] = ()
    communication_share: float | None = None
    communication_share_interval: Interval | None = None
    communication_bytes_per_step: int | None = None
    communication_bytes_per_s: float | None = None


class _Work(NamedTuple):
    """What a step takes one rank, in ns."""

    rank: int
    mean_ns: float
    half_width_ns: float
    """Of the mean's 95 % interval."""
    least_ns: float
    """What it takes at the least: a rank that is slow is so even in its quickest steps."""


def longest_steps(attempt: AttemptResult) -> RankResult:
    """The rank with the longest mean measured step: the one that the global rate rests on."""
    return max(attempt.ranks, key=lambda rank: mean(rank.step_time_ns) if rank.step_time_ns else 0.0)


def summarize_ranks(attempts: Sequence[AttemptResult]) -> RankSummary:
    """Compare the ranks of the first attempt whose ranks all ran the pass without collectives.

    Ranks that exchange something in every step wait for each other, so their measured steps are nearly equal
    and tell nothing of who is slow. What tells is a rank's *own work*: its mean step in the pass without
    collectives. The slowest rank has the longest; a straggler's is longer than the middle rank's (of an even
    number the quicker one of the two in the middle) by more than both intervals and by at least
    :data:`STRAGGLER_PCT`, and its quickest block of steps is longer too: what else ran on its processor for a
    while slows some blocks, a rank that is slow all. The pass gives its interval for steps with collectives
    less steps without; half its width is at least the noise of the latter as far as the two vary
    independently, and stands for it.

    The communication share is the slowest rank's: a quicker rank waits in its collectives for the slowest,
    and that wait would stay if the wire were infinitely fast. Among equal ranks the slowest one is so by
    noise, which makes its share a little smaller than the middle one's.

    Without that pass only the measured steps are left. Where they differ clearly, ranks do not wait for each
    other and the straggler is named; where they do not, nothing is known.
    """
    communication = _communication(attempts)
    if communication is None:
        return _from_measured_steps(attempts)
    works = [_own_work(rank, pass_) for rank, pass_ in communication.items()]
    slowest = max(works, key=lambda work: work.mean_ns)
    quickest_ns = min(work.mean_ns for work in works)
    of_slowest = communication[slowest.rank]
    return RankSummary(
        slowest_rank=slowest.rank,
        rank_spread_pct=100 * (slowest.mean_ns / quickest_ns - 1) if quickest_ns > 0 else None,
        straggler_ranks=_stragglers(works),
        communication_share=_share(of_slowest),
        communication_share_interval=_share_interval(of_slowest),
        communication_bytes_per_step=of_slowest.bytes_per_step,
        communication_bytes_per_s=_bandwidth(of_slowest),
    )


def best_all_reduce(attempts: Sequence[AttemptResult]) -> float | None:
    """The bus bandwidth that an all-reduce among these attempts' ranks reached, in bytes/s.

    The best over bucket sizes and attempts; for one size, of the rank that saw it slowest, because the rank
    that begins last sees too little of it.
    """
    best = [
        min(rank.bytes_per_s for rank in of_size)
        for attempt in attempts
        for of_size in zip(*(rank.all_reduce for rank in attempt.ranks), strict=False)
    ]
    return max(best, default=None)


def all_reduce_ceilings(results: Sequence[CaseResult]) -> tuple[AllReduceCeiling, ...]:
    """The best of all cases of each world size that timed it."""
    best: dict[int, float] = {}
    for result in results:
        reached = best_all_reduce(result.attempts)
        if reached is not None:
            world_size = result.case.world_size
            best[world_size] = max(reached, best.get(world_size, 0.0))
    return tuple(AllReduceCeiling(world_size=n, bytes_per_s=rate) for n, rate in sorted(best.items()))


class OtherSteps(NamedTuple):
    """The slowest rank's mean step as measured, and with collectives in the communication pass, in ns."""

    measured_ns: float
    in_pass_ns: float


def steps_that_differ(attempts: Sequence[AttemptResult], slowest_rank: int | None) -> OtherSteps | None:
    """Both, where they differ by more than both intervals and by at least :data:`STEPS_DIFFER_PCT`.

    The pass's own interval is that of the exposed time, as for a rank's own work. Steps that others on the
    machine disturbed, in the pass or before, make such a difference; the share then is of other steps than
    those that were measured.
    """
    rank = next((r for a in attempts for r in a.ranks if r.rank == slowest_rank and r.communication), None)
    if rank is None or rank.communication is None or not rank.step_time_ns:
        return None
    measured_ns, in_pass_ns = mean(rank.step_time_ns), float(rank.communication.step_time_on_ns)
    (low, high), exposed = mean_interval(rank.step_time_ns), rank.communication.exposed_interval_ns
    noise_ns = (high - low) / 2 + (exposed.high - exposed.low) / 2
    apart_ns = abs(measured_ns - in_pass_ns)
    if apart_ns <= noise_ns or apart_ns < measured_ns * STEPS_DIFFER_PCT / 100:
        return None
    return OtherSteps(measured_ns, in_pass_ns)


def own_work_ns(attempts: Sequence[AttemptResult]) -> dict[int, int]:
    """The mean step without collectives of each rank that knows it, by rank."""
    return {
        rank.rank: rank.communication.step_time_off_ns
        for attempt in reversed(attempts)
        for rank in attempt.ranks
        if rank.communication is not None
    }


def _communication(attempts: Sequence[AttemptResult]) -> dict[int, Communication] | None:
    for attempt in attempts:
        known = {rank.rank: rank.communication for rank in attempt.ranks if rank.communication is not None}
        if len(known) == len(attempt.ranks) > 1:
            return known
    return None


def _from_measured_steps(attempts: Sequence[AttemptResult]) -> RankSummary:
    first = next((attempt for attempt in attempts if len(attempt.ranks) > 1), None)
    if first is None:
        return RankSummary()
    works = [
        _Work(rank.rank, mean(rank.step_time_ns), (high - low) / 2, low)
        for rank in first.ranks
        if rank.step_time_ns
        for low, high in [mean_interval(rank.step_time_ns)]
    ]
    stragglers = _stragglers(works) if works else ()
    if not stragglers:
        return RankSummary()
    return RankSummary(
        slowest_rank=max(works, key=lambda work: work.mean_ns).rank, straggler_ranks=stragglers
    )


def _stragglers(works: Sequence[_Work]) -> tuple[int, ...]:
    middle = sorted(works, key=lambda work: work.mean_ns)[(len(works) - 1) // 2]
    return tuple(
        work.rank
        for work in works
        if work.least_ns > middle.mean_ns + middle.half_width_ns
        and work.mean_ns >= middle.mean_ns * (1 + STRAGGLER_PCT / 100)
    )


def _own_work(rank: int, pass_: Communication) -> _Work:
    own_ns, exposed = float(pass_.step_time_off_ns), pass_.exposed_interval_ns
    half_width_ns = (exposed.high - exposed.low) / 2
    quickest_ns = pass_.step_time_off_quickest_ns
    least_ns = min(own_ns - half_width_ns, own_ns if quickest_ns is None else quickest_ns)
    return _Work(rank, own_ns, half_width_ns, least_ns)


def _share(communication: Communication) -> float | None:
    on_ns = communication.step_time_on_ns
    return communication.exposed_ns / on_ns if on_ns else None


def _share_interval(communication: Communication) -> Interval | None:
    """The exposed time's interval over the mean step, whose own noise is small beside it; at most 1."""
    on_ns, exposed = communication.step_time_on_ns, communication.exposed_interval_ns
    return Interval(low=exposed.low / on_ns, high=min(1.0, exposed.high / on_ns)) if on_ns else None


def _bandwidth(communication: Communication) -> float | None:
    """Bytes over exposed time; ``None`` where the exposed time cannot be told from none."""
    if communication.exposed_interval_ns.low <= 0 or communication.exposed_ns <= 0:
        return None
    return communication.bytes_per_step / communication.exposed_ns * 1e9
