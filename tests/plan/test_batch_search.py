"""Which batch sizes are tried, and what that comes to; and what is searched for at all."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from benchbox.plan.batch_search import Search
from benchbox.plan.configurations import configurations, with_batch_size
from benchbox.plan.suite import case_id
from benchbox.schema import MeasureSettings, Suite
from tests.factories import make_case


def search(
    limit: int, start: int, cap: int | None = None, precision_pct: float = 0
) -> tuple[Search, list[int]]:
    """A whole search where batches up to ``limit`` fit; and the batches tried."""
    found, tried = Search(start, cap, precision_pct), []
    while (batch_size := found.next()) is not None:
        tried.append(batch_size)
        found.tell(batch_size, fits=batch_size <= limit)
    return found, tried


@pytest.mark.parametrize(
    ("limit", "start", "cap", "precision_pct", "tried", "largest", "failing", "end"),
    [
        (11, 4, None, 0, [4, 8, 16, 12, 10, 11], 11, 12, "precision"),
        (11, 4, None, 20, [4, 8, 16, 12, 10], 10, 12, "precision"),
        (100, 4, 20, 0, [4, 8, 16, 20], 20, None, "cap"),
        (100, 64, 32, 0, [32], 32, None, "cap"),
        (2, 32, None, 0, [32, 1, 16, 8, 4, 2, 3], 2, 3, "precision"),
        (0, 32, None, 0, [32, 1], None, 1, "nothing-fits"),
        (0, 1, None, 0, [1], None, 1, "nothing-fits"),
    ],
)
def test_sizes_double_until_one_fails_and_then_halve_the_gap(
    limit: int,
    start: int,
    cap: int | None,
    precision_pct: float,
    tried: list[int],
    largest: int | None,
    failing: int | None,
    end: str,
) -> None:
    found, made = search(limit, start, cap, precision_pct)
    assert made == tried
    assert (found.largest, found.smallest_failing, found.end) == (largest, failing, end)


@given(
    limit=st.integers(0, 10**6),
    start=st.integers(1, 10**4),
    cap=st.none() | st.integers(1, 10**6),
    precision_pct=st.floats(0, 100),
)
@example(limit=1, start=1, cap=None, precision_pct=0.0)
def test_the_answer_is_within_the_precision_and_soon_there(
    limit: int, start: int, cap: int | None, precision_pct: float
) -> None:
    found, tried = search(limit, start, cap, precision_pct)
    answer = limit if cap is None else min(limit, cap)
    largest = found.largest or 0
    assert largest <= answer <= largest + max(1, largest * precision_pct / 100)
    assert len(set(tried)) == len(tried) <= 2 * math.log2(max(answer, start) + 1) + 4
    assert all(cap is None or batch_size <= cap for batch_size in tried)
    if found.smallest_failing is not None:
        assert limit < found.smallest_failing


def test_configurations_are_cases_without_their_batch_size() -> None:
    cases = [
        make_case(precision=precision, per_device_batch_size=batch_size)
        for batch_size in (64, 16, 32)
        for precision in ("fp32", "bf16")
    ]
    suite = Suite(name="s", cases=tuple(cases), measure=MeasureSettings(), order_seed=0)
    assert [(c.precision, c.per_device_batch_size) for c in configurations(suite)] == [
        ("fp32", 16),
        ("bf16", 16),
    ]


def test_a_case_with_another_batch_size_has_the_id_that_it_would_have_in_a_suite() -> None:
    case = with_batch_size(make_case(), 48)
    assert case.per_device_batch_size == 48
    assert case.case_id == case_id(case)
    assert with_batch_size(case, 49).case_id != case.case_id
