"""How each case went over many reports, and at which report its level changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple

from benchbox.analyze.identity import environment_differences, meaning, same_case_twice
from benchbox.schema import SCHEMA_VERSION, AttemptResult, Case, Environment, Interval, Outcome, Report
from benchbox.schema.history import (
    AttemptTimes,
    CaseHistory,
    FirstFailure,
    History,
    HistoryPoint,
    LeftOut,
    LevelChange,
    NeverOk,
    ReportTimes,
)
from benchbox.stats import mean, median

MIN_REPORTS_AT_A_LEVEL = 2
"""One bad run is no new level."""
LEAST_REPORTS = 2 * MIN_REPORTS_AT_A_LEVEL
"""That can show a change of level."""
LEAST_NOISE = 0.002
"""Of a report's throughput, as a share: levels closer than a few times this are one."""
LEAST_CHANGE = 0.02
"""As a share, as in a comparison; levels that differ by less are one. A machine's own wanders by 1 %."""
_PENALTY = 6.0


class ReportRates(NamedTuple):
    """What a course needs of one report; the report itself, with its raw times, can go."""

    name: str
    created_at: str
    environment: Environment
    log_rates: list[tuple[Case, float, Interval | None]]
    """Of each case that ended ``ok``: the mean logarithm of its attempts' samples a second, and the report's
    own interval of samples a second."""
    failed: Sequence[tuple[Case, Outcome]]
    """The cases that ended otherwise."""


_Course = list[tuple[ReportRates, Case, float, Interval | None]]
_Failures = dict[str, tuple[Case, FirstFailure]]
"""By what the case means, and the case as the newest report has it."""


def rates_of(name: str, report: Report | ReportTimes) -> ReportRates:
    """The rates in ``report``, called ``name`` in messages."""
    found = []
    for result in report.cases:
        logs = [_log_rate(attempt, result.case) for attempt in result.attempts if attempt.outcome == "ok"]
        if result.outcome == "ok" and logs:
            interval = result.summary.samples_per_second_interval if result.summary else None
            found.append((result.case, mean(logs), interval))
    failed = [(r.case, r.outcome) for r in report.cases if r.outcome is not None and r.outcome != "ok"]
    return ReportRates(name, report.created_at, report.environment, found, failed)


def _log_rate(attempt: AttemptResult | AttemptTimes, case: Case) -> float:
    """Of the rank with the longest mean step, as everywhere."""
    steps = [rank.step_time_ns for rank in attempt.ranks if rank.step_time_ns]
    return math.log(case.global_batch_size * 1e9 / max([sum(of_rank) / len(of_rank) for of_rank in steps]))


def history_of(reports: Sequence[ReportRates], across: frozenset[str] = frozenset()) -> History:
    """The course of every case, oldest report first.

    Reports whose environment differs from the newest one's, but for fields in ``across``, are left out.

    Raises:
        BadInputError: two cases of one report are the same, with fields in ``across`` left out.
    """
    ordered = sorted(reports, key=lambda report: measured_at(report.created_at))
    kept, left_out = [], []
    for report in ordered:
        differing = [
            d.field
            for d in environment_differences(ordered[-1].environment, report.environment, across)
            if d.across is not None and not d.lifted
        ]
        if differing:
            left_out.append(LeftOut(report=report.name, fields=tuple(differing)))
        else:
            kept.append(report)
    meanings = _Meanings(across)
    failures = _failures(kept, meanings)
    courses = _courses(kept, meanings)
    return History(
        schema_version=SCHEMA_VERSION,
        num_reports=len(reports),
        cases=tuple(
            _case_history(course, failures[key][1] if key in failures else None)
            for key, course in courses.items()
        ),
        left_out=tuple(left_out),
        never_ok=tuple(
            NeverOk(case=case, first=first) for key, (case, first) in failures.items() if key not in courses
        ),
    )


class _Meanings(dict[Case, str]):
    """What each case means: a year of reports has the same few again and again."""

    def __init__(self, across: frozenset[str]) -> None:
        self._across = across

    def __missing__(self, case: Case) -> str:
        found = self[case] = meaning(case, self._across)
        return found


def _failures(reports: Sequence[ReportRates], meanings: _Meanings) -> _Failures:
    """Of the cases that do not end ``ok`` any more."""
    failures: _Failures = {}
    for report in reports:
        for case, _, _ in report.log_rates if failures else ():
            failures.pop(meanings[case], None)
        for case, outcome in report.failed:
            now = FirstFailure(report=report.name, created_at=report.created_at, outcome=outcome)
            _, first = failures.get(meanings[case], (case, now))
            failures[meanings[case]] = case, first
    return failures


def _courses(reports: Sequence[ReportRates], meanings: _Meanings) -> dict[str, _Course]:
    courses: dict[str, _Course] = {}
    for report in reports:
        for case, log_rate, interval in report.log_rates:
            course = courses.setdefault(meanings[case], [])
            if course and course[-1][0] is report:
                raise same_case_twice(report.name, course[-1][1], case)
            course.append((report, case, log_rate, interval))
    return courses


def _case_history(course: _Course, failure: FirstFailure | None) -> CaseHistory:
    logs = [log_rate for _, _, log_rate, _ in course]
    points = tuple(
        HistoryPoint(
            report=report.name,
            created_at=report.created_at,
            samples_per_second=math.exp(log_rate),
            samples_per_second_interval=interval,
        )
        for report, _, log_rate, interval in course
    )
    places = level_changes(logs)
    edges = [0, *places, len(logs)]
    levels = [median(logs[start:end]) for start, end in pairwise(edges)]
    changes = tuple(
        LevelChange(
            report=points[place].report,
            created_at=points[place].created_at,
            ratio=math.exp(after - before),
        )
        for place, (before, after) in zip(places, pairwise(levels), strict=True)
    )
    return CaseHistory(case=course[-1][1], points=points, changes=changes, no_longer_ok=failure)


def level_changes(values: Sequence[float]) -> list[int]:
    """The places at which the level of ``values`` (logarithms) changes, in order.

    Least squares with a penalty for each change (Killick, Fearnhead & Eckley 2012, "PELT", as in ruptures) on
    the running median of three, which keeps an edge and drops a lone bad run. Noise is taken from differences
    of neighbours, which a few changes of level hardly touch; the penalty is a multiple of log n, as for the
    Bayesian information criterion.
    """
    if len(values) < LEAST_REPORTS:
        return []
    import numpy as np
    import ruptures

    steps = [abs(after - before) for before, after in pairwise(values)]
    noise = max(1.4826 * median(steps) / math.sqrt(2), LEAST_NOISE)
    smooth = np.asarray(_running_median(values)) / noise
    found = ruptures.KernelCPD(kernel="linear", min_size=MIN_REPORTS_AT_A_LEVEL).fit(smooth)
    places: list[int] = found.predict(pen=_PENALTY * math.log(len(values)))[:-1]
    return _without_small(values, _sharpened(values, places))


def _without_small(values: Sequence[float], places: list[int]) -> list[int]:
    """Less the changes that are too small to matter, the smallest first."""
    while places:
        edges = [0, *places, len(values)]
        levels = [median(values[start:end]) for start, end in pairwise(edges)]
        steps = [abs(after - before) for before, after in pairwise(levels)]
        if min(steps) >= math.log1p(LEAST_CHANGE):
            break
        places = [place for at, place in enumerate(places) if at != steps.index(min(steps))]
    return places


def _running_median(values: Sequence[float]) -> list[float]:
    """Of three neighbours; the ends by Tukey's rule ("Exploratory Data Analysis", 7D), which drops a bad run
    there too."""
    inner = [median(values[at - 1 : at + 2]) for at in range(1, len(values) - 1)]
    first = median([values[0], inner[0], 3 * inner[0] - 2 * inner[1]])
    last = median([values[-1], inner[-1], 3 * inner[-1] - 2 * inner[-2]])
    return [first, *inner, last]


def _sharpened(values: Sequence[float], places: Sequence[int]) -> list[int]:
    """Each place moved by up to two, to where absolute deviations from the medians beside it are least: the
    running median blurs an edge that noise or a bad run stands at."""
    edges = [0, *places, len(values)]
    result: list[int] = []
    for before, place, after in zip(edges, edges[1:], edges[2:], strict=False):
        start = result[-1] if result else before
        near = range(
            max(start + MIN_REPORTS_AT_A_LEVEL, place - 2), min(after - MIN_REPORTS_AT_A_LEVEL, place + 2) + 1
        )
        costs = {at: _deviation(values[start:at]) + _deviation(values[at:after]) for at in near}
        result.append(min(costs, key=lambda at: (costs[at], abs(at - place)), default=place))
    return result


def _deviation(part: Sequence[float]) -> float:
    centre = median(part)
    return sum([abs(value - centre) for value in part])


def measured_at(created_at: str) -> datetime:
    """Readable ones in order, with a zone; others first."""
    try:
        time = datetime.fromisoformat(created_at)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
