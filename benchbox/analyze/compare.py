"""Whether a case became slower, and whether that is real.

The unit of evidence is the attempt. On the logarithms of the attempts' figures two things are tested, and a
case is called ``slower`` only where both say so:

- that the change is larger than the threshold: the hypothesis "slower by the threshold at most" is rejected
  at 10 %, which is to say that the 80 % interval lies wholly beyond the threshold;
- that it is no luck, of which many cases have more: the hypothesis "nothing changed" is rejected with the
  cautious error of :mod:`benchbox.analyze.noise`, two-sided, adjusted by Holm (1979) over all tests, so that
  a comparison in which nothing changed raises one false alarm or more with a chance of 1 %.

``same`` is the test of equivalence with the same threshold and level (Schuirmann 1987): the interval lies
wholly within. What is neither is ``inconclusive``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, get_args

from benchbox.analyze.evidence import AttemptFigures, CaseEvidence
from benchbox.analyze.noise import Error, Noise, Sample, Spread, learn_noise, spread_of
from benchbox.analyze.student import t_quantile, t_tail
from benchbox.errors import BadInputError
from benchbox.schema.comparison import (
    CaseComparison,
    Metric,
    MetricComparison,
    RatioInterval,
    Thresholds,
    Verdict,
)
from benchbox.stats import mean

FALSE_ALARM = 0.01
"""Chance of any false alarm in a comparison, when nothing has changed."""
_ALARM_LEVEL = FALSE_ALARM / 2
"""What is tested at: the other half is kept for noise that is not normal."""
THRESHOLD_LEVEL = 0.1
"""Of each one-sided test against the threshold."""

_METRICS: tuple[Metric, ...] = get_args(Metric)
_ONE_ATTEMPT = "one attempt each says nothing of how attempts vary"
Pair = tuple[CaseEvidence, CaseEvidence]


class _Test(NamedTuple):
    """One figure of one case: the difference of logarithms, and how sure it is."""

    metric: Metric
    base: Sample
    new: Sample
    difference: float
    error: Error | None
    """``None`` where nothing is known of it."""
    p_value: float
    """Of no change, not adjusted."""


def thresholds_of(throughput_pct: float, memory_pct: float = 5.0, energy_pct: float = 5.0) -> Thresholds:
    """The thresholds, checked.

    Raises:
        BadInputError: one is not above 0 and below 1000.
    """
    for name, value in (("", throughput_pct), ("memory-", memory_pct), ("energy-", energy_pct)):
        if not 0 < value < 1000:
            raise BadInputError(f"--{name}threshold: {value:g} is not a percentage between 0 and 1000")
    return Thresholds(throughput_pct=throughput_pct, memory_pct=memory_pct, energy_pct=energy_pct)


def compare_cases(
    pairs: Sequence[Pair], thresholds: Thresholds, *, paired: bool = False, share: float = 1.0
) -> list[CaseComparison]:
    """The verdict on each pair of base and new evidence.

    ``paired``: attempts of the same number ran one after the other, and are compared with each other. Both
    error rates are multiplied by ``share``, for who looks several times.
    """
    tests = _all_tests(pairs, paired=paired)
    flat = [test for of_case in tests for test in of_case]
    adjusted = iter(holm([test.p_value for test in flat]))
    return [
        _case_comparison(
            pair, tuple(_judge(test, next(adjusted), thresholds, share) for test in tests_of_case)
        )
        for pair, tests_of_case in zip(pairs, tests, strict=True)
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """Each p-value adjusted so that rejecting those below a level errs once or more with at most that
    probability, whatever depends on what (Holm 1979)."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def _all_tests(pairs: Sequence[Pair], *, paired: bool) -> list[list[_Test]]:
    samples = [_samples(base, new, paired=paired) for base, new in pairs]
    spreads = [
        [(metric, spread_of(_sides(base, new, paired=paired))) for metric, base, new in of_case]
        for of_case in samples
    ]
    noises: dict[Metric, Noise | None] = {
        metric: learn_noise([s for of_case in spreads for m, s in of_case if m == metric and s is not None])
        for metric in _METRICS
    }
    return [
        [
            _test(metric, base, new, spread, noises[metric])
            for (metric, base, new), (_, spread) in zip(of_case, spreads_of_case, strict=True)
        ]
        for of_case, spreads_of_case in zip(samples, spreads, strict=True)
    ]


def _samples(base: CaseEvidence, new: CaseEvidence, *, paired: bool) -> list[tuple[Metric, Sample, Sample]]:
    """Throughput, memory (torch's own account where both have it) and energy, those that both sides have."""
    before, after = base.attempts, new.attempts
    if paired:
        both = {a.attempt for a in before} & {a.attempt for a in after}
        before = tuple(sorted((a for a in before if a.attempt in both), key=_number))
        after = tuple(sorted((a for a in after if a.attempt in both), key=_number))
    if not before or not after:
        return []
    within = [mean([a.rate_variance_within for a in side]) for side in (before, after)]
    found: list[tuple[Metric, Sample, Sample]] = [
        (
            "samples_per_second",
            Sample(tuple(a.log_rate for a in before), within[0]),
            Sample(tuple(a.log_rate for a in after), within[1]),
        )
    ]
    whole = [
        metric
        for metric in before[0].log_figures
        if all(metric in attempt.log_figures for attempt in (*before, *after))
    ]
    if "peak_memory_allocated_bytes" in whole and "peak_host_rss_bytes" in whole:
        whole.remove("peak_host_rss_bytes")
    found += [
        (
            metric,
            Sample(tuple(a.log_figures[metric] for a in before), 0.0),
            Sample(tuple(a.log_figures[metric] for a in after), 0.0),
        )
        for metric in whole
    ]
    return found


def _sides(base: Sample, new: Sample, *, paired: bool) -> tuple[Sample, ...]:
    if not paired:
        return base, new
    differences = tuple(after - before for before, after in zip(base.values, new.values, strict=True))
    return (Sample(differences, base.variance_within + new.variance_within),)


def _test(metric: Metric, base: Sample, new: Sample, spread: Spread | None, noise: Noise | None) -> _Test:
    difference = mean(new.values) - mean(base.values)
    if spread is None or noise is None:
        return _Test(metric, base, new, difference, None, 1.0)
    cautious = noise.cautious_error(spread)
    p_value = 2 * t_tail(abs(difference) / cautious.size, cautious.degrees_of_freedom)
    return _Test(metric, base, new, difference, noise.error(spread), p_value)


def _judge(test: _Test, adjusted: float, thresholds: Thresholds, share: float) -> MetricComparison:
    threshold = math.log1p(_threshold_pct(test.metric, thresholds) / 100)
    interval: RatioInterval | None = None
    verdict: Verdict = "inconclusive"
    reason: str | None = _ONE_ATTEMPT
    if test.error is not None:
        half = test.error.size * t_quantile(THRESHOLD_LEVEL * share, test.error.degrees_of_freedom)
        size = abs(test.difference)
        interval = RatioInterval(low=_exp(test.difference - half), high=_exp(test.difference + half))
        verdict, reason = _verdict(test, size - half > threshold, size + half < threshold, adjusted, share)
    return MetricComparison(
        metric=test.metric,
        verdict=verdict,
        base=_figure(test.metric, test.base),
        new=_figure(test.metric, test.new),
        ratio=_exp(test.difference),
        ratio_interval=interval,
        p_value=None if test.error is None else adjusted,
        num_base_attempts=len(test.base.values),
        num_new_attempts=len(test.new.values),
        reason=reason,
    )


def _verdict(
    test: _Test, beyond: bool, within: bool, adjusted: float, share: float
) -> tuple[Verdict, str | None]:
    if within:
        return "same", None
    if beyond and adjusted <= _ALARM_LEVEL * share:
        more = test.difference > 0
        if test.metric == "samples_per_second":
            return ("faster" if more else "slower"), None
        return ("more" if more else "less"), None
    if beyond:
        return "inconclusive", "beyond the threshold, but luck among so many tests could do that"
    return "inconclusive", "the interval holds both a change that matters and none that does"


def _case_comparison(pair: Pair, metrics: tuple[MetricComparison, ...]) -> CaseComparison:
    base, new = pair
    verdict, reason = _on_outcome(base, new)
    if verdict is None and metrics:
        verdict, reason = metrics[0].verdict, metrics[0].reason
    return CaseComparison(
        case=new.case,
        verdict=verdict or "inconclusive",
        base_outcome=base.outcome,
        new_outcome=new.outcome,
        reason=reason,
        metrics=metrics,
    )


def _on_outcome(base: CaseEvidence, new: CaseEvidence) -> tuple[Verdict | None, str | None]:
    """The verdict where not both ended ``ok``, and why; nothing where both did."""
    before, after = base.outcome, new.outcome
    if before is None or after is None:
        which = "the base report" if before is None else "the new report"
        return "inconclusive", f"not finished in {which}"
    if before == after == "ok":
        return None, None
    if after == "ok":
        return "improvement", f"was {before}: {base.reason or 'no reason given'}"
    if before == "ok":
        return "regression", f"is {after}: {new.reason or 'no reason given'}"
    return "same", f"was {before}, is {after}"


def _figure(metric: Metric, sample: Sample) -> float:
    """The geometric mean; of memory in whole bytes, for its logarithm is not exact to the byte."""
    value = _exp(mean(sample.values))
    return float(round(value)) if metric.endswith("_bytes") else value


def _threshold_pct(metric: Metric, thresholds: Thresholds) -> float:
    if metric == "samples_per_second":
        return thresholds.throughput_pct
    return thresholds.energy_pct if metric == "joules_per_sample" else thresholds.memory_pct


def _number(attempt: AttemptFigures) -> int:
    return attempt.attempt


def _exp(value: float) -> float:
    """Within what a ratio can hold: an interval of few attempts may span more than a float."""
    return math.exp(max(-40.0, min(40.0, value)))
