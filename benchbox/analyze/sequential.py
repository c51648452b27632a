"""Looking several times at a comparison that goes on, without being fooled more often for it."""

from __future__ import annotations

from msgspec.structs import replace

from benchbox.analyze.compare import FALSE_ALARM
from benchbox.analyze.matching import Side, compare_sides
from benchbox.schema.comparison import CaseComparison, Comparison, Thresholds


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
        self._latest: Comparison | None = None

    def look(self, base: Side, new: Side) -> Comparison:
        """The comparison as it stands, cases that were decided before as they were then."""
        self._num_looks += 1
        share = 1 / (self._num_looks * (self._num_looks + 1))
        found = compare_sides(base, new, self._thresholds, self._across, paired=True, share=share)
        cases = tuple(self._decided.get(case.case.case_id, case) for case in found.cases)
        for case in cases:
            if case.verdict != "inconclusive":
                self._decided[case.case.case_id] = case
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

    def undecided(self) -> list[str]:
        """The ids of the cases whose throughput is not decided at the latest look."""
        if self._latest is None:
            return []
        return [case.case.case_id for case in self._latest.cases if case.verdict == "inconclusive"]
