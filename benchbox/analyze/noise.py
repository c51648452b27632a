"""How sure a difference between two means of attempts is, with what all cases of a comparison teach.

Three attempts a side give a variance with four degrees of freedom: it is easily ten times too small by luck,
and then any difference looks real. So a case borrows from the others by as much as the cases are alike in
their noise: Smyth 2004, "Linear models and empirical Bayes methods", as in limma. What is borrowed is the
variance, never the difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from benchbox.analyze.student import digamma, inverse_trigamma, trigamma
from benchbox.stats import mean, median, variance

LEAST_NOISE = 1e-4
"""No two processes are taken to agree better than this, as a share: clocks and schedulers are not finer."""


class Sample(NamedTuple):
    """The logarithms of one figure of one case in one report, a value for each attempt."""

    values: tuple[float, ...]
    variance_within: float
    """What a value would vary by if only steps varied, and processes did not: a lower bound."""


class Spread(NamedTuple):
    """What the attempts of one case say of the error of their difference."""

    variance: float
    """Of one attempt, pooled over both sides."""
    scale: float
    """Times this: the squared error of the difference."""
    degrees_of_freedom: int
    unequal_degrees_of_freedom: float
    """Not taking both sides to be equally noisy: Welch & Satterthwaite's."""


class Error(NamedTuple):
    """The standard error of a difference, and its degrees of freedom."""

    size: float
    degrees_of_freedom: float


def spread_of(sides: Sequence[Sample]) -> Spread | None:
    """Of two sides, or of one side of paired differences; ``None`` where no side has two attempts.

    A side with a single attempt is taken to vary as the other one does.
    """
    known = [(_variance(side), len(side.values)) for side in sides if len(side.values) > 1]
    if not known:
        return None
    scale = sum(1 / len(side.values) for side in sides)
    parts = [v / n for v, n in known]
    unequal = sum(parts) ** 2 / sum(p * p / (n - 1) for p, (_, n) in zip(parts, known, strict=True))
    pooled = sum(parts) / sum(1 / n for _, n in known)
    return Spread(pooled, scale, sum(n - 1 for _, n in known), unequal)


def _variance(side: Sample) -> float:
    return max(variance(side.values), side.variance_within, LEAST_NOISE**2)


class Noise(NamedTuple):
    """What the cases of a comparison say together."""

    prior_variance: float
    prior_degrees_of_freedom: float
    """Infinite where all cases are alike, 0 where there is one."""
    cautious_degrees_of_freedom: float
    """The same with the cases taken to be less alike, by one standard error."""
    middle_variance: float
    all_degrees_of_freedom: int

    def error(self, spread: Spread) -> Error:
        """The best guess, for an interval: the case's own variance drawn to the others'."""
        own, df = spread.variance, spread.degrees_of_freedom
        if self._stands_alone(spread):
            return Error(math.sqrt(own * spread.scale), df)
        borrowed = self.prior_degrees_of_freedom
        drawn = (
            self.prior_variance
            if math.isinf(borrowed)
            else (borrowed * self.prior_variance + df * own) / (borrowed + df)
        )
        return Error(math.sqrt(drawn * spread.scale), min(df + borrowed, float(self.all_degrees_of_freedom)))

    def cautious_error(self, spread: Spread) -> Error:
        """The largest of all guesses, for an alarm: sides may be unequally noisy, and a case is never taken
        to be quieter than its own attempts or the middle case."""
        largest = max(spread.variance, self.middle_variance)
        size = max(self.error(spread).size, math.sqrt(largest * spread.scale))
        borrowed = 0.0 if self._stands_alone(spread) else self.cautious_degrees_of_freedom
        df = min(spread.unequal_degrees_of_freedom + borrowed, float(self.all_degrees_of_freedom))
        return Error(size, df)

    def _stands_alone(self, spread: Spread) -> bool:
        """Whether the case is noisier than the middle one by more than chance, at 99 %."""
        return spread.variance > self.middle_variance * _by_chance(spread.degrees_of_freedom)


def learn_noise(spreads: Sequence[Spread]) -> Noise | None:
    """The noise of a comparison from all its cases; ``None`` where there is none."""
    if not spreads:
        return None
    freedom = [spread.degrees_of_freedom for spread in spreads]
    total = sum(freedom)
    if len(spreads) == 1:
        return Noise(spreads[0].variance, 0.0, 0.0, spreads[0].variance, total)
    # Logarithms of sample variances have a known bias and spread, whatever the true one (Smyth, section 6.2).
    logs = [
        math.log(spread.variance) - digamma(df / 2) + math.log(df / 2)
        for spread, df in zip(spreads, freedom, strict=True)
    ]
    seen, by_chance = variance(logs), mean([trigamma(df / 2) for df in freedom])
    prior = _prior_degrees_of_freedom(seen - by_chance)
    cautious = _prior_degrees_of_freedom(seen * (1 + math.sqrt(2 / (len(logs) - 1))) - by_chance)
    centre = mean(logs)
    if not math.isinf(prior):
        centre += digamma(prior / 2) - math.log(prior / 2)
    return Noise(math.exp(centre), prior, cautious, math.exp(median(logs)), total)


def _prior_degrees_of_freedom(excess: float) -> float:
    """Of true variances whose logarithms vary by ``excess``; infinite for none."""
    return 2 * inverse_trigamma(excess) if excess > 0 else math.inf


def _by_chance(degrees_of_freedom: int) -> float:
    """The 99 % quantile of a sample variance over the true one (chi-square, Wilson & Hilferty 1931)."""
    spread = 2 / (9 * degrees_of_freedom)
    return (1 - spread + 2.326 * math.sqrt(spread)) ** 3
