"""How each case went over many reports, and at which report its level changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from benchbox.analyze.evidence import CaseEvidence
from benchbox.analyze.identity import environment_differences, meaning
from benchbox.analyze.matching import Side
from benchbox.schema.history import CaseHistory, History, HistoryPoint, LeftOut, LevelChange
from benchbox.stats import mean, median

MIN_REPORTS_AT_A_LEVEL = 2
"""One bad run is no new level."""
LEAST_NOISE = 0.002
"""Of a report's throughput, as a share: levels closer than a few times this are one."""
LEAST_CHANGE = 0.01
"""As a share; levels that differ by less are one."""
_PENALTY = 6.0


def history_of(sides: Sequence[Side], across: frozenset[str] = frozenset()) -> History:
    """The course of every case that the newest reports have, oldest report first.

    Reports whose environment differs from the newest one's, but for fields in ``across``, are left out.
    """
    ordered = sorted(sides, key=lambda side: measured_at(side.report.created_at))
    kept, left_out = [], []
    for side in ordered:
        differing = [
            d.field
            for d in environment_differences(ordered[-1].report, side.report, across)
            if d.across is not None and not d.lifted
        ]
        if differing:
            left_out.append(LeftOut(report=side.name, fields=tuple(differing)))
        else:
            kept.append(side)
    courses: dict[str, list[tuple[Side, CaseEvidence]]] = {}
    for side in kept:
        for evidence in side.evidence:
            if evidence.outcome == "ok" and evidence.attempts:
                courses.setdefault(meaning(evidence.case, across), []).append((side, evidence))
    return History(
        num_reports=len(sides),
        cases=tuple(map(_case_history, courses.values())),
        left_out=tuple(left_out),
    )


def _case_history(course: Sequence[tuple[Side, CaseEvidence]]) -> CaseHistory:
    logs = [mean([attempt.log_rate for attempt in evidence.attempts]) for _, evidence in course]
    points = tuple(
        HistoryPoint(report=side.name, created_at=side.report.created_at, samples_per_second=math.exp(level))
        for (side, _), level in zip(course, logs, strict=True)
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
    return CaseHistory(case=course[-1][1].case, points=points, changes=changes)


def level_changes(values: Sequence[float]) -> list[int]:
    """The places at which the level of ``values`` (logarithms) changes, in order.

    Least squares with a penalty for each change (Killick, Fearnhead & Eckley 2012, "PELT", as in ruptures) on
    the running median of three, which keeps an edge and drops a lone bad run. Noise is taken from differences
    of neighbours, which a few changes of level hardly touch; the penalty is a multiple of log n, as for the
    Bayesian information criterion.
    """
    if len(values) < 2 * MIN_REPORTS_AT_A_LEVEL:
        return []
    import ruptures

    signal = np.asarray(values, dtype=float)
    noise = max(1.4826 * float(np.median(np.abs(np.diff(signal)))) / math.sqrt(2), LEAST_NOISE)
    smooth = _running_median(signal) / noise
    found = ruptures.KernelCPD(kernel="linear", min_size=MIN_REPORTS_AT_A_LEVEL).fit(smooth)
    places: list[int] = found.predict(pen=_PENALTY * math.log(len(values)))[:-1]
    return _without_small(signal, _sharpened(signal, places))


def _without_small(signal: NDArray[np.float64], places: list[int]) -> list[int]:
    """Less the changes that are too small to matter, the smallest first."""
    while places:
        edges = [0, *places, len(signal)]
        levels = [float(np.median(signal[start:end])) for start, end in pairwise(edges)]
        steps = [abs(after - before) for before, after in pairwise(levels)]
        if min(steps) >= math.log1p(LEAST_CHANGE):
            break
        places = [place for at, place in enumerate(places) if at != steps.index(min(steps))]
    return places


def _running_median(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of three neighbours; the ends by Tukey's rule ("Exploratory Data Analysis", 7D), which drops a bad run
    there too."""
    inner = np.median(np.stack([signal[:-2], signal[1:-1], signal[2:]]), axis=0)
    first = np.median([signal[0], inner[0], 3 * inner[0] - 2 * inner[1]])
    last = np.median([signal[-1], inner[-1], 3 * inner[-1] - 2 * inner[-2]])
    return np.concatenate([[first], inner, [last]])


def _sharpened(signal: NDArray[np.float64], places: Sequence[int]) -> list[int]:
    """Each place moved by up to two, to where absolute deviations from the medians beside it are least: the
    running median blurs an edge that noise or a bad run stands at."""
    edges = [0, *places, len(signal)]
    result: list[int] = []
    for before, place, after in zip(edges, edges[1:], edges[2:], strict=False):
        start = result[-1] if result else before
        near = range(
            max(start + MIN_REPORTS_AT_A_LEVEL, place - 2), min(after - MIN_REPORTS_AT_A_LEVEL, place + 2) + 1
        )
        costs = {at: _deviation(signal[start:at]) + _deviation(signal[at:after]) for at in near}
        result.append(min(costs, key=lambda at: (costs[at], abs(at - place)), default=place))
    return result


def _deviation(part: NDArray[np.float64]) -> float:
    return float(np.abs(part - np.median(part)).sum())


def measured_at(created_at: str) -> datetime:
    """Readable ones in order, with a zone; others first."""
    try:
        time = datetime.fromisoformat(created_at)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
