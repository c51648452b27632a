"""Efficiency against one device, against values computed by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchbox.analyze.scaling import scaling_of
from benchbox.analyze.summary import summarize_case
from benchbox.schema import CaseResult, Scaling
from tests.factories import make_attempt, make_case, make_rank

MS = 1_000_000


def measured(*step_ms: float, **changes: Any) -> CaseResult:
    """A case with one attempt for each step time."""
    case = make_case(**changes)
    attempts = tuple(
        make_attempt(case, n, *(make_rank([round(ms * MS)] * 10, rank=r) for r in range(case.world_size)))
        for n, ms in enumerate(step_ms)
    )
    return CaseResult(
        case=case,
        outcome="ok",
        reason=None,
        attempts=attempts,
        summary=summarize_case(case, attempts, None),
    )


def scaling(result: CaseResult, *others: CaseResult) -> Scaling:
    (found, *_) = scaling_of([result, *others])
    assert found is not None
    return found


def test_weak_scaling_holds_the_batch_of_each_device() -> None:
    single = measured(10)  # 32 samples in 10 ms
    ddp = measured(12.5, strategy="ddp", world_size=4)  # 128 in 12.5 ms
    found = scaling(ddp, single)
    assert found.weak_efficiency == pytest.approx(0.8)
    assert found.weak_baseline_case_id == single.case.case_id
    assert (found.strong_efficiency, found.strong_baseline_case_id) == (None, None)
    assert found.strong_efficiency_interval is None


def test_strong_scaling_holds_the_global_batch() -> None:
    single = measured(20, per_device_batch_size=128)
    ddp = measured(8, strategy="ddp", world_size=4)  # 2.5 times as fast on four devices
    found = scaling(ddp, single)
    assert found.strong_efficiency == pytest.approx(2.5 / 4)
    assert found.strong_baseline_case_id == single.case.case_id
    assert found.weak_efficiency is None


@pytest.mark.parametrize(
    "change",
    [
        {"precision": "bf16"},
        {"gradient_checkpointing": True},
        {"seed": 1},
        {"compile": True},
        {"data": "host"},
    ],
)
def test_a_baseline_is_equal_in_all_but_strategy_and_world_size(change: dict[str, Any]) -> None:
    ddp = measured(12.5, strategy="ddp", world_size=4)
    others = [measured(10, **change), measured(20, per_device_batch_size=128, **change)]
    assert scaling(ddp, *others) == Scaling()


def test_single_is_preferred_and_another_strategy_never_taken() -> None:
    ddp = measured(12.5, strategy="ddp", world_size=4)
    single, own = measured(10), measured(11, strategy="ddp")
    other = measured(9, strategy="zero1")
    assert scaling(ddp, other, own, single).weak_baseline_case_id == single.case.case_id
    assert scaling(ddp, other, own).weak_baseline_case_id == own.case.case_id
    assert scaling(ddp, other).weak_baseline_case_id is None


def test_a_single_without_figures_is_no_baseline() -> None:
    ddp = measured(12.5, strategy="ddp", world_size=4)
    case = make_case()
    oom = CaseResult(case=case, outcome="oom", reason="too large", attempts=(), summary=None)
    own = measured(11, strategy="ddp")
    assert scaling(ddp, oom, own).weak_baseline_case_id == own.case.case_id


def test_of_equal_global_batches_the_one_with_as_much_accumulation_counts() -> None:
    ddp = measured(8, strategy="ddp", world_size=2, gradient_accumulation_steps=2)
    whole = measured(20, per_device_batch_size=128)
    halves = measured(21, per_device_batch_size=64, gradient_accumulation_steps=2)
    quarters = measured(22, per_device_batch_size=32, gradient_accumulation_steps=4)
    assert scaling(ddp, quarters, whole, halves).strong_baseline_case_id == halves.case.case_id
    assert scaling(ddp, quarters, whole).strong_baseline_case_id == whole.case.case_id


def test_one_device_and_no_figures_have_no_scaling() -> None:
    single, zero = measured(10), measured(11, strategy="zero1")
    failed = CaseResult(
        case=make_case(strategy="zero3", world_size=2),
        outcome="oom",
        reason="too large",
        attempts=(),
        summary=None,
    )
    assert scaling_of([single, zero, failed]) == [None, None, None]


def test_the_interval_adds_both_on_the_log_scale() -> None:
    single, ddp = measured(10, 11, 12), measured(12, 12.5, 13, strategy="ddp", world_size=2)
    halves = []
    for result in (single, ddp):
        assert result.summary is not None
        interval = result.summary.samples_per_second_interval
        assert interval is not None
        halves.append(math.log(interval.high / interval.low) / 2)
    found = scaling(ddp, single)
    assert found.weak_efficiency is not None
    assert found.weak_efficiency_interval is not None
    stretch = math.exp(math.sqrt(halves[0] ** 2 + halves[1] ** 2))
    assert found.weak_efficiency_interval.low == pytest.approx(found.weak_efficiency / stretch)
    assert found.weak_efficiency_interval.high == pytest.approx(found.weak_efficiency * stretch)


@given(
    st.lists(st.floats(min_value=1, max_value=100), min_size=2, max_size=4),
    st.sampled_from([2, 4, 8]),
    st.floats(min_value=0.5, max_value=4),
)
def test_equal_steps_are_ideal_and_slower_ones_in_proportion(
    step_ms: list[float], world_size: int, slower: float
) -> None:
    single = measured(*step_ms)
    alike = measured(*step_ms, strategy="ddp", world_size=world_size)
    late = measured(*(ms * slower for ms in step_ms), strategy="zero1", world_size=world_size)
    found = scaling_of([single, alike, late])
    assert found[1] is not None
    assert found[2] is not None
    assert found[1].weak_efficiency == pytest.approx(1)
    assert found[2].weak_efficiency == pytest.approx(1 / slower, rel=1e-5)
    for one in found[1:]:
        assert one is not None
        if one.weak_efficiency_interval is not None:
            assert one.weak_efficiency is not None
            assert (
                one.weak_efficiency_interval.low <= one.weak_efficiency <= one.weak_efficiency_interval.high
            )
