"""Student's t in plain Python against scipy's."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from benchbox.analyze.student import digamma, inverse_trigamma, t_quantile, t_tail, trigamma


@given(t=st.floats(0, 30), df=st.floats(1, 1e5))
def test_the_tail_is_scipys(t: float, df: float) -> None:
    assert t_tail(t, df) == pytest.approx(stats.t.sf(t, df), rel=1e-7)
    assert t_tail(-t, df) == pytest.approx(1 - stats.t.sf(t, df), rel=1e-7)


@given(tail=st.floats(1e-6, 0.4), df=st.floats(1, 1e5))
def test_a_quantile_is_never_below_scipys_and_hardly_above(tail: float, df: float) -> None:
    exact = stats.t.ppf(1 - tail, df)
    assert exact * (1 - 1e-6) <= t_quantile(tail, df) <= stats.t.ppf(1 - tail, max(1, 0.9 * df)) * 1.000001


def test_ends_of_the_quantile() -> None:
    assert t_quantile(0.05, math.inf) == pytest.approx(stats.norm.ppf(0.95))
    assert math.isinf(t_quantile(0.05, 0.5))


@given(x=st.floats(1e-3, 1e6))
def test_gamma_functions_are_scipys(x: float) -> None:
    assert trigamma(x) == pytest.approx(special.polygamma(1, x), rel=1e-9)
    assert digamma(x) == pytest.approx(special.digamma(x), rel=1e-9, abs=1e-9)
    assert inverse_trigamma(trigamma(x)) == pytest.approx(x, rel=1e-6)
