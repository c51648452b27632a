"""Student's t and its kin in plain Python: scipy takes a second to import, and a comparison half of that."""

from __future__ import annotations

import functools
import math

_TINY = 1e-300
_MAX_TERMS = 500


def t_tail(t: float, degrees_of_freedom: float) -> float:
    """The probability that Student's t exceeds ``t``, to about ten digits.

    By the regularized incomplete beta function, Abramowitz & Stegun 26.7.1; the normal tail beyond a million
    degrees of freedom.
    """
    if t < 0:
        return 1.0 - t_tail(-t, degrees_of_freedom)
    if degrees_of_freedom > 1e6:
        return 0.5 * math.erfc(t / math.sqrt(2))
    if t < 1e-3:  # there 1 - x has lost its digits; the density is flat to the third order
        nu = degrees_of_freedom
        log_density = math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2) - 0.5 * math.log(nu * math.pi)
        return 0.5 - t * math.exp(log_density)
    x = degrees_of_freedom / (degrees_of_freedom + t * t)
    return 0.5 * _incomplete_beta(degrees_of_freedom / 2, 0.5, x)


def t_quantile(tail: float, degrees_of_freedom: float) -> float:
    """The value that Student's t exceeds with probability ``tail`` (below one half).

    Degrees of freedom are rounded down to two digits, to the wider side, so that few are ever computed.
    Infinite below one.
    """
    if degrees_of_freedom < 1:
        return math.inf
    if degrees_of_freedom > 1e6:
        return _t_quantile(tail, 1e9)
    unit = 10.0 ** (math.floor(math.log10(degrees_of_freedom)) - 1)
    return _t_quantile(tail, round(math.floor(degrees_of_freedom / unit + 1e-9) * unit, 6))


@functools.lru_cache(maxsize=4096)
def _t_quantile(tail: float, degrees_of_freedom: float) -> float:
    low, high = 0.0, 1.0
    while t_tail(high, degrees_of_freedom) > tail:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        if t_tail(middle, degrees_of_freedom) > tail:
            low = middle
        else:
            high = middle
    return high


def trigamma(x: float) -> float:
    """The second derivative of log gamma, for positive ``x``. Abramowitz & Stegun 6.4.6 and 6.4.12."""
    total = 0.0
    while x < 12:
        total += 1 / (x * x)
        x += 1
    r = 1 / (x * x)
    return total + 1 / x + r / 2 + r / x * (1 / 6 - r * (1 / 30 - r * (1 / 42 - r / 30)))


def digamma(x: float) -> float:
    """The derivative of log gamma, for positive ``x``. Abramowitz & Stegun 6.3.5 and 6.3.18."""
    total = 0.0
    while x < 12:
        total -= 1 / x
        x += 1
    r = 1 / (x * x)
    return total + math.log(x) - 1 / (2 * x) - r * (1 / 12 - r * (1 / 120 - r * (1 / 252 - r / 240)))


def inverse_trigamma(y: float) -> float:
    """The ``x`` whose trigamma is ``y`` > 0, which falls from infinity to nothing: by bisection."""
    low, high = 1e-8, 1e8
    for _ in range(48):
        middle = math.sqrt(low * high)
        if trigamma(middle) > y:
            low = middle
        else:
            high = middle
    return math.sqrt(low * high)


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularized incomplete beta function by its continued fraction (DLMF 8.17.22), after Lentz."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # the fraction converges quickly on the other side
        return 1.0 - _incomplete_beta(b, a, 1.0 - x)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    c, d = 1.0, 1.0 / _away_from_zero(1.0 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, _MAX_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1.0 / _away_from_zero(1.0 + even * d)
        c = _away_from_zero(1.0 + even / c)
        fraction *= d * c
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d = 1.0 / _away_from_zero(1.0 + odd * d)
        c = _away_from_zero(1.0 + odd / c)
        fraction *= d * c
        if abs(d * c - 1.0) < 1e-13:
            break
    return front * fraction / a


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
