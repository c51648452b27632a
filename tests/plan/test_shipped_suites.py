"""What the shipped suites for several devices promise."""

from __future__ import annotations

from typing import get_args

import pytest

from benchbox.plan.suite import find_suite, load_suite
from benchbox.schema import Case, Strategy


def cases_of(name: str) -> tuple[Case, ...]:
    return load_suite(find_suite(name)).cases


@pytest.mark.parametrize(("name", "world_sizes"), [("zero", {1, 2}), ("zero-reference", {1, 2, 4, 8})])
def test_every_strategy_on_every_number_of_devices(name: str, world_sizes: set[int]) -> None:
    for strategy in get_args(Strategy):
        for precision in ("fp32", "bf16"):
            found = {
                c.world_size for c in cases_of(name) if (c.strategy, c.precision) == (strategy, precision)
            }
            assert found == ({1} if strategy == "single" else world_sizes)


@pytest.mark.parametrize("name", ["zero", "zero-reference", "scaling"])
def test_every_case_on_several_devices_has_a_baseline_for_weak_and_for_strong_scaling(name: str) -> None:
    cases = cases_of(name)
    alone = {(case.precision, case.global_batch_size) for case in cases if case.strategy == "single"}
    for case in cases:
        assert (case.precision, case.global_batch_size) in alone
        assert (case.precision, case.global_batch_size // case.world_size) in alone


def test_one_device_also_takes_the_very_micro_batches_of_two() -> None:
    (alike,) = [case for case in cases_of("zero") if case.gradient_accumulation_steps == 2]
    on_two = {case.global_batch_size for case in cases_of("zero") if case.world_size == 2}
    assert on_two == {alike.global_batch_size}
    assert alike.per_device_batch_size == 32
