"""Looking several times at a comparison that goes on, without being fooled more often for it."""

from __future__ import annotations

from msgspec.structs import replace

from benchbox.analyze.compare import FALSE_ALARM
from benchbox.analyze.matching import Side, compare_sides
from benchbox.schema.comparison import CaseComparison, Comparison, MetricComparison, Thresholds


class Looks:
    """A comparison of attempts made by turns, looked at as it grows. What was decided once stays so.

    The k-th look may spend 1 / (k (k + 1)) of the error rates; over all looks that makes the whole of them,
    however many there are (a union bound, so nothing is assumed of how looks depend on each other).
    """

    def __init__(self, thresholds: Thresholds, across: frozenset[str]) -> None:
        self._thresholds = thresholds
        self._across = across
        self._num_looks = 0
        self._decided: dict[str, CaseComparison] = {}
        self._figures: dict[str, dict[str, MetricComparison]] = {}
        self._latest: Comparison | None = None

    def look(self, base: Side, new: Side) -> Comparison:
        """The comparison as it stands, cases that were decided before as they were then."""
        self._num_looks += 1
        share = 1 / (self._num_looks * (self._num_looks + 1))
        found = compare_sides(base, new, self._thresholds, self._across, paired=True, share=share)
        cases = tuple(map(self._as_decided, found.cases))
        first = self._latest or found
        # Later looks have wider intervals: the first look's confidence is the least of all, the false alarms
        # of all looks together are the whole rate.
        self._latest = replace(
            found,
            cases=cases,
            confidence_pct=first.confidence_pct,
            false_alarm_pct=100 * FALSE_ALARM,
        )
        return self._latest

    def _as_decided(self, case: CaseComparison) -> CaseComparison:
        """``case`` with every figure that was decided before as it was then."""
        case_id = case.case.case_id
        if case_id in self._decided:
            return self._decided[case_id]
        known = self._figures.setdefault(case_id, {})
        metrics = tuple(known.get(metric.metric, metric) for metric in case.metrics)
        known |= {metric.metric: metric for metric in metrics if metric.verdict != "inconclusive"}
        if metrics and case.verdict == case.metrics[0].verdict:  # and not its outcome's
            case = replace(case, verdict=metrics[0].verdict, reason=metrics[0].reason)
        case = replace(case, metrics=metrics)
        if not case.is_undecided():
            self._decided[case_id] = case
        return case

    def undecided(self) -> list[str]:
        """The ids of the cases of which some figure is not decided at the latest look, and more attempts may
        decide it."""
        if self._latest is None:
            return []
        return [case.case.case_id for case in self._latest.cases if _may_be_decided(case)]


def _may_be_decided(case: CaseComparison) -> bool:
    """Not by a figure alone that one side does not measure."""
    measured = [metric for metric in case.metrics if metric.ratio is not None]
    return "inconclusive" in (case.verdict, *(metric.verdict for metric in measured))
