"""How often a comparison errs, on noise of the kinds that machines make.

``python -m tests.analyze.simulation`` prints both tables of docs/compare.md, the same ones each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from benchbox.analyze.compare import compare_cases
from benchbox.analyze.evidence import CaseEvidence
from benchbox.schema import MeasureSettings
from benchbox.schema.comparison import CaseComparison, Metric, Thresholds, Verdict
from tests.analyze import noises
from tests.analyze.noises import Level, reports, slowed, varying

REPETITIONS = MeasureSettings().repetitions
LIMITS = Thresholds()
NUM_PAIRS = 1000
MEMORY_AND_ENERGY: dict[Metric, float] = {"peak_memory_allocated_bytes": 0.005, "joules_per_sample": 0.02}
"""By how much attempts vary. All pairs have them, as every report of a GPU does."""


class Truth(NamedTuple):
    """What pairs of reports have in common."""

    num_cases: int
    repetitions: int
    level: Level


SAME_TRUTH: dict[str, Truth] = {
    "steps only": Truth(4, REPETITIONS, noises.level_none),
    "attempts normal 1 %": Truth(4, REPETITIONS, noises.level_normal(0.01)),
    "attempts normal 3 %": Truth(4, REPETITIONS, noises.level_normal(0.03)),
    "attempts heavy-tailed 3 %": Truth(4, REPETITIONS, noises.level_heavy(0.03)),
    "attempts drifting 2 %": Truth(4, REPETITIONS, noises.level_drift(0.02)),
    "attempts in two modes 2 % apart": Truth(4, REPETITIONS, noises.level_two_modes(0.01)),
    "cases unlike, 1 %": Truth(4, REPETITIONS, noises.level_unlike(0.01)),
    "one case, attempts 3 %": Truth(1, REPETITIONS, noises.level_normal(0.03)),
    "five repetitions, two modes 4 % apart": Truth(4, 5, noises.level_two_modes(0.02)),
    "twenty repetitions, attempts 3 %": Truth(4, 20, noises.level_normal(0.03)),
}
FOUND: tuple[tuple[int, int, float], ...] = tuple(
    (num_cases, repetitions, between)
    for num_cases in (1, 4)
    for repetitions in (3, 5, 10, 20)
    for between in (0.0, 0.003, 0.01)
)
"""Cases, repetitions, and by how much attempts vary beside what their steps make."""


class Counts(NamedTuple):
    """Of so many comparisons of the same truth."""

    alarms: int
    """With any verdict but ``same`` and ``inconclusive`` in them, for better or worse."""
    same_pct: float
    """Of cases: the throughput is ``same``."""


def compared(base: list[CaseEvidence], new: list[CaseEvidence]) -> Sequence[CaseComparison]:
    return compare_cases(list(zip(base, new, strict=True)), LIMITS)


def verdicts(base: list[CaseEvidence], new: list[CaseEvidence]) -> list[Verdict]:
    """Of throughput."""
    return [case.verdict for case in compared(base, new)]


def same_truth(truth: Truth, num_pairs: int = NUM_PAIRS) -> Counts:
    rng = np.random.default_rng(1)
    alarms = num_same = 0
    for _ in range(4):  # in parts, for the memory
        bases, news = (
            varying(rng, reports(rng, num_pairs // 4, *truth), MEMORY_AND_ENERGY) for _ in range(2)
        )
        for base, new in zip(bases, news, strict=True):
            cases = compared(base, new)
            alarms += any(case.is_worse() or case.is_better() for case in cases)
            num_same += sum(case.verdict == "same" for case in cases)
    return Counts(alarms, 100 * num_same / (num_pairs * truth.num_cases))


def found(num_cases: int, repetitions: int, between: float, num_pairs: int = 500) -> tuple[float, ...]:
    """By how much attempts vary, in percent, and of the first of ``num_cases`` cases, in 100: how often a
    change of 3 % is ``slower``, one of 0.5 % ``same``, and one of 5 % ``slower``."""
    rng = np.random.default_rng(2)
    level = noises.level_normal(between)
    made = (reports(rng, num_pairs, num_cases, repetitions, level) for _ in range(2))
    bases, news = (varying(rng, some, MEMORY_AND_ENERGY) for some in made)
    rates = [[a.log_rate for a in case.attempts] for report in bases for case in report]
    vary = float(np.mean(np.var(rates, axis=1, ddof=1)) ** 0.5)
    counts = []
    for percent, verdict in ((3.0, "slower"), (0.5, "same"), (5.0, "slower")):
        got = [
            verdicts(base, slowed(new, percent, slice(0, 1)))[0]
            for base, new in zip(bases, news, strict=True)
        ]
        counts.append(100 * got.count(verdict) / num_pairs)  # type: ignore[arg-type]
    return (100 * vary, *counts)


def same_table() -> str:
    lines = [
        "| noise between attempts | false alarms | called `same`, % |",
        "| --- | ---: | ---: |",
    ]
    for name, truth in SAME_TRUTH.items():
        counts = same_truth(truth)
        lines.append(f"| {name} | {counts.alarms} | {counts.same_pct:.0f} |")
    return "\n".join(lines)


def found_table() -> str:
    lines = [
        "| cases | repetitions | attempts vary by | 3 % is `slower` | 0.5 % is `same` | 5 % is `slower` |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in FOUND:
        vary, *counts = found(*row)
        lines.append(f"| {row[0]} | {row[1]} | {vary:.2g} % | {' | '.join(f'{c:.0f}' for c in counts)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(f"{same_table()}\n\n{found_table()}")
