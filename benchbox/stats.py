"""Small statistics in plain Python, for step times that are skewed, noisy and correlated.

Intervals are 95 % intervals. Steps inside one process are correlated, so intervals over steps use the
effective sample size and not the number of steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

# Two-sided 95 % quantiles of Student's t for 1 to 30 degrees of freedom; beyond, the expansion in t_quantile.
_T_975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
_Z_975 = 1.959964

_MAX_LAG = 64
_MAX_LOOKED_AT = 2048


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean of at least one value."""
    return math.fsum(values) / len(values)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` (0 to 1) of ``values`` lie, linear between neighbours."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def median(values: Sequence[float]) -> float:
    """The middle of at least one value."""
    return percentile(values, 0.5)


def variance(values: Sequence[float]) -> float:
    """Unbiased sample variance of at least two values."""
    centre = mean(values)
    return math.fsum((v - centre) ** 2 for v in values) / (len(values) - 1)


def t_quantile(degrees_of_freedom: float) -> float:
    """The 97.5 % quantile of Student's t, within 0.1 %; infinite below one degree of freedom.

    Up to 30 a fractional number is rounded down, to the wider side. Above: Cornish-Fisher, Abramowitz &
    Stegun 26.7.5.
    """
    if degrees_of_freedom < 1:
        return math.inf
    if degrees_of_freedom <= len(_T_975):
        return _T_975[int(degrees_of_freedom) - 1]
    z, n = _Z_975, degrees_of_freedom
    return z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)


def effective_sample_size(values: Sequence[float]) -> float:
    """How many independent values tell as much about the mean as these do, between 1 and their number.

    Geyer's initial positive sequence: autocorrelations are summed in pairs until a pair's sum is no longer
    positive (Geyer 1992, "Practical Markov chain Monte Carlo", section 3.3).
    """
    n = len(values)
    if n < 4:
        return float(n)
    if n > _MAX_LOOKED_AT:  # plain Python must not take long between two windows
        return n * effective_sample_size(values[-_MAX_LOOKED_AT:]) / _MAX_LOOKED_AT
    centre = mean(values)
    centred = [v - centre for v in values]
    power = math.fsum(c * c for c in centred)
    if power <= 0.0:
        return float(n)

    def autocorrelation(lag: int) -> float:
        return math.fsum(a * b for a, b in zip(centred, centred[lag:], strict=False)) / power

    total = 0.0
    for lag in range(1, min(n // 2, _MAX_LAG), 2):
        pair = autocorrelation(lag) + autocorrelation(lag + 1)
        if pair <= 0.0:
            break
        total += pair
    return min(float(n), max(1.0, n / (1.0 + 2.0 * total)))


def mean_interval(values: Sequence[float], *, independent: bool = False) -> tuple[float, float]:
    """Interval of the mean; ``(-inf, inf)`` for fewer than two values.

    Unless the values are ``independent``, their autocorrelation widens it.
    """
    if len(values) < 2:
        return (-math.inf, math.inf)
    n = float(len(values)) if independent else effective_sample_size(values)
    if n <= 1:
        return (-math.inf, math.inf)
    centre = mean(values)
    half = t_quantile(n - 1) * math.sqrt(variance(values) / n)
    return (centre - half, centre + half)


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Distribution-free interval of the median from order statistics, widened for autocorrelation.

    Ranks (n + 1)/2 ± 0.98·√n, outwards to the next whole ones (Conover, "Practical Nonparametric
    Statistics", 3.2, with a continuity correction, so that no n falls below 95 %), with √n stretched by
    √(n / effective n). Fewer than six values cannot carry 95 %: the result is then ``(-inf, inf)``.
    """
    n = len(values)
    if n < 6:
        return (-math.inf, math.inf)
    stretch = math.sqrt(n / effective_sample_size(values))
    half = _Z_975 / 2 * math.sqrt(n) * stretch
    low = math.floor((n - 1) / 2 - half)
    if low < 0:
        return (-math.inf, math.inf)
    ordered = sorted(values)
    return (ordered[low], ordered[n - 1 - low])


def relative_half_width(interval: tuple[float, float], centre: float) -> float:
    """Half of the interval's width as a share of ``centre``; infinite unless the ends are finite and the
    centre is positive."""
    if not (math.isfinite(interval[0]) and math.isfinite(interval[1])) or centre <= 0:
        return math.inf
    return (interval[1] - interval[0]) / 2 / centre


def relative_noise(values: Sequence[float]) -> float:
    """Spread of the values as a share of their median: 1.4826 × the median absolute deviation."""
    centre = median(values)
    if centre <= 0:
        return math.inf
    return 1.4826 * median([abs(v - centre) for v in values]) / centre
