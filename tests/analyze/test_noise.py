"""The trimmed mean of rounds, and its error."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from benchbox.analyze.noise import LEAST_TRIMMED, Sample, of_rounds, spread_of


def of(values: np.ndarray, num_trimmed: int = 0) -> Sample:
    return Sample(tuple(values.tolist()), 0.0, num_trimmed)


@pytest.mark.parametrize("num_values", [10, 23, 40])
def test_the_error_of_a_trimmed_mean_is_yuens(num_values: int) -> None:
    one, other = np.random.default_rng(1).standard_t(2, (2, num_values))
    sides = of(one, num_values // 5), of(other, num_values // 5)
    spread = spread_of(sides)
    assert spread is not None
    error = math.sqrt(sum(side.variance() / num_values for side in sides))
    expected = scipy.stats.ttest_ind(one, other, equal_var=False, trim=0.2)
    assert (sides[0].centre() - sides[1].centre()) / error == pytest.approx(expected.statistic)
    assert spread.unequal_degrees_of_freedom == pytest.approx(expected.df)
    assert math.sqrt(spread.variance * spread.scale) == pytest.approx(error)


def test_a_few_disturbed_rounds_move_neither_the_centre_nor_its_error() -> None:
    base, new = 0.01 * np.random.default_rng(2).standard_normal((2, 20))
    calm, disturbed = (
        of_rounds(of(base), of(side), trimmed=True) for side in (new, new + 9.0 * (np.arange(20) < 4))
    )
    assert abs(disturbed.centre() - calm.centre()) < 0.01
    assert disturbed.variance() < 4 * calm.variance()


def test_few_rounds_all_count() -> None:
    base, new = np.random.default_rng(3).standard_normal((2, LEAST_TRIMMED - 1))
    rounds = of_rounds(of(base), of(new), trimmed=True)
    assert rounds.centre() == pytest.approx(np.mean(new - base))
    assert rounds.variance() == pytest.approx(np.var(new - base, ddof=1))
    assert rounds.degrees_of_freedom() == LEAST_TRIMMED - 2
