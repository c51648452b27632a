"""Which figures of two cases can be held against each other, and which one side lacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from benchbox.analyze.energy import EnergySource
from benchbox.analyze.evidence import AttemptFigures, CaseEvidence
from benchbox.analyze.noise import Sample
from benchbox.schema.comparison import Metric
from benchbox.stats import mean

_SOURCES: tuple[EnergySource, ...] = ("counter", "power-integral")
"""The surer one first."""
_ALLOCATED: Metric = "peak_memory_allocated_bytes"
_RESIDENT: Metric = "peak_host_rss_bytes"
_ENERGY: Metric = "joules_per_sample"


class Figure(NamedTuple):
    """One figure of one case in both reports."""

    metric: Metric
    base: Sample
    new: Sample
    trouble: str | None = None
    """Why the two samples are not compared; ``None`` where they are."""


def compared_figures(base: CaseEvidence, new: CaseEvidence, *, paired: bool) -> list[Figure]:
    """Throughput, memory and energy, those that one side has at least. None unless both cases ended ``ok``.

    Memory is torch's own account where both sides have it, the host's beside it where not. ``paired``:
    attempts of the same number are one pair, and others are left out.
    """
    if not base.outcome == new.outcome == "ok" or not base.attempts or not new.attempts:
        return []
    before, after = _in_common(base.attempts, new.attempts) if paired else (base.attempts, new.attempts)
    if not before:
        return []
    rate, new_rate = (
        Sample(tuple(a.log_rate for a in side), mean([a.rate_variance_within for a in side]))
        for side in (before, after)
    )
    others = (_other(metric, before, after, paired=paired) for metric in (_ALLOCATED, _RESIDENT, _ENERGY))
    figures = {figure.metric: figure for figure in others if figure is not None}
    if _ALLOCATED in figures and figures[_ALLOCATED].trouble is None:
        figures.pop(_RESIDENT, None)
    return [Figure("samples_per_second", rate, new_rate), *figures.values()]


def _in_common(
    before: Sequence[AttemptFigures], after: Sequence[AttemptFigures]
) -> tuple[list[AttemptFigures], list[AttemptFigures]]:
    """The attempts of the numbers that both have, in order."""
    first, second = ({attempt.attempt: attempt for attempt in side} for side in (before, after))
    both = sorted(first.keys() & second.keys())
    return [first[number] for number in both], [second[number] for number in both]


def _other(
    metric: Metric, before: Sequence[AttemptFigures], after: Sequence[AttemptFigures], *, paired: bool
) -> Figure | None:
    """Of the attempts that have it; ``None`` where neither side does."""
    base, new = ([a for a in side if metric in a.log_figures] for side in (before, after))
    if not base and not new:
        return None
    trouble = None
    if not base or not new:
        trouble = f"not measured in the {'new' if base else 'base'} report"
    elif metric == _ENERGY:
        base, new, trouble = _of_one_source(base, new)
    if paired and trouble is None:
        base, new = _in_common(base, new)
        trouble = None if base else "no round measured it on both sides"
    samples = [Sample(tuple(a.log_figures[metric] for a in side), 0.0) for side in (base, new)]
    return Figure(metric, samples[0], samples[1], trouble)


def _of_one_source(
    base: list[AttemptFigures], new: list[AttemptFigures]
) -> tuple[list[AttemptFigures], list[AttemptFigures], str | None]:
    """Those whose joules were read in the same way: a counter and sampled power differ by percents."""
    sources = [{attempt.energy_source for attempt in side} for side in (base, new)]
    common = [source for source in (*_SOURCES, None) if source in sources[0] & sources[1]]
    if common:
        chosen = [[a for a in side if a.energy_source == common[0]] for side in (base, new)]
        return chosen[0], chosen[1], None
    base_source, new_source = (", ".join(sorted(source or "unknown" for source in side)) for side in sources)
    return base, new, f"read by {base_source} in the base report, by {new_source} in the new one"
