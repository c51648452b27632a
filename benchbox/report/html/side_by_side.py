"""Several reports over each other, configuration by configuration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from benchbox.report.facts import outcome_word
from benchbox.report.html.columns import interval_text
from benchbox.report.text import case_labels, significant
from benchbox.schema import CaseResult, CaseSummary, Report


class Entry(NamedTuple):
    """One configuration in one report."""

    rate: str | None
    interval: str | None
    ratio: str | None
    """To the first report that has a figure, with the interval that follows from both; ``None`` for it."""
    width: float
    """Of its bar: 100 is the highest rate of the configuration."""
    outcome: str


class Configuration(NamedTuple):
    """One configuration; ``None`` where a report does not have it."""

    label: str
    entries: tuple[Entry | None, ...]


def configurations(reports: Sequence[Report]) -> list[Configuration]:
    """Those that stand in at least two reports. A case's id says what it means, so equal ids are the same."""
    found: dict[str, list[CaseResult | None]] = {}
    labels: dict[str, str] = {}
    for place, report in enumerate(reports):
        own = case_labels([result.case for result in report.cases])
        for result in report.cases:
            case_id = result.case.case_id
            labels.setdefault(case_id, own[case_id])
            found.setdefault(case_id, [None] * len(reports))[place] = result
    return [
        Configuration(labels[case_id], _entries(results))
        for case_id, results in found.items()
        if sum(result is not None for result in results) > 1
    ]


def _entries(results: Sequence[CaseResult | None]) -> tuple[Entry | None, ...]:
    summaries = [result.summary for result in results if result and result.summary]
    highest = max((summary.samples_per_second for summary in summaries), default=0.0)
    first = summaries[0] if summaries else None
    return tuple(None if result is None else _entry(result, first, highest) for result in results)


def _entry(result: CaseResult, first: CaseSummary | None, highest: float) -> Entry:
    summary = result.summary
    if summary is None:
        return Entry(None, None, None, 0.0, outcome_word(result))
    ratio = None if first is None or first is summary else _ratio(summary, first)
    return Entry(
        rate=significant(summary.samples_per_second, 4),
        interval=interval_text(summary),
        ratio=ratio,
        width=100 * summary.samples_per_second / highest if highest else 0.0,
        outcome=outcome_word(result),
    )


def _ratio(summary: CaseSummary, first: CaseSummary) -> str | None:
    """Of the rates; both intervals are taken as normal on the log scale and independent."""
    if not first.samples_per_second or not summary.samples_per_second:
        return None
    ratio = summary.samples_per_second / first.samples_per_second
    ends = [one.samples_per_second_interval for one in (summary, first)]
    if any(end is None or end.low <= 0 for end in ends):
        return f"{significant(ratio)} ×"
    squares = [(math.log(end.high / end.low) / 2) ** 2 for end in ends if end]
    stretch = math.exp(math.sqrt(sum(squares)))
    return f"{significant(ratio)} × ({significant(ratio / stretch)} to {significant(ratio * stretch)})"
