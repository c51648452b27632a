"""Several reports over each other, configuration by configuration, with the comparison's verdicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from benchbox.analyze.matching import compare_sides, side_of
from benchbox.report import comparison_text as words
from benchbox.report.facts import outcome_word
from benchbox.report.figures import interval_text
from benchbox.report.text import case_labels, rate_text, significant
from benchbox.schema import CaseResult, CaseSummary, Report
from benchbox.schema.comparison import (
    BETTER,
    WORSE,
    CaseComparison,
    Comparison,
    MetricComparison,
    Thresholds,
    Verdict,
)

Tone = Literal["worse", "better", "plain"]


class Mark(NamedTuple):
    """A verdict, and whether it is a bad or a good one."""

    text: str
    tone: Tone


class Entry(NamedTuple):
    """One configuration in one report."""

    rate: str | None
    interval: str | None
    ratio: str | None
    """To the first report; where that has no figure, to the first that has one. ``None`` for that one."""
    width: float
    """Of its bar: 100 is the highest rate of the configuration."""
    outcome: str
    marks: tuple[Mark, ...]
    """The comparison's verdict against the first report, then those on memory and energy that say that
    something changed. Empty where the two cannot be compared."""


class Configuration(NamedTuple):
    """One configuration; ``None`` where a report does not have it."""

    label: str
    entries: tuple[Entry | None, ...]


def compare_with_first(reports: Sequence[Report], names: Sequence[str]) -> list[Comparison]:
    """Each later report held against the first, by the thresholds that ``benchbox compare`` has."""
    sides = [side_of(name, report) for name, report in zip(names, reports, strict=True)]
    return [compare_sides(sides[0], side, Thresholds()) for side in sides[1:]]


def configurations(reports: Sequence[Report], comparisons: Sequence[Comparison]) -> list[Configuration]:
    """Those that stand in at least two reports. A case's id says what it means, so equal ids are the same."""
    found: dict[str, list[CaseResult | None]] = {}
    labels: dict[str, str] = {}
    for place, report in enumerate(reports):
        own = case_labels([result.case for result in report.cases])
        for result in report.cases:
            case_id = result.case.case_id
            labels.setdefault(case_id, own[case_id])
            found.setdefault(case_id, [None] * len(reports))[place] = result
    compared = [{case.case.case_id: case for case in comparison.cases} for comparison in comparisons]
    return [
        Configuration(labels[case_id], _entries(results, [by_id.get(case_id) for by_id in compared]))
        for case_id, results in found.items()
        if sum(result is not None for result in results) > 1
    ]


def mark(verdict: Verdict, text: str | None = None) -> Mark:
    """``text`` in the tone of ``verdict``, by default the verdict itself."""
    return Mark(text or verdict, "worse" if verdict in WORSE else "better" if verdict in BETTER else "plain")


def changed_figures(metrics: Sequence[MetricComparison]) -> tuple[Mark, ...]:
    """``peak memory +6.2 % more``: the figures besides throughput that changed for sure."""
    return tuple(
        mark(metric.verdict, f"{words.METRIC_NAMES[metric.metric]} {words.change_text(metric)}")
        for metric in metrics
        if metric.metric != "samples_per_second" and metric.verdict in (*WORSE, *BETTER)
    )


def _entries(
    results: Sequence[CaseResult | None], compared: Sequence[CaseComparison | None]
) -> tuple[Entry | None, ...]:
    summaries = [result.summary for result in results if result and result.summary]
    highest = max((summary.samples_per_second for summary in summaries), default=0.0)
    first = summaries[0] if summaries else None
    return tuple(
        None if result is None else _entry(result, first, highest, verdict)
        for result, verdict in zip(results, [None, *compared], strict=True)
    )


def _entry(
    result: CaseResult, first: CaseSummary | None, highest: float, compared: CaseComparison | None
) -> Entry:
    summary = result.summary
    decided = compared if compared and compared.verdict != "not-comparable" else None
    marks = (mark(decided.verdict), *changed_figures(decided.metrics)) if decided else ()
    if summary is None:
        return Entry(None, None, None, 0.0, outcome_word(result), marks)
    return Entry(
        rate=rate_text(summary.samples_per_second, summary.samples_per_second_interval),
        interval=interval_text(summary),
        ratio=None if first is None or first is summary else _ratio(summary, first, decided),
        width=100 * summary.samples_per_second / highest if highest else 0.0,
        outcome=outcome_word(result),
        marks=marks,
    )


def _ratio(summary: CaseSummary, first: CaseSummary, decided: CaseComparison | None) -> str | None:
    """The comparison's own, or of the rates: both intervals are then taken as normal on the log scale and
    independent."""
    if decided is not None and decided.metrics:
        rate = decided.metrics[0]
        return f"{words.ratio_text(rate)} × ({words.interval_text(rate)})"
    if not first.samples_per_second or not summary.samples_per_second:
        return None
    ratio = summary.samples_per_second / first.samples_per_second
    ends = [one.samples_per_second_interval for one in (summary, first)]
    if any(end is None or end.low <= 0 for end in ends):
        return f"{significant(ratio)} ×"
    squares = [(math.log(end.high / end.low) / 2) ** 2 for end in ends if end]
    stretch = math.exp(math.sqrt(sum(squares)))
    return f"{significant(ratio)} × ({significant(ratio / stretch)} to {significant(ratio * stretch)})"
