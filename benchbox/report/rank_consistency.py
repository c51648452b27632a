"""Whether what a report says of several ranks fits together."""

from __future__ import annotations

from collections.abc import Iterator

from benchbox.schema import AttemptResult, CaseResult, Interval, Report, Scaling


def rank_problems(report: Report) -> Iterator[str]:
    """Each part that does not fit, as ``key: what is wrong``."""
    on_one_device = {
        result.case.case_id for result in report.cases if result.case.world_size == 1 and result.summary
    }
    for place, result in enumerate(report.cases):
        key = f"cases[{place}]"
        for number, attempt in enumerate(result.attempts):
            yield from _attempt_problems(attempt, result.case.world_size, f"{key}.attempts[{number}]")
        yield from _summary_problems(result, f"{key}.summary")
        if result.scaling is not None:
            if result.case.world_size == 1:
                yield f"`{key}.scaling`: there, but the case has one device"
            yield from _scaling_problems(result.scaling, on_one_device, f"{key}.scaling")


def _attempt_problems(attempt: AttemptResult, world_size: int, key: str) -> Iterator[str]:
    seen: set[int] = set()
    for place, rank in enumerate(attempt.ranks):
        here = f"{key}.ranks[{place}]"
        if rank.rank >= world_size:
            yield f"`{here}.rank`: {rank.rank}, but the world size is {world_size}"
        if rank.rank in seen:
            yield f"`{here}.rank`: {rank.rank} is there already"
        seen.add(rank.rank)
        if rank.all_reduce and world_size == 1:
            yield f"`{here}.all_reduce`: there, but the world size is 1"
        if rank.communication is not None:
            yield from _interval_problems(
                rank.communication.exposed_interval_ns,
                rank.communication.exposed_ns,
                f"{here}.communication.exposed_interval_ns",
            )
    if attempt.outcome != "ok":
        return
    missing = sorted(set(range(world_size)) - seen)
    if missing:
        yield f"`{key}.ranks`: rank {missing[0]} is missing, but the attempt is ok"
    num_steps = {len(rank.step_time_ns) for rank in attempt.ranks}
    if len(num_steps) > 1:
        yield f"`{key}.ranks`: between {min(num_steps)} and {max(num_steps)} steps; all ranks take as many"


def _summary_problems(result: CaseResult, key: str) -> Iterator[str]:
    summary = result.summary
    if summary is None:
        return
    several = result.case.world_size > 1
    for name, ranks in (
        ("slowest_rank", (summary.slowest_rank,)),
        ("straggler_ranks", summary.straggler_ranks),
    ):
        for rank in ranks:
            if rank is not None and not (several and rank < result.case.world_size):
                yield f"`{key}.{name}`: {rank}, but the world size is {result.case.world_size}"
    yield from _interval_problems(
        summary.communication_share_interval,
        summary.communication_share,
        f"{key}.communication_share_interval",
    )


def _scaling_problems(scaling: Scaling, on_one_device: set[str], key: str) -> Iterator[str]:
    for kind in ("weak", "strong"):
        baseline = getattr(scaling, f"{kind}_baseline_case_id")
        efficiency = getattr(scaling, f"{kind}_efficiency")
        if (baseline is None) != (efficiency is None):
            yield f"`{key}.{kind}_efficiency`: {_show(efficiency)}, but its baseline is {baseline!r}"
        if baseline is not None and baseline not in on_one_device:
            yield f"`{key}.{kind}_baseline_case_id`: {baseline!r} is no case here with figures on one device"
        yield from _interval_problems(
            getattr(scaling, f"{kind}_efficiency_interval"), efficiency, f"{key}.{kind}_efficiency_interval"
        )


def _interval_problems(interval: Interval | None, value: float | None, key: str) -> Iterator[str]:
    if interval is None:
        return
    if interval.low > interval.high:
        yield f"`{key}`: {interval.low:g} to {interval.high:g} is no interval"
    elif value is None:
        yield f"`{key}`: an interval of nothing"


def _show(value: float | None) -> str:
    return "unknown" if value is None else f"{value:g}"
