"""The order in which attempts run."""

from __future__ import annotations

from msgspec.structs import replace

from benchbox.measure.order import rounds
from tests.factories import make_case, make_suite

SUITE = make_suite([make_case(per_device_batch_size=size) for size in range(1, 13)], repetitions=5)


def test_the_same_seed_gives_the_same_order() -> None:
    assert rounds(SUITE) == rounds(SUITE)


def test_another_seed_gives_another_order() -> None:
    assert rounds(SUITE) != rounds(replace(SUITE, order_seed=1))


def test_each_round_holds_each_case_once() -> None:
    order = rounds(SUITE)
    assert len(order) == 5
    for cases in order:
        assert sorted(case.case_id for case in cases) == sorted(case.case_id for case in SUITE.cases)


def test_rounds_differ_from_each_other_and_from_the_suite() -> None:
    order = [tuple(case.case_id for case in cases) for cases in rounds(SUITE)]
    assert len({*order, tuple(case.case_id for case in SUITE.cases)}) == 6


def test_more_repetitions_keep_the_order_of_the_first_ones() -> None:
    longer = replace(SUITE, measure=replace(SUITE.measure, repetitions=8))
    assert rounds(longer)[:5] == rounds(SUITE)
