from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from benchbox import stats

INFINITE = (-math.inf, math.inf)


def ar1(random_: random.Random, n: int, phi: float) -> list[float]:
    """A stationary AR(1) series around zero; neighbours are correlated by ``phi``."""
    value = random_.gauss(0, 1 / math.sqrt(1 - phi * phi))
    series = []
    for _ in range(n):
        value = phi * value + random_.gauss(0, 1)
        series.append(value)
    return series


def coverage(
    interval: Callable[[Sequence[float]], tuple[float, float]], n: int, phi: float, rounds: int = 400
) -> float:
    """The share of intervals around the true centre, zero."""
    random_ = random.Random(f"{n} {phi}")
    intervals = [interval(ar1(random_, n, phi)) for _ in range(rounds)]
    return sum(low <= 0 <= high for low, high in intervals) / rounds


# --- centre and spread -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([7.0], 0.95, 7.0),
        ([1.0, 2.0], 0.5, 1.5),
        ([4.0, 1.0, 3.0, 2.0], 0.0, 1.0),
        ([4.0, 1.0, 3.0, 2.0], 1.0, 4.0),
        ([10.0, 20.0, 30.0, 40.0, 50.0], 0.95, 48.0),  # place 3.8
    ],
)
def test_a_percentile_lies_on_the_line_between_its_neighbours(
    values: list[float], share: float, expected: float
) -> None:
    assert stats.percentile(values, share) == pytest.approx(expected)


def test_the_median_of_an_even_number_is_between_the_middle_two() -> None:
    assert stats.median([1, 100, 2, 3]) == 2.5
    assert stats.median([5, 1, 3]) == 3


def test_mean_and_variance_are_those_of_the_textbook() -> None:
    values = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]
    assert stats.mean(values) == 5.0
    assert stats.variance(values) == pytest.approx(32 / 7)
    assert stats.mean([1e16, 1.0, -1e16]) == pytest.approx(1 / 3)  # no digits lost on the way


def test_noise_is_the_scaled_median_deviation() -> None:
    assert stats.relative_noise([8.0, 9.0, 10.0, 11.0, 12.0]) == pytest.approx(1.4826 * 1.0 / 10.0)
    assert stats.relative_noise([10.0, 10.0, 10.0, 10.0, 1e9]) == 0.0  # one outlier is not noise
    assert stats.relative_noise([0.0, 0.0]) == math.inf


@given(st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=50), st.floats(0, 1))
def test_percentiles_agree_with_numpy(values: list[float], share: float) -> None:
    assert stats.percentile(values, share) == pytest.approx(float(np.percentile(values, 100 * share)))


# --- Student's t -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [*range(1, 40), 50, 64, 100, 1000, 100_000])
def test_t_quantiles_are_within_a_tenth_of_a_percent(degrees: int) -> None:
    assert stats.t_quantile(degrees) == pytest.approx(scipy.stats.t.ppf(0.975, degrees), rel=1e-3)


@pytest.mark.parametrize("degrees", [1.5, 2.9, 17.3, 29.99, 30.5, 55.5])
def test_fractional_degrees_are_never_on_the_narrow_side(degrees: float) -> None:
    assert stats.t_quantile(degrees) >= 0.999 * scipy.stats.t.ppf(0.975, degrees)


def test_below_one_degree_of_freedom_nothing_is_known() -> None:
    assert stats.t_quantile(0.99) == math.inf


# --- effective sample size ---------------------------------------------------------------------------------


@pytest.mark.parametrize("phi", [0.0, 0.3, 0.5, 0.8])
def test_the_effective_size_of_an_autoregression_is_the_known_one(phi: float) -> None:
    random_ = random.Random(7)
    n = 2000
    sizes = [stats.effective_sample_size(ar1(random_, n, phi)) for _ in range(20)]
    assert stats.mean(sizes) == pytest.approx(n * (1 - phi) / (1 + phi), rel=0.12)


def test_values_that_alternate_count_no_more_than_their_number() -> None:
    assert stats.effective_sample_size([1.0, -1.0] * 50) == 100
    assert stats.effective_sample_size(ar1(random.Random(1), 500, -0.6)) == 500


def test_a_single_step_from_one_level_to_another_is_worth_few_values() -> None:
    assert stats.effective_sample_size([1.0] * 50 + [2.0] * 50) < 5


@pytest.mark.parametrize("values", [[3.0], [1.0, 2.0, 3.0], [5.0] * 40, [0.0] * 40])
def test_short_and_constant_series_count_whole(values: list[float]) -> None:
    assert stats.effective_sample_size(values) == len(values)


@given(st.lists(st.floats(0, 1e12), min_size=1, max_size=80))
def test_the_effective_size_is_between_one_and_the_number(values: list[float]) -> None:
    assert 1 <= stats.effective_sample_size(values) <= len(values)


# --- intervals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [*range(6, 60), 100, 333, 1000, 4321])
def test_the_ranks_of_the_medians_interval_carry_95_percent_exactly(n: int) -> None:
    values = sorted(range(n), key=lambda rank: (min(rank, n - 1 - rank), rank))  # 0, n-1, 1, n-2, ...
    assert stats.effective_sample_size(values) == n  # nothing is widened
    low, high = stats.median_interval(values)
    assert low + high == n - 1  # symmetric
    # The share of samples whose order statistics `low` and `high` enclose the median.
    covered = 1 - 2 * scipy.stats.binom.cdf(low, n, 0.5)
    assert covered >= 0.95
    assert n > 200 or 1 - 2 * scipy.stats.binom.cdf(low + 2, n, 0.5) < 0.95  # nor much too wide


def test_six_values_are_the_fewest_that_carry_a_medians_interval() -> None:
    assert stats.median_interval([1.0, 2.0, 1.5, 3.0, 2.5]) == INFINITE
    assert stats.median_interval([3.0, 1.0, 5.0, 2.0, 6.0, 4.0]) == (1.0, 6.0)


def test_the_means_interval_is_students() -> None:
    values = [9.1, 10.4, 9.7, 10.9, 9.9]
    expected = scipy.stats.t.interval(0.95, 4, loc=stats.mean(values), scale=scipy.stats.sem(values))
    assert stats.mean_interval(values, independent=True) == pytest.approx(expected, rel=1e-4)


def test_correlated_values_get_a_wider_interval_than_independent_ones() -> None:
    values = ar1(random.Random(3), 200, 0.8)
    narrow, wide = stats.mean_interval(values, independent=True), stats.mean_interval(values)
    assert wide[1] - wide[0] > 2 * (narrow[1] - narrow[0])


# 400 rounds: one standard error is a percentage point.
@pytest.mark.parametrize(
    ("n", "phi", "at_least"), [(12, 0.0, 0.92), (100, 0.0, 0.92), (100, 0.5, 0.90), (300, 0.8, 0.90)]
)
@pytest.mark.parametrize("interval", [stats.mean_interval, stats.median_interval])
def test_intervals_cover_the_truth_about_as_often_as_they_say(
    interval: Callable[[Sequence[float]], tuple[float, float]], n: int, phi: float, at_least: float
) -> None:
    assert coverage(interval, n, phi) >= at_least


def test_without_widening_correlated_values_would_be_trusted_too_much() -> None:
    assert coverage(lambda v: stats.mean_interval(v, independent=True), 100, 0.8) < 0.7


@pytest.mark.parametrize("values", [[], [1.0]])
def test_fewer_than_two_values_have_no_interval(values: list[float]) -> None:
    assert stats.mean_interval(values) == INFINITE
    assert stats.median_interval(values) == INFINITE


@pytest.mark.parametrize("constant", [0.0, 5.0])
def test_equal_values_have_an_interval_of_no_width(constant: float) -> None:
    assert stats.mean_interval([constant] * 20) == (constant, constant)
    assert stats.median_interval([constant] * 20) == (constant, constant)


@pytest.mark.parametrize(
    ("interval", "centre", "expected"),
    [
        ((9.0, 11.0), 10.0, 0.1),
        ((10.0, 10.0), 10.0, 0.0),
        (INFINITE, 10.0, math.inf),
        ((-1.0, 1.0), 0.0, math.inf),
        ((-3.0, -1.0), -2.0, math.inf),
    ],
)
def test_the_half_width_is_a_share_of_a_positive_centre(
    interval: tuple[float, float], centre: float, expected: float
) -> None:
    assert stats.relative_half_width(interval, centre) == pytest.approx(expected)
