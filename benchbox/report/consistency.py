"""Whether a report's parts fit each other: what a type cannot say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchbox.analyze.summary import case_outcome
from benchbox.report.rank_consistency import rank_problems
from benchbox.schema import (
    AttemptResult,
    CaseResult,
    DeviceTelemetry,
    HostTelemetry,
    Interval,
    RankResult,
    Report,
)
from benchbox.schema.history import AttemptTimes, CaseTimes, ReportTimes


def find_inconsistency(report: Report) -> str | None:
    """The first part that does not fit, as ``key: what is wrong``; ``None`` for a sound report."""
    return next(_all_problems(report), None)


def find_inconsistent_times(report: ReportTimes) -> str | None:
    """The same of what was read of a report for its course."""
    return next(_problems_of_times(report), None)


def _problems_of_times(report: ReportTimes) -> Iterator[str]:
    yield from _repeated_ids(report.cases)
    for place, result in enumerate(report.cases):
        for number, attempt in enumerate(result.attempts):
            if attempt.outcome == "ok":
                yield from _without_times(attempt, f"cases[{place}].attempts[{number}]")


def _repeated_ids(cases: Sequence[CaseResult | CaseTimes]) -> Iterator[str]:
    places: dict[str, int] = {}
    for place, result in enumerate(cases):
        first = places.setdefault(result.case.case_id, place)
        if first != place:
            yield f"`cases[{place}].case.case_id`: {result.case.case_id!r} is cases[{first}] already"


def _without_times(attempt: AttemptResult | AttemptTimes, key: str) -> Iterator[str]:
    """What an ``ok`` attempt must have."""
    if not attempt.ranks:
        yield f"`{key}.ranks`: none, but the attempt is ok"
    times = [rank.step_time_ns for rank in attempt.ranks]
    for place, steps in enumerate(times):
        if not sum(steps):
            yield f"`{key}.ranks[{place}].step_time_ns`: no step took any time, but the attempt is ok"


def _all_problems(report: Report) -> Iterator[str]:
    yield from _repeated_ids(report.cases)
    if len(report.cases) != len(report.suite.cases):
        yield f"`cases`: {len(report.cases)} cases, but the suite has {len(report.suite.cases)}"
    for place, (result, case) in enumerate(zip(report.cases, report.suite.cases, strict=False)):
        if result.case != case:
            yield f"`cases[{place}].case`: differs from suite.cases[{place}]"
        yield from _case_problems(result, f"cases[{place}]")
    yield from rank_problems(report)


def _case_problems(result: CaseResult, key: str) -> Iterator[str]:
    outcome, _ = case_outcome(result.attempts)
    if result.outcome not in (None, outcome):
        yield f"`{key}.outcome`: {result.outcome!r}, but its attempts ended as {outcome or 'nothing yet'!r}"
    numbers: set[int] = set()
    for place, attempt in enumerate(result.attempts):
        here = f"{key}.attempts[{place}]"
        if attempt.case_id != result.case.case_id:
            yield f"`{here}.case_id`: {attempt.case_id!r}, but the case is {result.case.case_id!r}"
        if attempt.attempt in numbers:
            yield f"`{here}.attempt`: number {attempt.attempt} is there already"
        numbers.add(attempt.attempt)
        yield from _attempt_problems(attempt, here)
    if result.summary is None:
        return
    if not any(attempt.outcome == "ok" for attempt in result.attempts):
        yield f"`{key}.summary`: figures without an attempt that is ok"
    interval = result.summary.samples_per_second_interval
    if interval is not None and not 0 <= interval.low <= interval.high:
        yield f"`{key}.summary.samples_per_second_interval`: {_show(interval)} is no interval of a rate"


def _attempt_problems(attempt: AttemptResult, key: str) -> Iterator[str]:
    if attempt.outcome == "ok":
        yield from _without_times(attempt, key)
    for place, rank in enumerate(attempt.ranks):
        yield from _rank_problems(rank, f"{key}.ranks[{place}]")
    for place, device in enumerate(attempt.devices):
        yield from _column_problems(device, f"{key}.devices[{place}]")
    if attempt.host is not None:
        yield from _column_problems(attempt.host, f"{key}.host")
    for place, host in enumerate(attempt.other_hosts):
        yield from _column_problems(host, f"{key}.other_hosts[{place}]")


def _rank_problems(rank: RankResult, key: str) -> Iterator[str]:
    in_windows = sum(window.num_steps for window in rank.windows)
    if in_windows != len(rank.step_time_ns):
        yield f"`{key}.windows`: {in_windows} steps, but step_time_ns has {len(rank.step_time_ns)}"
    for place, window in enumerate(rank.windows):
        if window.end_at_ns < window.start_at_ns:
            yield f"`{key}.windows[{place}].end_at_ns`: before start_at_ns"


def _column_problems(samples: DeviceTelemetry | HostTelemetry, key: str) -> Iterator[str]:
    length = len(samples.sample_at_ns)
    for name in samples.__struct_fields__:
        column = getattr(samples, name)
        if isinstance(column, tuple) and len(column) != length:
            yield f"`{key}.{name}`: {len(column)} values, but sample_at_ns has {length}"
    for place in range(1, length):
        if samples.sample_at_ns[place] < samples.sample_at_ns[place - 1]:
            yield f"`{key}.sample_at_ns[{place}]`: earlier than the sample before it"


def _show(interval: Interval) -> str:
    return f"{interval.low:g} to {interval.high:g}"
