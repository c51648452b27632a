"""What a comparison needs of each case, and no more: a figure for each attempt, with its metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from benchbox.analyze.energy import EnergySource, joules_per_sample
from benchbox.analyze.ranks import longest_steps
from benchbox.schema import AttemptResult, Case, CaseResult, Outcome, Report
from benchbox.schema.comparison import Metric

_NUM_BATCHES = 8


class AttemptFigures(NamedTuple):
    """One ``ok`` attempt; logarithms of positive figures."""

    attempt: int
    log_rate: float
    rate_variance_within: float
    """Of ``log_rate``, by the steps alone."""
    log_figures: dict[Metric, float]
    """Memory and energy, those that are known."""
    energy_source: EnergySource | None = None
    """How the energy was read."""


class CaseEvidence(NamedTuple):
    """A case, how it ended, and the figures of its attempts."""

    case: Case
    outcome: Outcome | None
    reason: str | None
    attempts: tuple[AttemptFigures, ...]


def report_evidence(report: Report) -> list[CaseEvidence]:
    """The evidence of every case, in the report's order."""
    return [case_evidence(result) for result in report.cases]


def case_evidence(result: CaseResult) -> CaseEvidence:
    """The evidence of one case. A case that failed once, or is not finished, has no figures."""
    usable = result.attempts if result.outcome == "ok" else ()
    return CaseEvidence(
        result.case,
        result.outcome,
        result.reason,
        tuple(_figures(attempt, result.case) for attempt in usable if attempt.outcome == "ok"),
    )


def _figures(attempt: AttemptResult, case: Case) -> AttemptFigures:
    rank = attempt.ranks[0] if len(attempt.ranks) == 1 else longest_steps(attempt)
    steps = rank.step_time_ns
    figures: dict[Metric, float] = {}
    memory = [rank.memory for rank in attempt.ranks if rank.memory is not None]
    allocated = max((m.peak_memory_allocated_bytes or 0 for m in memory), default=0)
    if allocated > 0:
        figures["peak_memory_allocated_bytes"] = math.log(allocated)
    on_gpu = any(m.peak_memory_reserved_bytes is not None for m in memory)
    resident = max((m.peak_host_rss_bytes or 0 for m in memory), default=0)
    if resident > 0 and not on_gpu:
        figures["peak_host_rss_bytes"] = math.log(resident)
    energy = joules_per_sample([attempt], case.global_batch_size) if attempt.devices else None
    source = None
    if energy is not None and energy[0] > 0:
        figures["joules_per_sample"], source = math.log(energy[0]), energy[1]
    return AttemptFigures(
        attempt=attempt.attempt,
        log_rate=math.log(case.global_batch_size * len(steps) / sum(steps) * 1e9),
        rate_variance_within=relative_variance_of_mean(steps),
        log_figures=figures,
        energy_source=source,
    )


def relative_variance_of_mean(steps_ns: Sequence[int]) -> float:
    """The variance of the mean step time as a share of its square, steps being correlated.

    From the means of eight batches of neighbouring steps (Conway 1963, "Some tactical problems in digital
    simulation"): steps within a batch may depend on each other, batches hardly do. 0 for fewer than two steps
    a batch.
    """
    size = len(steps_ns) // _NUM_BATCHES
    if size < 2:
        return 0.0
    sums = list(accumulate(steps_ns, initial=0))
    batches = [sums[(i + 1) * size] - sums[i * size] for i in range(_NUM_BATCHES)]
    centre = sums[_NUM_BATCHES * size] / _NUM_BATCHES
    if centre <= 0:
        return 0.0
    squares = sum([(batch - centre) ** 2 for batch in batches])
    return squares / (_NUM_BATCHES - 1) / _NUM_BATCHES / centre**2
