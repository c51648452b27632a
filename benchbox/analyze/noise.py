"""How far apart two sides' attempts lie and how sure that is, with what all cases of a comparison teach.

Three attempts a side give a variance with four degrees of freedom: it is easily ten times too small by luck,
and then any difference looks real. So a case borrows from the others by as much as the cases are alike in
their noise: Smyth 2004, "Linear models and empirical Bayes methods", as in limma. What is borrowed is the
variance, never the difference.

Where attempts ran by turns, a neighbour that comes or goes within a round disturbs one side of it, by ten
percent and more, and a few such rounds would drown what all others say. So from ten rounds on a fifth of them
is left out at either end, two fifths in all: the trimmed mean, whose error comes from the winsorized variance
(Yuen 1974). What a change does to fewer than a fifth of the rounds is not seen then. Memory is not trimmed:
no neighbour changes it, and a rare peak counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from benchbox.analyze.student import digamma, inverse_trigamma, trigamma
from benchbox.stats import mean, median, variance

LEAST_NOISE = 1e-4
"""No two processes are taken to agree better than this, as a share: clocks and schedulers are not finer."""
TRIMMED_SHARE = 0.2
"""Of rounds, at either end."""
LEAST_TRIMMED = 10
"""Rounds. Of fewer, so few would be left that they tell less than all."""


class Sample(NamedTuple):
    """The logarithms of one figure of one case in one report, a value for each attempt; or the difference of
    two reports' for each round."""

    values: tuple[float, ...]
    variance_within: float
    """What a value would vary by if only steps varied, and processes did not: a lower bound."""
    num_trimmed: int = 0
    """Values at either end that are left out of the centre."""

    def kept(self) -> list[int]:
        """The places of the values that are not left out, by rising value."""
        rising = sorted(range(len(self.values)), key=self.values.__getitem__)
        return rising[self.num_trimmed : len(rising) - self.num_trimmed]

    def centre(self) -> float:
        """The mean of what is not left out."""
        return mean([self.values[place] for place in self.kept()])

    def degrees_of_freedom(self) -> int:
        """Of :meth:`variance`; 0 where it is unknown."""
        return len(self.values) - 2 * self.num_trimmed - 1

    def variance(self) -> float:
        """Of one value, so that over their number it is the squared error of the centre."""
        kept = [self.values[place] for place in self.kept()]
        # Each value that is left out is replaced by the nearest one that is not.
        winsorized = [kept[0]] * self.num_trimmed + kept + [kept[-1]] * self.num_trimmed
        num_values, num_kept = len(self.values), len(kept)
        share = num_values * (num_values - 1) / (num_kept * (num_kept - 1))
        return max(share * variance(winsorized), self.variance_within, LEAST_NOISE**2)


def of_rounds(base: Sample, new: Sample, *, trimmed: bool) -> Sample:
    """The differences of two sides whose attempts of the same place ran one after the other."""
    differences = tuple(after - before for before, after in zip(base.values, new.values, strict=True))
    trimmed = trimmed and len(differences) >= LEAST_TRIMMED
    num_trimmed = int(TRIMMED_SHARE * len(differences)) if trimmed else 0
    return Sample(differences, base.variance_within + new.variance_within, num_trimmed)


class Spread(NamedTuple):
    """What the attempts of one case say of the error of their difference."""

    variance: float
    """Of one attempt, pooled over both sides; where values are left out, of one whose mean errs as much."""
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
    known = [side for side in sides if len(side.values) > 1]
    if not known:
        return None
    scale = sum(1 / len(side.values) for side in sides)
    parts = [side.variance() / len(side.values) for side in known]
    freedom = [side.degrees_of_freedom() for side in known]
    unequal = sum(parts) ** 2 / sum(p * p / df for p, df in zip(parts, freedom, strict=True))
    pooled = sum(parts) / sum(1 / len(side.values) for side in known)
    return Spread(pooled, scale, sum(freedom), unequal)


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
