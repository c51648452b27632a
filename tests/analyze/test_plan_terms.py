"""The terms of a plan's figures, each worked by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from benchbox.analyze import plan_rank
from benchbox.analyze.plan_collectives import collectives
from benchbox.analyze.plan_memory import fits, need
from benchbox.analyze.plan_rates import interpolate, measured_rate
from benchbox.analyze.plan_roofline import log_roofline
from benchbox.analyze.plan_sources import measured_cases
from benchbox.analyze.predict_model import REFERENCE_BANDWIDTH, Workload, grid, log_rates
from benchbox.analyze.predict_rates import DeviceRates, device_rates
from benchbox.errors import BadInputError
from benchbox.schema import (
    AllReduceCeiling,
    Ceilings,
    DevicePrice,
    Estimate,
    Flops,
    Interval,
    OperatorTime,
    PhaseTimes,
    ProfiledStep,
    Report,
    Strategy,
)
from tests.analyze.test_plan import PRICES, find, run, sharded
from tests.plans import report, result, simple_report
from tests.tables import profile


def phases_of(forward_ms: int, backward_ms: int, optimizer_ms: int) -> PhaseTimes:
    return PhaseTimes(
        num_steps=5,
        input_wait_ns=0,
        host_to_device_ns=0,
        forward_ns=forward_ms * 1_000_000,
        backward_ns=backward_ms * 1_000_000,
        optimizer_ns=optimizer_ms * 1_000_000,
    )


def with_interval(num_attempts: int, stretch: float, basis: str = "attempts") -> Report:
    """An A100 at 1,000 samples a second, ``stretch`` times less and more by its 95 % interval."""
    one = result(1000.0, per_device_batch_size=64, precision="bf16")
    assert one.summary is not None
    interval = Interval(low=1000 / stretch, high=1000 * stretch)
    summary = replace(
        one.summary, samples_per_second_interval=interval, num_attempts=num_attempts, interval_basis=basis
    )
    return report("A100-SXM4-80GB", replace(one, summary=summary))


@pytest.mark.parametrize(
    ("num_attempts", "basis", "narrower"),
    [
        (2, "attempts", 3.0777 / 12.7062),  # Student's t, 10 % over 2.5 %, of one degree of freedom
        (3, "attempts", 1.8856 / 4.3027),
        (1, "steps", 1.2816 / 1.9600),
    ],
)
def test_a_measured_interval_is_of_eighty_per_cent(num_attempts: int, basis: str, narrower: float) -> None:
    source = with_interval(num_attempts, 2.0, basis)
    rate = run(source, targets=("A100-SXM4-80GB",)).configurations[0].samples_per_second
    assert rate.high == pytest.approx(1000 * 2**narrower, rel=1e-4)
    assert rate.low == pytest.approx(1000 / 2**narrower, rel=1e-4)


def test_of_two_reports_of_one_device_the_firsts_probe_counts() -> None:
    def probed(gb_per_s: float) -> Report:
        probe = AllReduceCeiling(world_size=4, bytes_per_s=gb_per_s * 1e9)
        return replace(simple_report(), ceilings=Ceilings(precisions=(), all_reduce=(probe,)))

    def planned(*reports: Report) -> Any:
        return run(*reports, targets=("A100-SXM4-80GB",), counts=(4,)).configurations

    assert planned(probed(100.0), probed(0.1)) == planned(probed(100.0))
    assert planned(probed(0.1), probed(100.0)) != planned(probed(100.0))


NUM_PARAMETERS = 191_700_000


def with_parameters(num_parameters: int) -> dict[str, Any]:
    flops = Flops(model_flops_per_step=1, hardware_flops_per_step=1, num_parameters=num_parameters)
    return {"flops": flops}


def test_the_update_of_the_weights_scales_with_bandwidth() -> None:
    """A T4 moves 28 bytes of each of 191.7 million parameters in 16.77 ms, at 320 GB/s. Its steps take that
    and 0.25 ms a sample, nothing of the host: 24.77 ms with 32 samples. An H100, at 3,350 GB/s, updates in
    1.60 ms, and is 15.2 times as fast in matrix products, 10.5 in bandwidth and 3.8 in multiprocessors."""
    update_s = 28 * NUM_PARAMETERS / 320e9
    steps = {b: update_s + b * 0.25e-3 for b in (16, 32)}
    source = simple_report(
        "T4", {b: b / s for b, s in steps.items()}, precision="fp16", rank=with_parameters(NUM_PARAMETERS)
    )
    found = find(run(source), device="H100-SXM5-80GB", per_device_batch_size=32)
    step_s = 32 / found.samples_per_second.value
    update_there_s = 28 * NUM_PARAMETERS / 3350e9
    host_s = 1.5e-3  # the least that is taken for more than noise
    assert update_there_s + 8e-3 / 15.2 < step_s < math.hypot(update_there_s + 8e-3 / 3.8, host_s) * 1.05


def test_several_devices_do_at_best_what_one_does_at_best_times_their_number() -> None:
    source = simple_report(rank=with_parameters(NUM_PARAMETERS))
    planned = run(source, targets=("A100-SXM4-80GB",), counts=(1, 2, 8))
    for batch in (32, 64):
        one, *several = (
            find(planned, count=n, per_device_batch_size=batch).samples_per_second for n in (1, 2, 8)
        )
        for n, rate in zip((2, 8), several, strict=True):
            assert rate.high == pytest.approx(n * one.high)  # by themselves both add to the width
            assert math.log(rate.value / rate.low) > math.log(one.value / one.low)


def test_idle_devices_have_the_interval_of_those_that_work() -> None:
    """Over so slow a network 16 devices are slower than 8, and 8 of the 16 stay idle."""
    source = simple_report(rank=with_parameters(NUM_PARAMETERS))
    planned = run(
        source,
        targets=("A100-SXM4-80GB",),
        counts=(8, 16),
        global_batch_size=32 * 16,
        network_gb_per_s=0.001,
    )
    eight, sixteen = (find(planned, count=n, per_device_batch_size=32) for n in (8, 16))
    assert sixteen.samples_per_second == eight.samples_per_second


def test_the_model_adds_the_update_to_the_devices_own_time() -> None:
    """With 40 % of the reference's step, a device of half its bandwidth takes 0.6 times what it took, and 0.8
    beside it."""
    division, device = grid(False), device_rates(profile("A30"), "fp16")
    assert isinstance(device, DeviceRates)
    times = [
        np.exp(-2 * log_rates(division, Workload("convolution", "fp16", 100.0, 0.0, share), device, 1)) ** 0.5
        for share in (0.0, 0.4)
    ]
    ratio = REFERENCE_BANDWIDTH / device.bandwidth_gb_per_s
    assert times[1] == pytest.approx(0.6 * times[0] + 0.4 * ratio)


def test_a_device_of_more_arithmetic_and_no_more_bandwidth_updates_no_faster() -> None:
    """An L4 has 300 GB/s: what takes a T4 16.77 ms takes it 17.89. Two samples of 0.25 ms are at best 2.4
    times as fast, by its multiprocessors, at worst as slow as by bandwidth; and it is of an architecture
    that no witness has, for which 3 % are added."""
    update_s = 28 * NUM_PARAMETERS / 320e9
    rates = {b: b / (update_s + b * 0.25e-3) for b in (1, 2)}
    source = simple_report("T4", rates, precision="fp16", rank=with_parameters(NUM_PARAMETERS))
    found = find(run(source, targets=("L4",)), per_device_batch_size=2)
    there_s = 28 * NUM_PARAMETERS / 300e9
    step_s = 2 / found.samples_per_second.value
    assert there_s + 0.5e-3 / 2.4 < step_s < 1.04 * (there_s + 0.5e-3 * 320 / 300)


def test_the_update_is_told_by_kernels_then_by_the_phase_then_by_bytes() -> None:
    def told(**rank: Any) -> float | None:
        one = result(100.0, per_device_batch_size=10, rank=rank)  # a step of 100 ms
        return measured_cases([report("T4", one)])[0].optimizer_s

    kernels = ProfiledStep(
        step_time_ns=200_000_000,
        device_idle_ns=0,
        operators=(
            OperatorTime(operator_class="matmul", num_calls=1, time_ns=60_000_000),
            OperatorTime(operator_class="optimizer", num_calls=1, time_ns=15_000_000),
        ),
    )
    phases = phases_of(30, 50, 20)
    flops = with_parameters(NUM_PARAMETERS)
    assert told(flops=None) is None
    assert told(**flops) == pytest.approx(28 * NUM_PARAMETERS / 320e9)
    assert told(**flops, phases=phases) == pytest.approx(0.020)
    assert told(**flops, phases=phases, profile=kernels) == pytest.approx(0.015)
    on_host = replace(kernels, device_idle_ns=None)
    assert told(**flops, profile=on_host) == pytest.approx(0.1 * 15 / 75)
    # 20 ms for what takes 0.09 ms: launches.
    assert told(**with_parameters(10**6), phases=phases) == pytest.approx(28e6 / 320e9)
    assert told(flops=flops["flops"], optimizer="torch.optim.SGD") is None


def test_sources_that_contradict_each_other_foretell_nothing() -> None:
    """An H100 that is four times slower than an A100, where no division of any work makes it slower at all:
    each lies at least log(4) / 2 = 0.69 from the middle, and 0.5 is where it ends."""
    odd = simple_report("H100-SXM5-80GB", {32: 200.0, 64: 250.0})
    with pytest.raises(BadInputError, match=r"contradict each other.*the odd report's case measured again"):
        run(simple_report(), odd, targets=("L40S",))
    sound = simple_report("H100-SXM5-80GB", {32: 1700.0, 64: 2050.0})
    assert len(run(simple_report(), sound, targets=("L40S",)).configurations) == 2


def test_an_interval_of_more_than_a_factor_of_four_is_refused() -> None:
    """Half of a measured interval of a factor of e is 0.65 of it: beside it any step's own is too much."""
    source = report(
        "A100-SXM4-80GB",
        *(
            replace(
                one, summary=replace(one.summary, samples_per_second_interval=wide, interval_basis="steps")
            )
            for one in simple_report().cases
            if one.summary
            for rate in [one.summary.samples_per_second]
            for wide in [Interval(low=rate / math.e, high=rate * math.e)]
        ),
    )
    with pytest.raises(BadInputError, match=r"more than a factor of 4.*nearer to it"):
        run(source, targets=("H100-SXM5-80GB",))
    for one in run(targets=()).configurations:
        assert one.samples_per_second.high <= 4 * one.samples_per_second.low


UNKNOWN = {"flops": None, "phases": None}


def test_a_step_of_several_micro_batches_updates_once() -> None:
    """Of 40 ms with 32 samples 10 ms are the update: four micro-batches take 4 · 30 + 10 ms."""
    phases = phases_of(10, 20, 10)

    def planned(rank: dict[str, Any], global_batch: int) -> tuple[Estimate, tuple[str, ...]]:
        source = report(
            "A100-SXM4-80GB", result(800.0, per_device_batch_size=32, precision="bf16", rank=rank)
        )
        found = run(source, targets=("A100-SXM4-80GB",), global_batch_size=global_batch)
        return found.configurations[0].samples_per_second, found.notes

    once, _ = planned({"flops": None, "phases": phases}, 32)
    four, notes = planned({"flops": None, "phases": phases}, 128)
    assert four.value == pytest.approx(128 / 0.130)
    assert four.high / four.value == pytest.approx(once.high / once.value)
    # Where nothing says so, it may have been a third of the step: 4 · 2/3 + 1/3 of it, and not 4.
    unknown, unknown_notes = planned(UNKNOWN, 128)
    assert unknown.value == pytest.approx(800)
    own = math.log(once.high / once.value)
    assert math.log(unknown.high / unknown.value) == pytest.approx(math.hypot(own, math.log(4 / 3)))
    assert [note for note in unknown_notes if "update of the weights" in note]
    assert not [note for note in (*notes, *planned(UNKNOWN, 32)[1]) if "update of the weights" in note]


def test_micro_batches_of_a_foretold_device() -> None:
    """28 bytes of each of 191.7 million parameters are 2.63 ms of an A100's 40 ms at 2,039 GB/s, 6.6 %, and
    an L40S of 864 GB/s takes 6.21 ms. Either may be what four micro-batches have once."""
    source = simple_report(rank={"phases": None, **with_parameters(NUM_PARAMETERS)})

    def planned(global_batch: int) -> Estimate:
        found = run(source, targets=("L40S",), global_batch_size=global_batch)
        return find(found, per_device_batch_size=32).samples_per_second

    once, four = planned(32), planned(128)
    step_s = 32 / once.value
    share = 28 * NUM_PARAMETERS / 2039e9 / 0.040
    assert 128 / four.value == pytest.approx(step_s * (4 * (1 - share) + share))
    other = 28 * NUM_PARAMETERS / 864e9 / step_s
    apart = math.log((4 - 3 * share) / (4 - 3 * other))
    assert apart > 0.01
    own = math.log(once.value / once.low)
    assert math.log(four.value / four.low) == pytest.approx(math.hypot(own, apart))


@pytest.mark.parametrize(
    ("strategy", "precision", "num_parameters", "one", "three"),
    [
        ("ddp", "bf16", 10**9, 8, 8),
        ("zero1", "bf16", 10**9, 2 + 2, 2 + 2),
        ("zero2", "bf16", 10**9, 2 + 2, 3 * 2 + 2),
        ("zero2-offload", "fp32", 10**9, 4 + 4, 3 * 4 + 4),
        ("zero3", "fp16", 10**9, 2 + 2, 3 * (2 + 2)),
        ("zero3", "fp16", 2 * 10**9, 2 * (2 + 2 * 2), 2 * 3 * (2 + 2 * 2)),
        ("fsdp2", "bf16", 10**9, 4 + 2 * 2, 4 + 3 * 2 * 2),
        ("fsdp2", "tf32", 10**9, 4 + 2 * 4, 4 + 3 * 2 * 4),
    ],
)
def test_bytes_by_the_number_of_micro_batches(
    strategy: Strategy, precision: str, num_parameters: int, one: float, three: float
) -> None:
    """In GB; as ``collectives()`` of each strategy has it."""
    case = result(100.0, per_device_batch_size=8, precision=precision, rank=with_parameters(num_parameters))
    own = measured_cases([report("H100-SXM5-80GB", case)])
    target = ("H100-SXM5-80GB", profile("H100-SXM5-80GB"), None)
    found = collectives(own, strategy, 8, target, measured_rate(own[0]))
    assert found.gigabytes == pytest.approx(one)
    assert found.gigabytes * found.repeated(3) == pytest.approx(three)
    assert found.seconds == pytest.approx(one / (0.4 * 900))
    # A run of two devices that counted 3 GB with three micro-batches: 6 GB but for (n - 1) / n.
    two = result(
        150.0,
        per_device_batch_size=8,
        precision=precision,
        strategy=strategy,
        world_size=2,
        gradient_accumulation_steps=3,
    )
    assert two.summary is not None
    two = replace(two, summary=replace(two.summary, communication_bytes_per_step=3 * 10**9))
    counted = measured_cases([report("H100-SXM5-80GB", case, two)])
    told = collectives(counted, strategy, 8, target, measured_rate(counted[0]))
    assert told.gigabytes is not None
    assert told.gigabytes * told.repeated(3) == pytest.approx(6.0)


def test_collectives_of_each_micro_batch_take_their_time() -> None:
    """Stage 3 of 10^9 parameters in bf16 on two devices at 10 GB/s: 4 GB a micro-batch, half of them sent, in
    200 ms; alone a micro-batch takes 100 ms. Two of them: hypot(200, 400) ms."""
    fields: dict[str, Any] = {"per_device_batch_size": 10, "precision": "bf16"}
    flops = {"phases": None, **with_parameters(10**9)}
    cases = [
        result(100.0, rank=flops, **fields),
        result(140.0, strategy="zero3", world_size=2, rank=flops, **fields | {"per_device_batch_size": 5}),
    ]
    probe = AllReduceCeiling(world_size=2, bytes_per_s=10e9)
    source = replace(report("H100-SXM5-80GB", *cases), ceilings=Ceilings(precisions=(), all_reduce=(probe,)))
    found = run(source, targets=("H100-SXM5-80GB",), counts=(2,), global_batch_size=40)
    update_s = 28 / 3350
    alone_s = 2 * (0.1 - update_s) + update_s
    step_s = 40 / find(found, count=2, per_device_batch_size=10).samples_per_second.value
    assert step_s == pytest.approx(math.hypot(alone_s, 0.4))


def test_what_the_source_lost_is_carried_to_links_of_its_kind() -> None:
    """Four A100-PCIe take 128 ms where one takes 64: sqrt(128² - 64²) · 4/3 = 147.8 ms at 14 GB/s."""
    fields: dict[str, Any] = {"precision": "bf16", "rank": UNKNOWN}
    cases = [
        result(800.0, per_device_batch_size=32, **fields),
        result(1000.0, per_device_batch_size=64, **fields),
        result(2000.0, per_device_batch_size=64, strategy="ddp", world_size=4, **fields),
    ]
    source = report("A100-PCIe-80GB", *cases)
    lost_s = math.sqrt(0.128**2 - 0.064**2) * 4 / 3
    for gpu, seconds in (("RTX A6000", lost_s), ("H100-PCIe-80GB", lost_s / 2)):
        found = run(source, targets=(gpu,), counts=(1, 2))
        one, two = (find(found, count=n, per_device_batch_size=64) for n in (1, 2))
        alone_s = 64 / one.samples_per_second.value
        assert two.samples_per_second.value == pytest.approx(128 / math.hypot(alone_s, seconds / 2))
        doubt = math.log(two.samples_per_second.value / two.samples_per_second.low)
        assert doubt > math.hypot(0.5 * math.log(2), 0.1)
    # Links on the board are no like ones: their bytes count, and the doubt.
    counted = [
        replace(one, attempts=simple_report(rank=with_parameters(10**6)).cases[0].attempts) for one in cases
    ]
    boards = {"targets": ("A100-SXM4-80GB",), "counts": (1, 2)}
    with_loss = find(run(report("A100-PCIe-80GB", *counted), **boards), count=2, per_device_batch_size=64)
    without = find(run(report("A100-PCIe-80GB", *counted[:2]), **boards), count=2, per_device_batch_size=64)
    assert with_loss.samples_per_second.value == pytest.approx(without.samples_per_second.value)
    assert with_loss.samples_per_second.low < 0.9 * without.samples_per_second.low


def test_the_loss_of_cards_that_share_the_host_has_their_sharing_in_it() -> None:
    """Eight RTX 4090 take 160 ms where one takes 64. With two micro-batches one takes 128, and what eight
    lose stays: sqrt(128² + 160² - 64²) ms."""
    fields: dict[str, Any] = {"precision": "bf16", "rank": UNKNOWN, "per_device_batch_size": 64}
    cases = [result(1000.0, **fields), result(8 * 400.0, strategy="ddp", world_size=8, **fields)]
    found = run(report("RTX 4090", *cases), targets=("RTX 4090",), counts=(8,), global_batch_size=8 * 128)
    eight = find(found, count=8)
    assert eight.samples_per_second.value == pytest.approx(1024 / math.sqrt(0.128**2 + 0.160**2 - 0.064**2))


def test_what_ran_out_of_memory_in_a_report_does_not_fit_there() -> None:
    """By its peak on the H100 a batch of 64 would fit in the A100's memory too."""
    faster = simple_report("H100-SXM5-80GB", {32: 1700.0, 64: 2050.0, 128: 2300.0})

    def fitting(**case: Any) -> set[tuple[int, int, str]]:
        fields: dict[str, Any] = {"per_device_batch_size": 64, "precision": "bf16"} | case
        oom = replace(result(1.0, **fields), outcome="oom", summary=None)
        mine = simple_report(rates={16: 700.0, 32: 800.0})
        found = run(
            replace(mine, cases=(*mine.cases, oom)), faster, targets=("A100-SXM4-80GB",), counts=(1, 2, 4)
        )
        assert [one.num for one in found.refused if one.reason == "ran out of memory in the report"] == [
            12 - len(found.configurations)
        ]
        return {(one.count, one.per_device_batch_size, one.strategy) for one in found.configurations}

    small = {(n, b, "single" if n == 1 else "ddp") for n in (1, 2, 4) for b in (16, 32)}
    assert fitting() == small
    assert fitting(strategy="ddp", world_size=2) == small | {(1, 64, "single"), (1, 128, "single")}
    assert fitting(per_device_batch_size=100) == small | {
        (n, 64, "single" if n == 1 else "ddp") for n in (1, 2, 4)
    }


def test_more_devices_may_hold_what_shards() -> None:
    """Stage 3 ran out on two devices: not so on four. On one, which has no strategy, nothing is known."""
    source = sharded("zero3")
    oom = replace(source.cases[2], outcome="oom", summary=None)
    case = replace(oom.case, world_size=2, per_device_batch_size=4)
    three = result(20.0, per_device_batch_size=8, precision="bf16", strategy="zero3", world_size=8)
    cases = (*source.cases[:2], three, replace(oom, case=case))
    found = run(replace(source, cases=cases), targets=("H100-SXM5-80GB",), counts=(1, 2, 4))
    assert {one.count for one in found.configurations} == {1, 4}


def test_reports_of_other_software_widen_what_is_foretold_across_them() -> None:
    def planned(torch: str, **job: Any) -> tuple[Estimate, bool]:
        other = simple_report("H100-SXM5-80GB", {32: 1700.0, 64: 2050.0})
        software = replace(other.environment.software, torch=torch)
        other = replace(other, environment=replace(other.environment, software=software))
        found = run(simple_report(), other, **job)
        noted = any(note.startswith("The reports are of different software (torch") for note in found.notes)
        return find(found, per_device_batch_size=64).samples_per_second, noted

    same, noted = planned("2.13.0+cu130", targets=("L40S",))
    assert not noted
    wider, noted = planned("2.14.0+cu130", targets=("L40S",))
    assert noted
    assert wider.value == same.value
    assert 1.3 < math.log(wider.high / wider.low) / math.log(same.high / same.low) <= 1.7
    # What was measured is as sure as it was, and one source alone has one software.
    assert planned("2.14.0+cu130", targets=("A100-SXM4-80GB",)) == (
        find(run(targets=("A100-SXM4-80GB",)), per_device_batch_size=64).samples_per_second,
        False,
    )


def test_a_target_with_a_report_of_other_software_is_one_too() -> None:
    """The H100 ran a batch of 128 only; what it does with 64 is foretold from the A100."""

    def width(torch: str) -> float:
        other = simple_report("H100-SXM5-80GB", {128: 2500.0})
        software = replace(other.environment.software, torch=torch)
        other = replace(other, environment=replace(other.environment, software=software))
        found = find(run(simple_report(), other, targets=("H100-SXM5-80GB",)), per_device_batch_size=64)
        return math.log(found.samples_per_second.high / found.samples_per_second.low)

    assert width("2.14.0+cu130") > 1.2 * width("2.13.0+cu130")


def test_between_two_batches_the_time_of_a_step_is_a_straight_line() -> None:
    """10 ms and 1 ms a sample: 18 ms with 8 samples, 42 with 32, and so 26 with 16."""
    steps_s = {8: 0.018, 32: 0.042}
    cases = measured_cases([simple_report(rates={b: b / s for b, s in steps_s.items()})])
    between = interpolate(cases, 16)
    assert between is not None
    assert between.step_s == pytest.approx(0.026)
    by_powers = math.sqrt(8 / 0.018 * 32 / 0.042)  # 16 lies in the middle of 8 and 32
    assert abs(math.log(by_powers) - between.log_rate) < between.log_half
    flat = interpolate(measured_cases([simple_report(rates={8: 500.0, 32: 500.0})]), 16)
    assert flat is not None
    assert math.exp(flat.log_rate) == pytest.approx(500)
    assert flat.log_half == pytest.approx(cases[0].log_half + 0.03)


def test_the_memory_of_a_batch_between_two_is_the_larger_ones() -> None:
    """Batches of 64 and 256 take 20 and 70 GiB: 96, nearer to 64, may need anything up to the 70, which an
    L40S has not. On the A100 itself 256 ran."""
    fields: dict[str, Any] = {"precision": "bf16", "rank": with_parameters(10**6)}
    cases = [
        result(1000.0, per_device_batch_size=64, peak_bytes=20 * 2**30, **fields),
        result(1200.0, per_device_batch_size=256, peak_bytes=70 * 2**30, **fields),
    ]
    own = measured_cases([report("A100-SXM4-80GB", *cases)])
    between = interpolate(own, 96)
    assert between is not None
    assert between.source.case.per_device_batch_size == 64
    elsewhere = need(own, "ddp", 96, between.source, "L40S")
    assert elsewhere.known == {1: (20 * 2**30, 70 * 2**30 * 1.1)}
    assert elsewhere.fixed == 70 * 2**30 - 16e6 + 20e6
    there = need(own, "ddp", 96, between.source, "A100-SXM4-80GB")
    counts, devices = (1, 2), [profile("L40S"), profile("A100-SXM4-80GB")]
    assert fits([elsewhere, there], devices, counts) == pytest.approx(
        np.array([[np.nan, 0], [1, np.nan]]), nan_ok=True
    )


def test_what_is_bought_costs_as_surely_as_its_power_is_known() -> None:
    """An L40S is foretold at 0.8 of its 350 W, within e^0.2. It costs 10,000 EUR over 17,532 hours, and its
    power with 100 W of the host and 1.2 of cooling 0.3 EUR a kWh."""
    source = simple_report(power_w=None)
    found = run(source, targets=("L40S",), prices=PRICES)
    one = find(found, per_device_batch_size=64)
    assert one.cost is not None
    electricity = 0.3 * (0.8 * 350 + 100) * 1.2 / 1000
    share = electricity / (10_000 / 17_532 + electricity)
    time_half = math.log(one.time_s.high / one.time_s.value)
    assert math.log(one.cost.high / one.cost.value) == pytest.approx(math.hypot(time_half, 0.2 * share))
    # The budget is judged by that interval, where only the power's part of it breaks it.
    within = math.exp(time_half + 1e-6) * one.cost.value
    tight = run(source, targets=("L40S",), prices=PRICES, budget=within)
    assert find(tight, per_device_batch_size=64).within_budget == "maybe"
    assert tight.fastest_in_budget is None
    rented = replace(PRICES, device=(DevicePrice(name="L40S", per_hour=1.0),))
    rate = find(run(source, targets=("L40S",), prices=rented), per_device_batch_size=64)
    assert rate.cost is not None
    assert math.log(rate.cost.high / rate.cost.value) == pytest.approx(time_half)


def test_ranks_by_the_costs_own_interval() -> None:
    """Cheaper, but for all one knows of its power above the budget; the other surely within."""
    pool = plan_rank.Pool(
        time_s=plan_rank.Spread(np.array([10.0, 10.0]), np.array([0.1, 0.1]), np.array([0.1, 0.1])),
        cost=plan_rank.Spread(np.array([8.0, 8.5]), np.array([0.3, 0.1]), np.array([0.3, 0.1])),
        fits=np.ones(2),
        place=np.arange(2),
    )
    assert plan_rank.best_first(pool, None, 10.0, 2) == [1, 0]
    assert plan_rank.safest(pool, pool.cost) == 1


def test_a_larger_cache_may_pass_the_sources_bytes() -> None:
    """A step of 64 samples has 10 calls of 64 MiB each and 2 of 1 GiB. What is beyond twice a cache: on an
    A30 (24 MiB) 16 MiB of each small call and 976 of each large one, on an L40S (96 MiB) 832 of the large."""
    operators = (
        OperatorTime(operator_class="activation", num_calls=10, time_ns=50, least_bytes=640 * 2**20),
        OperatorTime(operator_class="normalization", num_calls=2, time_ns=50, least_bytes=2048 * 2**20),
        OperatorTime(operator_class="optimizer", num_calls=1, time_ns=1, least_bytes=9000 * 2**20),
    )
    step = ProfiledStep(step_time_ns=101, operators=operators)
    cases = [result(1000.0, per_device_batch_size=64, rank={"profile": step})]
    source = measured_cases([report("A100-SXM4-80GB", *cases)])[0]
    for gpu, mib in (("A30", 10 * 16 + 2 * 976), ("L40S", 2 * 832)):
        target = profile(gpu)
        assert target.memory_bandwidth_gb_per_s is not None
        by_bytes = target.memory_bandwidth_gb_per_s * 1e9 / (mib * 2**20 / 64)
        assert log_roofline(source, target) == pytest.approx(math.log(by_bytes))
        assert log_roofline(source, replace(target, l2_mib=None)) == math.inf
    # A device that did more than its FLOP/s allow has shown that a sample asks for fewer; its bytes remain.
    goal = profile("L40S")
    assert goal.memory_bandwidth_gb_per_s is not None
    assert goal.peak_dense_tflops.fp32 is not None
    by_bytes = math.log(goal.memory_bandwidth_gb_per_s * 1e9 / (2 * 832 * 2**20 / 64))
    by_flops = by_bytes - math.log(2)
    counted = source._replace(flops_per_sample=goal.peak_dense_tflops.fp32 * 1e12 / math.exp(by_flops))
    for reached, ceiling in ((-math.inf, by_flops), (by_flops + 0.1, by_bytes), (by_bytes + 0.1, math.inf)):
        assert log_roofline(counted, goal, reached) == pytest.approx(ceiling)
    # At 64 samples in 0.64 ms 2,039 GB/s carry 1.3 GB, and 1.98 GB are beyond the A100's own cache of 40 MiB.
    quick = report("A100-SXM4-80GB", result(1e5, per_device_batch_size=64, rank={"profile": step}))
    assert log_roofline(measured_cases([quick])[0], profile("L40S")) == math.inf
