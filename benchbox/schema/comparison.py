"""Two reports held against each other."""

from __future__ import annotations

from typing import Literal

from benchbox.schema._base import Count, NonNegative, Outcome, Positive, PositiveInt, Record
from benchbox.schema.case import Case

Metric = Literal[
    "samples_per_second", "peak_memory_allocated_bytes", "peak_host_rss_bytes", "joules_per_sample"
]
Verdict = Literal[
    "faster",
    "slower",
    "less",
    "more",
    "same",
    "inconclusive",
    "not-comparable",
    "regression",
    "improvement",
]
"""``faster`` and ``slower`` speak of throughput, ``less`` and ``more`` of memory and energy. A case that no
longer ends ``ok`` is a ``regression``, one that does so now an ``improvement``."""

WORSE: tuple[Verdict, ...] = ("slower", "more", "regression")
BETTER: tuple[Verdict, ...] = ("faster", "less", "improvement")


class RatioInterval(Record, frozen=True, kw_only=True):
    """Where the ratio lies, at the comparison's ``confidence_pct``."""

    low: Positive
    high: Positive


class MetricComparison(Record, frozen=True, kw_only=True):
    """One figure of one case in both reports: geometric means over attempts; by turns, from ten rounds on and
    but for memory, over the rounds without the fifth of them at either end."""

    metric: Metric
    verdict: Verdict
    base: NonNegative | None
    """``None`` where that report does not have it; the figure is then ``inconclusive``."""
    new: NonNegative | None
    ratio: Positive | None
    """New over base; ``None`` where the two are not compared."""
    ratio_interval: RatioInterval | None
    """``None`` where nothing is known of the variation between attempts."""
    p_value: NonNegative | None
    """Of no change at all, adjusted (Holm) over all cases: throughput alone, memory and energy together."""
    num_base_attempts: Count
    """All that were measured, those that are left out of the means too."""
    num_new_attempts: Count
    reason: str | None = None


class CaseComparison(Record, frozen=True, kw_only=True):
    """One case that both reports have."""

    case: Case
    """As the new report has it."""
    verdict: Verdict
    """On throughput, or on how the case ends now and ended before."""
    base_outcome: Outcome | None
    new_outcome: Outcome | None
    reason: str | None
    metrics: tuple[MetricComparison, ...]
    """Throughput first; empty where one of the two did not end ``ok``."""

    def is_worse(self) -> bool:
        """Whether anything about the case became worse."""
        return self.verdict in WORSE or any(metric.verdict in WORSE for metric in self.metrics)

    def is_better(self) -> bool:
        """Whether anything became better."""
        return self.verdict in BETTER or any(metric.verdict in BETTER for metric in self.metrics)

    def is_undecided(self) -> bool:
        """Whether anything about the case is too noisy to tell."""
        return "inconclusive" in (self.verdict, *(metric.verdict for metric in self.metrics))


class IdentityDifference(Record, frozen=True, kw_only=True):
    """A field in which the two reports differ."""

    field: str
    base: str | None
    new: str | None
    across: str | None
    """What ``--across`` must name to lift it; ``None``: it forbids nothing, and is only told."""
    lifted: bool = False


class Thresholds(Record, frozen=True, kw_only=True):
    """The smallest effects that matter, in percent of the smaller value."""

    throughput_pct: Positive = 2.0
    memory_pct: Positive = 5.0
    energy_pct: Positive = 5.0


class ComparedReport(Record, frozen=True, kw_only=True):
    """Which report this is."""

    name: str
    created_at: str
    suite: str


class Comparison(Record, frozen=True, kw_only=True):
    """A base and a new report, case by case."""

    schema_version: PositiveInt
    benchbox_version: str
    base: ComparedReport
    new: ComparedReport
    thresholds: Thresholds
    confidence_pct: Positive
    """Of the intervals, at least: where rounds are looked at several times, later looks have wider ones. Each
    end is a one-sided test against the threshold."""
    false_alarm_pct: Positive
    """Chance of one false alarm or more in the whole comparison when nothing has changed."""
    paired: bool
    """Whether attempts of both sides ran by turns, and were compared round by round."""
    differences: tuple[IdentityDifference, ...]
    cases: tuple[CaseComparison, ...]
    added: tuple[Case, ...]
    missing: tuple[Case, ...]

    def is_comparable(self) -> bool:
        """Whether there is a case in common that can be compared."""
        return any(case.verdict != "not-comparable" for case in self.cases)
