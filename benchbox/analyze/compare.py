"""Whether a case became slower, and whether that is real.

The unit of evidence is the attempt. On the logarithms of the attempts' figures two things are tested, and a
case is called ``slower`` only where both say so:

- that the change is larger than the threshold: the hypothesis "slower by the threshold at most" is rejected
  at 10 %, which is to say that the 80 % interval lies wholly beyond the threshold;
- that it is no luck, of which many cases have more: the hypothesis "nothing changed" is rejected with the
  cautious error of :mod:`benchbox.analyze.noise`, two-sided, adjusted by Holm (1979) over all cases, so that
  a comparison in which nothing changed raises one false alarm or more with a chance of 1 %. Half of that
  chance is throughput's, half that of memory and energy together: figures that come along cost throughput
  nothing.

``same`` is the test of equivalence with the same threshold and level (Schuirmann 1987): the interval lies
wholly within. What is neither is ``inconclusive``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, get_args

from benchbox.analyze.compared_figures import Figure, compared_figures
from benchbox.analyze.evidence import CaseEvidence
from benchbox.analyze.noise import Error, Noise, Spread, learn_noise, of_rounds, spread_of
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
"""What each of the two families of tests is tested at: throughput, and all else."""
THRESHOLD_LEVEL = 0.1
"""Of each one-sided test against the threshold."""

_METRICS: tuple[Metric, ...] = get_args(Metric)
_ONE_ATTEMPT = "one attempt each says nothing of how attempts vary"
LEAST_FOR_SPEEDS = 5
"""Attempts a side that tell a change from attempts that come in two speeds, as on a machine with two kinds of
core. Where each speed is met every other time, n attempts a side all meet the one in base and the other in
new, or n rounds all differ the same way, with a chance of 2 / 4^n: 3 % for three, 0.2 % for five. No test can
see that in the attempts, for they then look as those of a change do."""
_TWO_SPEEDS = "beyond the threshold, but so few rounds may have met one speed of two on each side"
Pair = tuple[CaseEvidence, CaseEvidence]


class _Rule(NamedTuple):
    """By what all figures are judged."""

    thresholds: Thresholds
    share: float
    paired: bool


class _Difference(NamedTuple):
    """Of one figure of one case, in logarithms."""

    base: float
    new: float
    spread: Spread | None

    def size(self) -> float:
        """New less base."""
        return self.new - self.base


class _Test(NamedTuple):
    """One figure of one case: the difference of logarithms, and how sure it is."""

    figure: Figure
    found: _Difference
    error: Error | None
    """``None`` where nothing is known of it."""
    p_value: float
    """Of no change, not adjusted."""


def thresholds_of(
    throughput_pct: float | None = None, memory_pct: float | None = None, energy_pct: float | None = None
) -> Thresholds:
    """The thresholds, checked; those not given are the usual ones.

    Raises:
        BadInputError: one is not above 0 and below 1000.
    """
    given = {"throughput_pct": throughput_pct, "memory_pct": memory_pct, "energy_pct": energy_pct}
    for name, value in given.items():
        if value is not None and not 0 < value < 1000:
            which = name.removesuffix("pct").replace("_", "-").removeprefix("throughput-")
            raise BadInputError(f"--{which}threshold: {value:g} is not a percentage between 0 and 1000")
    return Thresholds(**{name: value for name, value in given.items() if value is not None})


def compare_cases(
    pairs: Sequence[Pair], thresholds: Thresholds, *, paired: bool = False, share: float = 1.0
) -> list[CaseComparison]:
    """The verdict on each pair of base and new evidence.

    ``paired``: attempts of the same number ran one after the other, and are compared with each other, from
    ten rounds on without the fifth of them at either end, but for memory. Before there are five rounds
    nothing is called changed, for more can be had. Both error rates are multiplied by ``share``, for who
    looks several times.
    """
    tests = _all_tests(pairs, paired=paired)
    rule = _Rule(thresholds, share, paired)
    adjusted = iter(_adjusted([test for of_case in tests for test in of_case]))
    return [
        _case_comparison(pair, tuple(_judge(test, next(adjusted), rule) for test in tests_of_case))
        for pair, tests_of_case in zip(pairs, tests, strict=True)
    ]


def _adjusted(tests: Sequence[_Test]) -> list[float]:
    """The p-value of each, adjusted among those of throughput, or among those of memory and energy."""
    found = [test.p_value for test in tests]
    for is_rate in (True, False):
        family = [
            number
            for number, test in enumerate(tests)
            if test.error is not None and (test.figure.metric == "samples_per_second") == is_rate
        ]
        adjusted = holm([found[number] for number in family])
        for number, p_value in zip(family, adjusted, strict=True):
            found[number] = p_value
    return found


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
    figures = [compared_figures(base, new, paired=paired) for base, new in pairs]
    differences = [[_difference(figure, paired=paired) for figure in of_case] for of_case in figures]
    both = [
        list(zip(of_case, differences_of_case, strict=True))
        for of_case, differences_of_case in zip(figures, differences, strict=True)
    ]
    noises: dict[Metric, Noise | None] = {
        metric: learn_noise(
            [d.spread for of_case in both for f, d in of_case if f.metric == metric and d.spread]
        )
        for metric in _METRICS
    }
    return [[_test(figure, found, noises[figure.metric]) for figure, found in of_case] for of_case in both]


def _difference(figure: Figure, *, paired: bool) -> _Difference:
    base, new = figure.base, figure.new
    if figure.trouble:
        return _Difference(_mean_of(base.values), _mean_of(new.values), None)
    if not paired:
        return _Difference(base.centre(), new.centre(), spread_of((base, new)))
    rounds = of_rounds(base, new, trimmed=not figure.metric.endswith("_bytes"))
    before, after = (_mean_of([side.values[place] for place in rounds.kept()]) for side in (base, new))
    return _Difference(before, after, spread_of((rounds,)))


def _mean_of(values: Sequence[float]) -> float:
    return mean(values) if values else math.nan


def _test(figure: Figure, found: _Difference, noise: Noise | None) -> _Test:
    if found.spread is None or noise is None:
        return _Test(figure, found, None, 1.0)
    cautious = noise.cautious_error(found.spread)
    p_value = 2 * t_tail(abs(found.size()) / cautious.size, cautious.degrees_of_freedom)
    return _Test(figure, found, noise.error(found.spread), p_value)


def _judge(test: _Test, adjusted: float, rule: _Rule) -> MetricComparison:
    metric, base, new, trouble = test.figure
    found, difference = test.found, test.found.size()
    interval: RatioInterval | None = None
    verdict: Verdict = "inconclusive"
    reason: str | None = trouble or _ONE_ATTEMPT
    if test.error is not None:
        half = test.error.size * t_quantile(THRESHOLD_LEVEL * rule.share, test.error.degrees_of_freedom)
        interval = RatioInterval(low=_exp(difference - half), high=_exp(difference + half))
        verdict, reason = _verdict(test, half, adjusted, rule)
    return MetricComparison(
        metric=metric,
        verdict=verdict,
        base=_level(metric, found.base),
        new=_level(metric, found.new),
        ratio=None if trouble else _exp(difference),
        ratio_interval=interval,
        p_value=None if test.error is None else adjusted,
        num_base_attempts=len(base.values),
        num_new_attempts=len(new.values),
        reason=reason,
    )


def _verdict(test: _Test, half: float, adjusted: float, rule: _Rule) -> tuple[Verdict, str | None]:
    metric = test.figure.metric
    threshold = math.log1p(_threshold_pct(metric, rule.thresholds) / 100)
    difference = test.found.size()
    size = abs(difference)
    if size + half < threshold:
        return "same", None
    if size - half <= threshold:
        return "inconclusive", "the interval holds both a change that matters and none that does"
    if adjusted > _ALARM_LEVEL * rule.share:
        return "inconclusive", "beyond the threshold, but luck among so many tests could do that"
    if rule.paired and len(test.figure.new.values) < LEAST_FOR_SPEEDS:
        return "inconclusive", _TWO_SPEEDS
    more = difference > 0
    if metric == "samples_per_second":
        return ("faster" if more else "slower"), None
    return ("more" if more else "less"), None


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


def _level(metric: Metric, log_level: float) -> float | None:
    """The geometric mean; of memory in whole bytes, for its logarithm is not exact to the byte."""
    if math.isnan(log_level):
        return None
    value = _exp(log_level)
    return float(round(value)) if metric.endswith("_bytes") else value


def _threshold_pct(metric: Metric, thresholds: Thresholds) -> float:
    if metric == "samples_per_second":
        return thresholds.throughput_pct
    return thresholds.energy_pct if metric == "joules_per_sample" else thresholds.memory_pct


def _exp(value: float) -> float:
    """Within what a ratio can hold: an interval of few attempts may span more than a float."""
    return math.exp(max(-40.0, min(40.0, value)))
