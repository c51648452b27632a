from __future__ import annotations

import datetime
import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from benchbox.analyze import plan_rank
from benchbox.analyze.plan import plan
from benchbox.analyze.plan_memory import need
from benchbox.analyze.plan_sources import measured_cases
from benchbox.errors import BadInputError
from benchbox.plan.hardware import load_profiles
from benchbox.plan.plan_file import checked_job
from benchbox.report.plan_view import configuration_label, plan_answers
from benchbox.schema import (
    AllReduceCeiling,
    BatchSplit,
    CaseResult,
    Ceilings,
    Configuration,
    DevicePrice,
    Flops,
    Interval,
    OperatorTime,
    PhaseTimes,
    PlanJob,
    PlanResult,
    PrecisionCeiling,
    Prices,
    ProfiledStep,
    Report,
    Strategy,
)
from tests.plans import report, result, simple_report
from tests.tables import profile

PROFILES = load_profiles([])
PRICES = Prices(
    currency="EUR",
    date=datetime.date(2026, 1, 5),
    electricity_per_kwh=0.3,
    grid_g_co2_per_kwh=400,
    host_w_per_device=100,
    power_usage_effectiveness=1.2,
    device=(
        DevicePrice(name="A100-SXM4-80GB", per_hour=2.0),
        DevicePrice(name="h100 sxm5 80gb", per_hour=4.0),
        DevicePrice(name="L40S", purchase=8000, host_share=2000, lifetime_years=4, utilization=0.5),
    ),
)


def run(*reports: Report, prices: Prices | None = None, top: int = 100, **job: Any) -> PlanResult:
    given_job = {"samples": 1_000_000, "targets": ("A100-SXM4-80GB", "H100-SXM5-80GB"), "counts": (1,)} | job
    checked, samples, deadline_s = checked_job(PlanJob(**given_job))
    return plan(reports or (simple_report(),), checked, samples, deadline_s, prices, PROFILES, top)


def find(plan_result: PlanResult, **wanted: Any) -> Configuration:
    found = [
        one
        for one in plan_result.configurations
        if all(getattr(one, name) == value for name, value in wanted.items())
    ]
    assert len(found) == 1, (wanted, len(found))
    return found[0]


def test_what_was_measured_is_given_exactly() -> None:
    rate = 1000 / 3
    one = find(
        run(simple_report(rates={32: rate, 64: 500.0})), device="A100-SXM4-80GB", per_device_batch_size=32
    )
    assert one.samples_per_second.value == rate
    assert one.basis == "measured"
    assert one.time_s.value == 1_000_000 / rate
    assert one.samples_per_second.low < rate < one.samples_per_second.high
    # The report's interval is one of 95 %.
    assert one.samples_per_second.low > rate * 0.98


def test_another_device_is_foretold_between_its_ratios() -> None:
    """H100 over A100: 2.9 by reachable matrix products, 1.6 by bandwidth and by multiprocessors."""
    one = find(run(), device="H100-SXM5-80GB", per_device_batch_size=64)
    assert one.basis == "predicted"
    assert 1500 < one.samples_per_second.value < 3000
    assert one.samples_per_second.high / one.samples_per_second.low > 1.15


def test_the_target_does_not_enter_its_own_prediction_and_is_not_predicted_when_measured() -> None:
    both = run(simple_report(), simple_report("H100-SXM5-80GB", {64: 777.0}))
    assert find(both, device="H100-SXM5-80GB", per_device_batch_size=64).samples_per_second.value == 777.0
    foretold = find(both, device="H100-SXM5-80GB", per_device_batch_size=32)
    assert (
        foretold.samples_per_second
        == find(run(), device="H100-SXM5-80GB", per_device_batch_size=32).samples_per_second
    )


def test_a_second_source_narrows_the_interval() -> None:
    def width(*reports: Report) -> float:
        one = find(run(*reports, targets=("L40S",)), per_device_batch_size=64).samples_per_second
        return math.log(one.high / one.low)

    assert width(simple_report(), simple_report("H100-SXM5-80GB", {32: 1700.0, 64: 2050.0})) < width(
        simple_report()
    )


def test_two_batch_sizes_are_required_and_their_absence_is_said() -> None:
    with pytest.raises(BadInputError, match=r"one batch size only.*second batch size"):
        run(simple_report(rates={64: 1000.0}), targets=("H100-SXM5-80GB",))
    mixed = run(simple_report(rates={64: 1000.0}))
    assert [one.device for one in mixed.configurations] == ["A100-SXM4-80GB"]
    assert "one batch size only" in mixed.refused[0].reason


def test_a_batch_split_within_the_case_stands_for_a_second_batch() -> None:
    split = BatchSplit(
        half_batch_size=32,
        num_steps=20,
        full_step_time_ns=64_000_000,
        half_step_time_ns=35_000_000,
        fixed_ns=6_000_000,
        fixed_interval_ns=Interval(low=5e6, high=7e6),
        per_sample_ns=900_000,
        per_sample_interval_ns=Interval(low=8e5, high=1e6),
    )
    case = result(1000.0, per_device_batch_size=64, precision="bf16", rank={"batch_split": split})
    assert find(run(report("A100-SXM4-80GB", case)), device="H100-SXM5-80GB").basis == "predicted"


def test_a_profiled_step_tells_what_another_device_speeds_up() -> None:
    def rate(compute_ns: int) -> float:
        profiled = ProfiledStep(
            step_time_ns=100,
            operators=(
                OperatorTime(operator_class="matmul", num_calls=1, time_ns=compute_ns),
                OperatorTime(operator_class="activation", num_calls=1, time_ns=100 - compute_ns),
            ),
        )
        cases = [
            result(r, per_device_batch_size=b, precision="bf16", rank={"profile": profiled})
            for b, r in ((32, 800.0), (64, 1000.0))
        ]
        plan_result = run(report("A100-SXM4-80GB", *cases))
        return find(plan_result, device="H100-SXM5-80GB", per_device_batch_size=64).samples_per_second.value

    assert rate(90) > 1.15 * rate(10)


def test_waiting_for_input_is_not_shortened() -> None:
    def rate(waiting_ns: int) -> float:
        phases = PhaseTimes(
            num_steps=5,
            input_wait_ns=waiting_ns,
            host_to_device_ns=0,
            forward_ns=30_000_000,
            backward_ns=60_000_000,
            optimizer_ns=10_000_000,
        )
        plan_result = run(simple_report(rank={"phases": phases}))
        return find(plan_result, device="H100-SXM5-80GB", per_device_batch_size=64).samples_per_second.value

    assert rate(900_000_000) < 1150 < rate(0)


def test_no_rate_is_above_the_roofline() -> None:
    case_flops = 10**13  # an A100 would need 30 ms a sample
    cases = []
    for b, r in ((32, 29.0), (64, 30.0)):
        one = result(r, per_device_batch_size=b, precision="bf16")
        assert one.summary is not None
        cases.append(replace(one, summary=replace(one.summary, model_flops_per_step=case_flops * b)))
    plan_result = run(report("A100-SXM4-80GB", *cases), targets=("RTX 4090",))
    peak = profile("RTX 4090").peak_dense_tflops.bf16
    assert peak is not None
    for one in plan_result.configurations:
        assert one.samples_per_second.value <= peak * 1e12 / case_flops * 1.0001


def test_costs_of_rent_and_of_purchase() -> None:
    priced = run(prices=PRICES, targets=("A100-SXM4-80GB", "L40S"))
    rented = find(priced, device="A100-SXM4-80GB", per_device_batch_size=64)
    assert rented.cost is not None
    assert rented.cost.value == pytest.approx(1000 / 3600 * 2.0)
    assert rented.energy_j is not None
    assert rented.energy_j.value == pytest.approx(1000 * (500 + 100) * 1.2)
    assert rented.carbon_g is not None
    assert rented.carbon_g.value == pytest.approx(1000 * 600 * 1.2 / 3.6e6 * 400)
    bought = find(priced, device="L40S", per_device_batch_size=64)
    assert bought.cost is not None
    assert bought.energy_j is not None
    hours = bought.time_s.value / 3600
    electricity = bought.energy_j.value / 3.6e6 * 0.3
    assert bought.cost.value == pytest.approx(10_000 / (4 * 8766 * 0.5) * hours + electricity)


def test_a_sample_takes_the_joules_that_the_report_says() -> None:
    one = run(
        simple_report(joules_per_sample=0.4, power_w=500.0), targets=("A100-SXM4-80GB",)
    ).configurations[0]
    assert one.energy_j is not None
    assert one.energy_j.value == pytest.approx(1_000_000 * 0.4)


def test_what_is_bought_has_no_cost_while_its_electricity_cannot_be_told() -> None:
    bought = DevicePrice(name="GH200-96GB", purchase=30_000, lifetime_years=4, utilization=0.6)
    assert profile("GH200-96GB").tdp_w is None

    def planned(prices: Prices, *devices: DevicePrice) -> PlanResult:
        return run(prices=replace(prices, device=devices), targets=("GH200-96GB", "L40S"))

    without = planned(PRICES, bought, *PRICES.device)
    assert find(without, device="GH200-96GB", per_device_batch_size=64).cost is None
    assert any("No cost for GH200-96GB: bought" in note for note in without.notes)
    free = find(
        planned(replace(PRICES, electricity_per_kwh=None), bought),
        device="GH200-96GB",
        per_device_batch_size=64,
    )
    told = planned(PRICES, replace(bought, power_w=900.0))
    paid = find(told, device="GH200-96GB", per_device_batch_size=64)
    assert not any("No cost for" in note for note in told.notes)
    assert free.cost is not None
    assert paid.cost is not None
    assert paid.energy_j is not None
    kwh = paid.energy_j.value / 3.6e6
    assert kwh == pytest.approx(1.0 * 1.2 * paid.time_s.value / 3600)  # 900 W and 100 W of the host
    assert paid.cost.value == pytest.approx(free.cost.value + 0.3 * kwh)


def test_prices_that_are_missing_or_mean_no_device_are_named() -> None:
    slips = (DevicePrice(name="H100", per_hour=1.0), DevicePrice(name="L40SS", per_hour=1.0))
    said = run(
        prices=replace(PRICES, device=(*PRICES.device[2:], *slips)),
        targets=("A100-SXM4-80GB", "L40S"),
        budget=5.0,
    ).notes
    assert "No price for A100-SXM4-80GB, and the budget says nothing of them." in said
    assert any(note.startswith("The price of 'H100' is not used: the name fits several") for note in said)
    assert any("'L40SS' is not used: no hardware profile; nearest: L40S" in note for note in said)
    many = run(prices=replace(PRICES, device=tuple(replace(slips[1], name=f"X{n}") for n in range(9)))).notes
    assert sum(note.startswith("The price of") for note in many) == 3
    assert "Nor are 6 more prices." in many
    assert any("to buy 1 × L40S takes 10,000 EUR" in note for note in said)
    assert not any("price" in note or "to buy" in note for note in run(prices=PRICES).notes)


def test_without_prices_there_is_no_cost_and_without_a_grid_no_carbon() -> None:
    one = run().configurations[0]
    assert (one.cost, one.carbon_g, one.on_front) == (None, None, False)
    assert run().cheapest is None
    no_grid = run(prices=replace(PRICES, grid_g_co2_per_kwh=None))
    assert all(one.carbon_g is None for one in no_grid.configurations)


def test_the_front_is_what_nothing_beats() -> None:
    priced = run(prices=PRICES, targets=(), counts=(1, 2, 4, 8))
    entries = [one for one in priced.configurations if one.cost]
    front = [priced.configurations[place] for place in priced.front]
    assert front
    assert [one for one in priced.configurations if one.on_front] == sorted(
        front, key=priced.configurations.index
    )
    for one in entries:
        beaten = any(
            other.cost.value <= one.cost.value
            and other.time_s.value <= one.time_s.value
            and (other.cost.value, other.time_s.value) != (one.cost.value, one.time_s.value)
            for other in entries
        )
        assert one.on_front != beaten
    times = [one.time_s.value for one in front]
    assert times == sorted(times)
    assert priced.configurations[priced.cheapest].cost.value == min(one.cost.value for one in entries)
    assert front[0].time_s.value == min(one.time_s.value for one in entries)


def test_deadline_and_budget_are_answered_with_what_would_be_enough() -> None:
    late = run(prices=PRICES, deadline="5m", budget=0.01)
    assert late.deadline_answer is not None
    assert late.deadline_answer.verdict == "no"
    assert late.deadline_answer.enough == min(one.time_s.high for one in late.configurations)
    assert late.budget_answer is not None
    assert late.budget_answer.verdict == "no"
    assert late.both_answer == "no"
    in_time = run(prices=PRICES, deadline="2h", budget=100.0)
    assert in_time.deadline_answer is not None
    assert in_time.deadline_answer.verdict == "yes"
    assert in_time.both_answer == "yes"
    assert all(one.meets_deadline == "yes" for one in in_time.configurations)
    enough = run(prices=PRICES, deadline=f"{late.deadline_answer.enough + 0.001:.3f}s")
    assert enough.deadline_answer is not None
    assert enough.deadline_answer.verdict == "yes"


def test_where_one_limit_has_to_give_the_plan_says_how_far() -> None:
    """Each limit can be kept, both together cannot."""

    def planned(deadline: float, budget: float, top: int = 100) -> PlanResult:
        return run(prices=PRICES, counts=(1, 2, 4, 8), deadline=f"{deadline:.3f}s", budget=budget, top=top)

    free = run(prices=PRICES, counts=(1, 2, 4, 8)).configurations
    cheapest = min(free, key=lambda one: one.cost.high)
    fastest = min(free, key=lambda one: one.time_s.high)
    deadline, budget = fastest.time_s.high * 1.01, cheapest.cost.high * 1.01
    apart = planned(deadline, budget)
    assert (apart.deadline_answer.verdict, apart.budget_answer.verdict) == ("yes", "yes")
    assert apart.both_answer != "yes"
    in_time = apart.configurations[apart.cheapest_in_time]
    in_budget = apart.configurations[apart.fastest_in_budget]
    assert in_time.meets_deadline == in_budget.within_budget == "yes"
    assert any("would be enough (8 × H100" in line for line in plan_answers(apart))
    for enough in (planned(deadline, in_time.cost.high), planned(in_budget.time_s.high + 0.001, budget)):
        assert enough.both_answer == "yes"
    unpriced = run(prices=replace(PRICES, device=PRICES.device[2:]), deadline="20m", budget=1.0)
    assert any(
        "; nothing that has a price surely keeps the deadline" in line for line in plan_answers(unpriced)
    )


def pool_of(time_s: list[float], cost: list[float], *, fast: list[float]) -> plan_rank.Pool:
    """Two that fit; ``fast`` is how far each interval reaches to the better side, 0.1 to the other."""
    slow, quick = np.array([0.1, 0.1]), np.array(fast)
    return plan_rank.Pool(
        time_s=plan_rank.Spread(np.array(time_s), slow, quick),
        cost=plan_rank.Spread(np.array(cost), slow, quick),
        fits=np.ones(2),
        place=np.arange(2),
    )


def test_what_may_keep_both_limits_ranks_before_what_breaks_one() -> None:
    """Else cheaper ones that surely come late could push it off the list that the answer is read from."""
    late_and_cheap, near_both = 0, 1
    pool = pool_of([100.0, 10.0], [1.0, 10.0], fast=[0.1, 0.1])
    assert plan_rank.best_first(pool, 10.0, 10.0, 2) == [near_both, late_and_cheap]


def test_what_the_roofline_keeps_from_the_deadline_ranks_as_late() -> None:
    """Without it the first, which is cheaper, would perhaps be in time."""
    at_the_roofline, near = 0, 1
    pool = pool_of([10.5, 10.5], [1.0, 2.0], fast=[0.0, 0.1])
    assert plan_rank.best_first(pool, 10.0, None, 2) == [near, at_the_roofline]


def test_what_may_not_fit_in_memory_keeps_no_limit_for_sure() -> None:
    """An H100 that is fast enough, but that 70 of 80 GiB may be too little for."""
    source = simple_report(peak_bytes=70 * 2**30)
    free = run(source, prices=PRICES)
    fastest = free.configurations[free.fastest]
    assert (fastest.device, fastest.fits_memory) == ("H100-SXM5-80GB", None)
    assert any("if it fits in memory" in line for line in plan_answers(free))
    limits = {"deadline": f"{fastest.time_s.high + 1:.3f}s", "budget": 100.0}
    planned = run(source, prices=PRICES, **limits)
    assert planned.deadline_answer.verdict == planned.both_answer == "maybe"
    measured = find(planned, basis="measured", per_device_batch_size=64)
    assert planned.deadline_answer.enough == measured.time_s.high
    fits = run(simple_report(), prices=PRICES, **limits)
    assert fits.deadline_answer.verdict == fits.both_answer == "yes"


def test_a_deadline_within_the_interval_is_perhaps_kept() -> None:
    fastest = run().configurations[run().fastest].time_s
    maybe = run(deadline=f"{fastest.value:.3f}s")
    assert maybe.deadline_answer is not None
    assert maybe.deadline_answer.verdict == "maybe"


def test_a_sure_configuration_answers_for_an_uncertain_faster_one() -> None:
    """The measured A100 surely keeps a deadline that the foretold, faster H100 need not keep."""
    first = run()
    measured = find(first, basis="measured", per_device_batch_size=64).time_s
    foretold = find(first, basis="predicted", per_device_batch_size=64).time_s
    assert foretold.value < measured.value
    kept = run(deadline=f"{measured.high + 0.01:.2f}s")
    assert kept.deadline_answer is not None
    assert kept.deadline_answer.verdict == "yes"
    assert kept.deadline_answer.enough == min(one.time_s.high for one in kept.configurations)


def test_what_keeps_the_deadline_ranks_before_what_is_cheaper() -> None:
    ranked = run(prices=PRICES, deadline="15m", counts=(1, 2, 4)).configurations
    kept = [one.meets_deadline for one in ranked]
    assert kept == sorted(kept, key=("yes", "maybe", "no").index)
    assert len(set(kept)) > 1


def test_memory() -> None:
    large = simple_report(peak_bytes=60 * 2**30)
    plan_result = run(large, targets=("L40S", "H100-SXM5-80GB"))
    assert {one.device for one in plan_result.configurations} == {"H100-SXM5-80GB"}
    assert "does not fit in memory" in [entry.reason for entry in plan_result.refused]
    assert all(one.fits_memory for one in plan_result.configurations)
    near = run(simple_report(peak_bytes=46 * 2**30), targets=("L40S",))
    assert {one.fits_memory for one in near.configurations} == {None}


FLOPS = Flops(model_flops_per_step=1, hardware_flops_per_step=1, num_parameters=3_000_000_000)


def sharded(strategy: Strategy, world_size: int = 2, **changes: Any) -> Report:
    """A model of three billion parameters whose step peaks at 60 GiB on one device."""
    fields: dict[str, Any] = {"precision": "bf16", "rank": {"flops": FLOPS}} | changes
    cases = [
        result(rate, per_device_batch_size=batch, peak_bytes=60 * 2**30, **fields)
        for batch, rate in ((4, 10.0), (8, 12.0))
    ]
    several = result(
        20.0, per_device_batch_size=8, strategy=strategy, world_size=world_size, peak_bytes=None, **fields
    )
    assert several.summary is not None
    unknown = replace(several.summary, peak_memory_reserved_bytes=None)
    return report("H100-SXM5-80GB", *cases, replace(several, summary=unknown))


def test_a_strategy_that_shards_fits_where_one_device_does_not() -> None:
    def fitting(strategy: Strategy) -> set[int]:
        plan_result = run(sharded(strategy), targets=("H100-SXM5-80GB", "L40S"), counts=(1, 2, 4, 8))
        too_large = next((e for e in plan_result.refused if e.reason == "does not fit in memory"), None)
        assert too_large is not None
        assert "L40S" in too_large.example
        return {one.count for one in plan_result.configurations if one.device == "L40S" and one.fits_memory}

    assert fitting("ddp") == set()
    assert fitting("zero1") == {8}
    assert fitting("zero3") == {4, 8}
    assert fitting("fsdp2") == {4, 8}


def test_memory_by_formula_is_that_of_the_documentation() -> None:
    """Of 60 GiB, 48 GB are states; stage 3 divides 20 bytes a parameter, and has a bucket of 1 GB."""
    source = measured_cases([sharded("zero3")])[0]
    own = need([], "zero3", 4, source, "L40S")
    assert own.fixed == 60 * 2**30 - 16 * 3e9 + 2 * 5e8
    assert own.divided == 20 * 3e9
    assert own.known == {1: (60 * 2**30, 60 * 2**30 * 1.1)}


def test_what_ran_or_was_measured_so_goes_before_the_formula() -> None:
    known = replace(sharded("ddp").cases[2])
    assert known.summary is not None
    small = replace(known, summary=replace(known.summary, device_memory_used_bytes=30 * 2**30))
    source = sharded("ddp")
    told = replace(source, cases=(*source.cases[:2], small))
    kept = run(told, targets=("L40S",), counts=(2,))
    assert [(one.per_device_batch_size, one.fits_memory) for one in kept.configurations] == [(8, True)]
    with pytest.raises(BadInputError, match="does not fit"):
        run(source, targets=("L40S",), counts=(2,))
    on_itself = run(source, targets=("H100-SXM5-80GB",), counts=(2,))
    assert {one.fits_memory for one in on_itself.configurations if one.per_device_batch_size == 8} == {True}


def test_a_card_that_falls_short_of_its_kind_makes_others_look_faster() -> None:
    """The run's own probes: this A100 is held back, so what another device would do is more."""

    def rate(matmul: float | None) -> float:
        source = simple_report()
        if matmul is not None:
            ceilings = Ceilings(
                precisions=(PrecisionCeiling(precision="bf16", matmul_tflops=matmul),),
                device_copy_bytes_per_s=1.7e12,
            )
            source = replace(source, ceilings=ceilings)
        source = replace(source, hardware_profile=replace(profile("A100-SXM4-80GB"), reached=None))
        return find(
            run(source, targets=("H100-SXM5-80GB",)), per_device_batch_size=64
        ).samples_per_second.value

    assert rate(400.0) == pytest.approx(rate(270.0), rel=0.05)
    assert rate(130.0) > 1.15 * rate(270.0)


def test_an_all_reduce_that_was_probed_goes_before_the_data_sheet() -> None:
    def time_of_four(gb_per_s: float) -> float:
        probe = AllReduceCeiling(world_size=4, bytes_per_s=gb_per_s * 1e9)
        source = replace(simple_report(), ceilings=Ceilings(precisions=(), all_reduce=(probe,)))
        one = find(run(source, targets=("A100-SXM4-80GB",), counts=(4,)), per_device_batch_size=64)
        return one.time_s.value

    assert time_of_four(0.1) > 1.5 * time_of_four(100)


def test_many_cards_without_peer_access_share_the_host() -> None:
    def efficiency(count: int, gpu: str) -> float:
        found = run(simple_report(gpu), targets=(gpu,), counts=(1, count))
        one, many = (find(found, count=n, per_device_batch_size=32).time_s.value for n in (1, count))
        return one / many / count

    kept = {gpu: efficiency(8, gpu) / efficiency(2, gpu) for gpu in ("RTX 4090", "RTX A6000")}
    assert kept["RTX 4090"] < 0.6 * kept["RTX A6000"]


def test_several_devices_by_the_model_and_as_measured() -> None:
    cases = [
        result(800.0, per_device_batch_size=32, precision="bf16"),
        result(1000.0, per_device_batch_size=64, precision="bf16"),
        result(3000.0, per_device_batch_size=64, precision="bf16", strategy="zero2", world_size=4),
    ]
    plan_result = run(report("A100-SXM4-80GB", *cases), targets=("A100-SXM4-80GB",), counts=(1, 2, 4, 8))
    four = find(plan_result, count=4, per_device_batch_size=64)
    assert (four.samples_per_second.value, four.basis, four.strategy) == (3000.0, "measured", "zero2")
    eight = find(plan_result, count=8, per_device_batch_size=64)
    assert eight.basis == "predicted"
    assert 4 * 1000 < eight.samples_per_second.value < 3000 / 4 * 8 * 1.05
    assert find(plan_result, count=1, per_device_batch_size=64).strategy == "single"


def alone_and_together(*together: CaseResult) -> Report:
    """An A100 at two batches, then ``together``."""
    alone = [result(r, per_device_batch_size=b, precision="bf16") for b, r in ((32, 800.0), (64, 1000.0))]
    return report("A100-SXM4-80GB", *alone, *together)


def test_what_was_lost_to_collectives_at_one_batch_counts_at_another() -> None:
    four = result(2000.0, per_device_batch_size=64, precision="bf16", strategy="ddp", world_size=4)
    plan_result = run(alone_and_together(four), targets=("A100-SXM4-80GB",), counts=(1, 4))
    rates = {
        (one.count, one.per_device_batch_size): one.samples_per_second.value
        for one in plan_result.configurations
    }
    assert rates[4, 64] == 2000.0
    # The same bytes beside less work: no better than the half of four that the larger batch kept.
    assert rates[4, 32] / (4 * rates[1, 32]) < 0.5


def test_a_count_measured_with_another_global_batch_is_not_lost() -> None:
    two = result(1700.0, per_device_batch_size=64, precision="bf16", strategy="ddp", world_size=2)
    source = alone_and_together(two)
    for global_batch, basis in ((128, "measured"), (256, "predicted")):
        plan_result = run(source, targets=("A100-SXM4-80GB",), counts=(1, 2), global_batch_size=global_batch)
        assert find(plan_result, count=2, per_device_batch_size=64).basis == basis


def test_an_accumulation_and_one_rank_of_a_strategy_stand_as_they_were_measured() -> None:
    fields = {"per_device_batch_size": 64, "precision": "bf16"}
    source = alone_and_together(
        result(1200.0, gradient_accumulation_steps=4, **fields),
        result(900.0, strategy="zero2-offload", **fields),
    )
    here = {"targets": ("A100-SXM4-80GB",), "counts": (1, 2)}
    plan_result = run(source, **here)
    measured = {
        (one.strategy, one.gradient_accumulation_steps, one.samples_per_second.value)
        for one in plan_result.configurations
        if one.basis == "measured" and one.per_device_batch_size == 64
    }
    assert measured == {("single", 1, 1000.0), ("single", 4, 1200.0), ("zero2-offload", 1, 900.0)}
    kept = find(run(source, global_batch_size=256, **here), count=1, per_device_batch_size=64)
    assert (kept.basis, kept.samples_per_second.value) == ("measured", 1200.0)


def test_ranks_on_one_machine_are_no_several_devices() -> None:
    """Two ranks on the processors of one machine would be billed as two machines."""
    fields = {"per_device_batch_size": 64, "precision": "bf16"}
    cases = [result(100.0, **fields), result(120.0, strategy="ddp", world_size=2, **fields)]
    machine = replace(simple_report(), cases=tuple(cases), hardware_profile=None)
    machine = replace(machine, environment=replace(machine.environment, devices=()))
    alone = run(machine, targets=(), counts=(1, 2))
    assert {one.count for one in alone.configurations} == {1}
    assert [entry.num for entry in alone.refused if "shared the processors" in entry.reason] == [1]
    joined = run(machine, targets=(), counts=(1, 2, 16), network_gb_per_s=1.0)
    assert {one.count for one in joined.configurations} == {1, 2, 16}
    assert {one.basis for one in joined.configurations if one.count > 1} == {"predicted"}
    second = replace(cases[1].attempts[0].ranks[0], rank=1, node=1)
    attempt = replace(cases[1].attempts[0], ranks=(*cases[1].attempts[0].ranks, second))
    two = replace(machine, cases=(cases[0], replace(cases[1], attempts=(attempt,))))
    assert find(run(two, targets=(), counts=(2,)), count=2).samples_per_second.value == 120.0


def test_two_reports_of_one_device_are_said_and_the_first_counts() -> None:
    first, second = simple_report(), simple_report(rates={32: 1000.0, 64: 1300.0})
    plan_result = run(first, second)
    assert plan_result.configurations == run(first).configurations
    assert any(note.startswith("2 cases were measured more than once") for note in plan_result.notes)
    assert any("up to 30.0 % apart" in note for note in plan_result.notes)
    assert not any("more than once" in note for note in run(first).notes)


def test_a_device_is_planned_once_under_whatever_name() -> None:
    names = ("l40s", "L40S", "NVIDIA L40S")
    assert len(run(targets=names).configurations) == len(run(targets=names[:1]).configurations)


def test_configurations_that_differ_do_not_look_alike() -> None:
    """A row that reads its samples beside one that has them on the device, and is faster for it."""
    fields = {"per_device_batch_size": 64, "precision": "bf16"}
    source = alone_and_together(
        result(300.0, data="loader", **fields), result(1200.0, memory_format="channels_last", **fields)
    )
    plan_result = run(source, targets=("A100-SXM4-80GB",))
    shared = run(source, targets=("A100-SXM4-80GB",), counts=(1, 8))
    assert any("of the host's processors each" in note for note in set(shared.notes) - set(plan_result.notes))
    labels = [configuration_label(one) for one in plan_result.configurations]
    assert len(set(labels)) == len(labels) == 4
    assert any("b64 bf16 loader (m)" in label for label in labels)
    assert any("reading and decoding" in note for note in plan_result.notes)
    other_work = alone_and_together(result(4000.0, input_shape=(3, 64, 64), **fields))
    assert any("do not do the same work" in note for note in run(other_work).notes)
    assert not any("do not do the same work" in note for note in plan_result.notes)


def test_a_refusal_names_what_the_device_itself_lacks() -> None:
    four = result(3000.0, per_device_batch_size=64, precision="bf16", strategy="ddp", world_size=4)
    only_together = report("A100-SXM4-80GB", four)
    with pytest.raises(BadInputError, match=r"several devices only.*strategy `single`"):
        run(only_together, targets=("A100-SXM4-80GB",), counts=(2,))
    with pytest.raises(BadInputError, match=r"several devices only.*strategy `single`"):
        run(only_together, targets=("H100-SXM5-80GB",))


def test_cards_without_nvlink_lose_more_to_collectives() -> None:
    plan_result = run(
        simple_report("A100-PCIe-80GB"), targets=("A100-PCIe-80GB", "A100-SXM4-80GB"), counts=(1, 8)
    )

    def efficiency(device: str) -> float:
        alone = find(plan_result, device=device, count=1, per_device_batch_size=32).samples_per_second.value
        together = find(
            plan_result, device=device, count=8, per_device_batch_size=32
        ).samples_per_second.value
        return together / alone / 8

    assert efficiency("A100-PCIe-80GB") < efficiency("A100-SXM4-80GB") < 1


def test_more_than_a_host_needs_a_network() -> None:
    alone = run(counts=(1, 8, 16))
    assert {one.count for one in alone.configurations} == {1, 8}
    assert any("--network-gb-per-s" in note for note in alone.notes)
    slow, fast = (run(counts=(16,), network_gb_per_s=speed) for speed in (1.0, 50.0))
    assert slow.configurations[slow.fastest].time_s.value > fast.configurations[fast.fastest].time_s.value


def test_a_given_global_batch_is_kept() -> None:
    plan_result = run(global_batch_size=256, counts=(1, 2, 3, 4, 8), targets=("A100-SXM4-80GB",))
    assert {one.count for one in plan_result.configurations} == {1, 2, 4, 8}
    assert any(note.startswith("Left out are 3 devices: a global batch of 256") for note in plan_result.notes)
    for one in plan_result.configurations:
        assert one.per_device_batch_size * one.gradient_accumulation_steps * one.count == 256


@settings(max_examples=25)
@given(
    rates=st.dictionaries(st.integers(1, 4096), st.floats(1e-3, 1e9), min_size=1, max_size=4),
    gpu=st.sampled_from([one.name for one in PROFILES if one.kind == "gpu" and one.peak_dense_tflops.fp16]),
    samples=st.integers(1, 10**12),
)
def test_the_source_device_gives_its_measurement_exactly(
    rates: dict[int, float], gpu: str, samples: int
) -> None:
    plan_result = run(
        simple_report(gpu, rates, precision="fp16", peak_bytes=2**30), targets=(gpu,), samples=samples
    )
    assert {one.per_device_batch_size for one in plan_result.configurations} == set(rates)
    for one in plan_result.configurations:
        rate = rates[one.per_device_batch_size]
        assert (one.basis, one.samples_per_second.value) == ("measured", rate)
        assert one.time_s.value == samples / rate


def test_the_same_source_gives_the_same_answer() -> None:
    """In whatever order reports and cases come, and after a way through a file."""
    first, second = simple_report(), simple_report("H100-SXM5-80GB", {32: 1700.0, 64: 2050.0})

    def planned(*reports: Report) -> set[Configuration]:
        return set(run(*reports, prices=PRICES, targets=(), counts=(1, 2), top=1000).configurations)

    answer = planned(first, second)
    assert len(answer) > 50
    assert planned(second, first) == answer
    assert planned(replace(first, cases=first.cases[::-1]), second) == answer
    assert planned(msgspec.json.decode(msgspec.json.encode(first), type=Report), second) == answer


def test_bad_input_is_one_line() -> None:
    with pytest.raises(BadInputError, match="did you mean H100"):
        run(targets=("h100-sxm",))
    with pytest.raises(BadInputError, match="--budget needs --prices"):
        run(budget=5.0)
    with pytest.raises(BadInputError, match="--model: 'x' is in no"):
        run(model="x")
    two = report("A100-SXM4-80GB", result(1.0), result(1.0, model="small-cnn"))
    with pytest.raises(BadInputError, match="reference-cnn, small-cnn; say with --model"):
        run(two)
    with pytest.raises(BadInputError, match="different vendors"):
        run(targets=("MI300X",))
    with pytest.raises(BadInputError, match=r"no count of 3 devices.*global batch of 64"):
        run(counts=(3,), global_batch_size=64)
    with pytest.raises(BadInputError, match="both mean L40S; keep one of them"):
        run(prices=replace(PRICES, device=(*PRICES.device, DevicePrice(name="NVIDIA L40S", per_hour=1.0))))
    with pytest.raises(BadInputError, match=r"does not fit in memory.*on L4.*Also: .*no bf16 peak.*on T4"):
        run(simple_report(peak_bytes=70 * 2**30), targets=("L4", "T4"))
    elsewhere = report("A100-SXM4-80GB", result(1.0, per_device_batch_size=8))
    with pytest.raises(BadInputError, match=r"^no count of 3 devices.*Also: one batch size only"):
        run(elsewhere, targets=(), counts=(3,), global_batch_size=64)
    with pytest.raises(BadInputError, match="no case of the reports"):
        run(replace(simple_report(), cases=()))


def test_bytes_that_a_run_counted_take_the_place_of_the_formula() -> None:
    def time_of_four(sent_bytes: int) -> float:
        cases = [result(r, per_device_batch_size=b, precision="bf16") for b, r in ((32, 800.0), (64, 1000.0))]
        two = result(1500.0, per_device_batch_size=64, precision="bf16", strategy="ddp", world_size=2)
        assert two.summary is not None
        summary = replace(two.summary, communication_bytes_per_step=sent_bytes)
        source = report("A100-SXM4-80GB", *cases, replace(two, summary=summary))
        plan_result = run(source, targets=("H100-SXM5-80GB",), counts=(4,))
        return find(plan_result, per_device_batch_size=64).time_s.value

    assert time_of_four(10**7) < time_of_four(10**11)


def test_more_configurations_than_memory_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchbox.analyze.plan.MAX_CONFIGURATIONS", 10)
    with pytest.raises(BadInputError, match="fewer --counts"):
        run(counts=tuple(range(1, 9)))
