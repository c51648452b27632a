"""Verdicts from synthetic evidence: what no CPU shows, and the borders of the rules."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from benchbox.analyze.causes import find_causes
from benchbox.analyze.diagnose import diagnose_case
from benchbox.analyze.gathered import gather
from benchbox.analyze.predictions import by_batch, by_half_the_collectives
from benchbox.analyze.roofline import places, rates
from benchbox.schema import (
    THROTTLE_REASONS,
    AllReduceRate,
    BatchSplit,
    Case,
    CaseResult,
    Ceilings,
    Communication,
    Diagnosis,
    Evidence,
    Flops,
    HostUsage,
    InputAblation,
    Interval,
    MemoryEstimate,
    OperatorTime,
    PrecisionCeiling,
    ProfiledStep,
    RankResult,
    WorkerMemory,
)
from tests.factories import (
    make_attempt,
    make_case,
    make_communication,
    make_device_samples,
    make_environment,
    make_profile,
    make_rank,
)

MS = 1_000_000
GIB = 2**30
STEP_NS = 10 * MS
CEILINGS = Ceilings(
    precisions=(
        PrecisionCeiling(precision="fp32", matmul_tflops=50.0, convolution_tflops=40.0),
        PrecisionCeiling(precision="bf16", matmul_tflops=700.0, convolution_tflops=400.0),
    ),
    device_copy_bytes_per_s=2.8e12,
)


def operator(
    name: str, time_ms: float, flops: float | None = None, gigabytes: float | None = None
) -> OperatorTime:
    return OperatorTime(
        operator_class=name,  # type: ignore[arg-type]
        num_calls=4,
        time_ns=round(time_ms * MS),
        flops=None if flops is None else round(flops * 1e9),
        least_bytes=None if gigabytes is None else round(gigabytes * 1e9),
    )


def profiled(*operators: OperatorTime, idle_ms: float | None = 0.1, kernels: int = 60) -> ProfiledStep:
    """A step of ten milliseconds on a GPU; ``idle_ms=None``: on a CPU."""
    return ProfiledStep(
        step_time_ns=STEP_NS,
        operators=operators,
        device_idle_ns=None if idle_ms is None else round(idle_ms * MS),
        num_kernels=None if idle_ms is None else kernels,
    )


PRODUCTS = (
    operator("convolution", 6.5, flops=200),
    operator("matmul", 2.0, flops=60),
    operator("optimizer", 1.4, gigabytes=3),
)
MOVING = (
    operator("activation", 5, gigabytes=12),
    operator("pooling", 3, gigabytes=7),
    operator("matmul", 2, flops=60),
)
UPDATING = (operator("optimizer", 7, gigabytes=18), operator("convolution", 2.9, flops=90))


def split(fixed: float) -> BatchSplit:
    """``fixed`` of a step of ten milliseconds at batch 32 does not grow."""
    each = (1 - fixed) * STEP_NS / 32
    return BatchSplit(
        half_batch_size=16,
        num_steps=12,
        full_step_time_ns=STEP_NS,
        half_step_time_ns=round(STEP_NS - 16 * each),
        fixed_ns=round(fixed * STEP_NS),
        fixed_interval_ns=Interval(low=fixed * STEP_NS * 0.9, high=fixed * STEP_NS * 1.1),
        per_sample_ns=round(each),
        per_sample_interval_ns=Interval(low=0.9 * each, high=1.1 * each),
    )


def exposed(time_ms: float) -> Communication:
    """Collectives that nothing hides for so much of a step of ten milliseconds."""
    return Communication(
        num_steps_on=12,
        num_steps_off=12,
        step_time_on_ns=STEP_NS,
        step_time_off_ns=round(STEP_NS - time_ms * MS),
        exposed_ns=round(time_ms * MS),
        exposed_interval_ns=Interval(low=(time_ms - 0.5) * MS, high=(time_ms + 0.5) * MS),
        bytes_per_step=766_768_544,
        bytes_formula="2 (W - 1) / W of the gradients",
    )


def diagnosed(
    case: Case | None = None,
    *,
    device: str = "cuda",
    ceilings: Ceilings | None = CEILINGS,
    samples: dict[str, Any] | None = None,
    host_allocator: str = "tuned",
    host_limit_bytes: int | None = None,
    estimate: MemoryEstimate | None = None,
    **rank: Any,
) -> Diagnosis:
    case = case or make_case()
    one = make_rank((STEP_NS,) * 60, **rank)
    devices = (make_device_samples(one, **(samples or {})),) if device == "cuda" else ()
    result = CaseResult(
        case=case,
        outcome="ok",
        reason=None,
        attempts=(make_attempt(case, 0, one, devices=devices),),
        summary=None,
        memory_estimate=estimate,
    )
    environment = replace(make_environment(device), host_allocator=host_allocator)  # type: ignore[arg-type]
    environment = replace(environment, host=replace(environment.host, memory_limit_bytes=host_limit_bytes))
    return diagnose_case(result, environment, ceilings, None)


def told(found: Diagnosis) -> tuple[str, str]:
    return found.bottleneck, found.sureness


def busy(**changes: Any) -> HostUsage:
    return HostUsage(
        **(
            {"cpu_user_s": 0.6, "cpu_kernel_s": 0.01, "minor_page_faults": 10, "major_page_faults": 0}
            | changes
        )
    )


# --- what holds the step -----------------------------------------------------------------------------------


def test_products_near_their_ceiling_are_compute_and_a_lower_precision_is_the_advice() -> None:
    found = diagnosed(profile=profiled(*PRODUCTS))
    assert told(found) == ("compute", "sure")
    assert found.suggestion is not None
    assert (found.suggestion.axis, found.suggestion.value) == ("precision", "bf16")
    # Convolutions 10 times and products 14 times as fast leave 1.4 of 9.9 ms and a little: at most 6 times.
    predicted = found.suggestion.predicted_speedup
    assert predicted is not None
    assert 1.5 < predicted.low < predicted.high < 7


def test_each_figure_behind_a_verdict_says_what_it_is_of() -> None:
    convolutions = operator("convolution", 6.5, flops=200, gigabytes=1)
    found = diagnosed(profile=profiled(convolutions, operator("matmul", 2.0, flops=60, gigabytes=1)))
    ridges = {e.what: e.value for e in found.evidence if "ridge" in e.what}
    assert set(ridges) == {"convolution, ridge of this machine", "matmul, ridge of this machine"}
    assert len({e.what for e in found.evidence}) == len(found.evidence)


def test_bf16_promises_no_more_than_the_bytes_of_products_and_charges_the_casts() -> None:
    """Products with few samples and 12.5 million parameters, as in the committed ZeRO report. There
    bf16 reached 1,629 samples/s of fp32's 1,782, although its products have 6.5 times the rate."""
    ceilings = Ceilings(
        precisions=(
            PrecisionCeiling(precision="fp32", matmul_tflops=0.358, convolution_tflops=0.338),
            PrecisionCeiling(precision="bf16", matmul_tflops=2.33, convolution_tflops=2.13),
        ),
        device_copy_bytes_per_s=26.1e9,
    )
    profile = profiled(
        operator("matmul", 5.34, flops=1.07, gigabytes=0.069),
        operator("optimizer", 3.99, gigabytes=0.2),
        idle_ms=None,
    )
    flops = Flops(model_flops_per_step=1, hardware_flops_per_step=1, num_parameters=12_500_000)
    found = diagnosed(
        make_case(precision="fp32"),
        device="cpu",
        ceilings=ceilings,
        profile=profile,
        flops=flops,
        batch_split=split(0.01),
    )
    assert found.suggestion is not None
    assert found.suggestion.axis == "precision"
    predicted = found.suggestion.predicted_speedup
    assert predicted is not None
    assert predicted.low < 0.91 < predicted.high < 2


def test_operators_that_move_more_than_they_compute_are_bound_by_bandwidth() -> None:
    assert told(diagnosed(profile=profiled(*MOVING))) == ("memory-bandwidth", "sure")


@pytest.mark.parametrize(("flops", "sureness"), [(200, "sure"), (60, "unsure")])
def test_products_far_from_their_ceiling_are_never_compute_for_sure(flops: float, sureness: str) -> None:
    """200 GFLOP in 6.5 ms are 77 % of the rate of convolutions, 60 are 23 %."""
    found = diagnosed(profile=profiled(operator("convolution", 6.5, flops=flops), PRODUCTS[2]))
    assert told(found) == ("compute", sureness)


def test_the_update_of_the_weights_is_the_optimizer_and_a_larger_batch_the_advice() -> None:
    found = diagnosed(profile=profiled(*UPDATING), batch_split=split(0.75))
    assert told(found) == ("optimizer", "sure")
    assert found.suggestion is not None
    assert found.suggestion.axis == "per_device_batch_size"
    assert found.suggestion.value == 4 * 32
    predicted = found.suggestion.predicted_speedup
    assert predicted is not None
    assert predicted.low < 4 / (0.75 + 4 * 0.25) < predicted.high


@pytest.mark.parametrize(
    ("num_parameters", "bottleneck"), [(190_000_000, "optimizer"), (190_000, "memory-bandwidth")]
)
def test_products_that_only_move_weights_count_with_the_optimizer(
    num_parameters: int, bottleneck: str
) -> None:
    flops = Flops(model_flops_per_step=1, hardware_flops_per_step=1, num_parameters=num_parameters)
    operators = (operator("matmul", 5.5, flops=5, gigabytes=2.4), operator("optimizer", 4.4, gigabytes=5.4))
    assert diagnosed(profile=profiled(*operators), flops=flops).bottleneck == bottleneck


def test_a_device_without_kernels_for_most_of_a_step_waits_for_the_host() -> None:
    found = diagnosed(profile=profiled(operator("matmul", 2, flops=60), idle_ms=8, kernels=900))
    assert told(found) == ("host-launch", "sure")
    assert any(e.unit == "ns" and e.value == pytest.approx(2 * MS / 900) for e in found.evidence)


def test_idle_time_is_held_against_the_measured_step_and_not_the_slower_profiled_one() -> None:
    """The profiler doubled the step; the 8 ms of kernels fill most of the 10 ms that were measured."""
    step = replace(profiled(*PRODUCTS), step_time_ns=2 * STEP_NS, device_idle_ns=12 * MS)
    assert diagnosed(profile=step).bottleneck == "compute"


def test_input_is_told_by_leaving_it_out() -> None:
    ablation = InputAblation(num_steps=12, loaded_step_time_ns=STEP_NS, on_device_step_time_ns=3 * MS)
    case = make_case(data="folder", num_generated_images=64, num_loader_workers=2)
    found = diagnosed(case, input_ablation=ablation, profile=profiled(*PRODUCTS, idle_ms=7))
    assert told(found) == ("input", "sure")
    assert found.suggestion is not None
    assert (found.suggestion.axis, found.suggestion.value) == ("num_loader_workers", 4)
    assert found.suggestion.predicted_speedup is not None
    assert found.suggestion.predicted_speedup.high == pytest.approx(2.0)  # twice the processes


@pytest.mark.parametrize(("largest", "advised"), [(None, 64), (64, 64), (63, None)])
def test_a_larger_batch_for_fewer_collectives_is_advised_only_where_it_fits(
    largest: int | None, advised: int | None
) -> None:
    case = make_case(strategy="zero3", world_size=2)
    estimate = replace(
        estimate_of(standing_gib=10, activations_gib=20), largest_per_device_batch_size=largest
    )
    found = diagnosed(case, communication=exposed(6), profile=profiled(*PRODUCTS), estimate=estimate)
    assert found.bottleneck == "communication"
    assert (None if found.suggestion is None else found.suggestion.value) == advised
    assert found.next_step is not None
    assert ("does not fit" in found.next_step) == (advised is None)


@pytest.mark.parametrize(
    ("share", "optimizer", "low", "high"),
    [
        (0.6, 0.0, 1 + 0.5 * (2 / 1.4 - 1), 1.05 * 2 / 1.4),
        (0.6, 0.2, 1 + 0.5 * (2 / 1.4 - 1), 1.05 * 2 / 1.2),
        (0.8, 0.7, 1 + 0.5 * (2 / 1.2 - 1), 2.0),  # shares overlap; twice the rate is the end of it
    ],
)
def test_half_the_collectives_save_at_most_what_they_and_the_optimizer_take(
    share: float, optimizer: float, low: float, high: float
) -> None:
    found = by_half_the_collectives(share, optimizer)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_half_the_collectives_promise_the_same_however_they_are_saved() -> None:
    suggestions = [
        diagnosed(
            make_case(strategy=strategy, world_size=2),
            communication=exposed(8),
            profile=profiled(*UPDATING),
        ).suggestion
        for strategy in ("ddp", "zero3")
    ]
    ddp, zero3 = (suggestion for suggestion in suggestions if suggestion is not None)
    assert (ddp.axis, zero3.axis) == ("gradient_accumulation_steps", "per_device_batch_size")
    assert ddp.predicted_speedup == zero3.predicted_speedup


def test_collectives_are_told_by_leaving_them_out() -> None:
    case = make_case(strategy="ddp", world_size=2)
    communication = exposed(6)
    found = diagnosed(case, communication=communication, profile=profiled(*PRODUCTS))
    assert told(found) == ("communication", "sure")
    assert found.suggestion is not None
    assert (found.suggestion.axis, found.suggestion.value) == ("gradient_accumulation_steps", 2)
    assert not any("all-reduces" in evidence.what for evidence in found.evidence)

    timed = (AllReduceRate(num_bytes=25 << 20, bytes_per_s=256e9),)  # the step sends 766.8 MB in 6 ms
    found = diagnosed(case, communication=communication, profile=profiled(*PRODUCTS), all_reduce=timed)
    (share,) = (evidence.value for evidence in found.evidence if "all-reduces alone" in evidence.what)
    assert share == pytest.approx(49.9, abs=0.05)


def test_page_faults_are_host_memory_and_the_tuned_allocator_the_advice() -> None:
    faults = busy(cpu_user_s=0.6, cpu_kernel_s=0.6, minor_page_faults=600_000)
    rank = {"host_usage": faults, "profile": profiled(*PRODUCTS, idle_ms=None)}
    found = diagnosed(device="cpu", host_allocator="system", **rank)
    assert found.bottleneck == "host-memory"
    assert found.suggestion is not None
    assert (found.suggestion.axis, found.suggestion.value) == ("host_allocator", "tuned")
    tuned = diagnosed(device="cpu", host_allocator="tuned", **rank)
    assert tuned.bottleneck == "host-memory"
    assert tuned.suggestion is None


def test_kernel_time_that_faults_cannot_explain_is_not_host_memory() -> None:
    found = diagnosed(
        device="cpu", host_usage=busy(cpu_kernel_s=0.6), profile=profiled(*PRODUCTS, idle_ms=None)
    )
    assert found.bottleneck == "compute"


@pytest.mark.parametrize(("loaded_ms", "named"), [(10.0, False), (13.0, False), (13.6, True)])
def test_waiting_for_input_is_named_from_a_quarter_of_the_step(loaded_ms: float, named: bool) -> None:
    """Without a profile, so that nothing else could be named."""
    ablation = InputAblation(
        num_steps=12, loaded_step_time_ns=round(loaded_ms * MS), on_device_step_time_ns=STEP_NS
    )
    case = make_case(data="folder", num_generated_images=64, num_loader_workers=2)
    assert told(diagnosed(case, input_ablation=ablation)) == (
        ("input", "likely") if named else ("unknown", "unsure")
    )


@pytest.mark.parametrize(("fixed", "sureness"), [(0.1, "sure"), (0.5, "unsure")])
def test_compute_is_not_sure_where_the_batch_split_contradicts_it(fixed: float, sureness: str) -> None:
    """Products and convolutions, 86 % of the step, should halve with the batch."""
    found = diagnosed(profile=profiled(*PRODUCTS), batch_split=split(fixed))
    assert told(found) == ("compute", sureness)
    low, high = round(90 * fixed), round(110 * fixed)
    assert f"of the step does not grow with the batch ({low} to {high} %)" in {e.what for e in found.evidence}


def test_kernels_of_collectives_are_not_the_host_not_keeping_up() -> None:
    """Of ten milliseconds two are arithmetic, three collectives and five nothing."""
    communication = make_communication(
        10, 7, exposed_interval_ns=Interval(low=2.9 * MS, high=3.1 * MS), bytes_per_step=10**9
    )
    case = make_case(strategy="ddp", world_size=2)
    step = profiled(operator("matmul", 2, flops=60), operator("communication", 3), idle_ms=5, kernels=900)
    result = CaseResult(
        case=case,
        outcome="ok",
        reason=None,
        attempts=(
            make_attempt(case, 0, make_rank((STEP_NS,) * 60, communication=communication, profile=step)),
        ),
        summary=None,
    )
    gathered = gather(result)
    assert gathered is not None
    shares = {
        c.bottleneck: c.share for c in find_causes(gathered, places(step, rates("fp32", CEILINGS, None)))
    }
    assert shares == {
        "host-launch": pytest.approx(0.5),
        "communication": pytest.approx(0.3),
        "compute": pytest.approx(0.2),
    }


def test_bf16_changes_nothing_about_a_device_that_waits() -> None:
    """Four tenths of the step no kernel runs: at most the other six go away."""
    found = diagnosed(profile=profiled(operator("convolution", 6, flops=200), idle_ms=4))
    assert found.suggestion is not None
    assert found.suggestion.axis == "precision"
    predicted = found.suggestion.predicted_speedup
    assert predicted is not None
    assert predicted.high < 1 / 0.4


def test_products_at_the_ridge_may_grow_with_the_batch_though_half_of_it_took_as_long() -> None:
    """As in the committed ZeRO report, where twice the batch brought 1.22 times the rate."""
    step = profiled(operator("matmul", 6, flops=250), operator("optimizer", 4, gigabytes=10))
    gathered = gather(
        CaseResult(
            case=make_case(),
            outcome="ok",
            reason=None,
            attempts=(make_attempt(make_case(), 0, make_rank((STEP_NS,) * 60, batch_split=split(0.7))),),
            summary=None,
        )
    )
    assert gathered is not None
    placed = places(step, rates("fp32", CEILINGS, None))
    promised = by_batch(gathered, placed, 2, 0.4)
    assert promised is not None
    assert promised.low == pytest.approx(0.9 * 2 / (0.4 + 2 * 0.6))
    assert promised.high == pytest.approx(1.05 * 2 / (0.77 + 2 * 0.23))


def test_a_larger_batch_is_advised_only_as_far_as_it_fits() -> None:
    def advised(largest: int | None) -> Any:
        estimate = replace(
            estimate_of(standing_gib=10, activations_gib=20), largest_per_device_batch_size=largest
        )
        suggestion = diagnosed(
            profile=profiled(*UPDATING), batch_split=split(0.75), estimate=estimate
        ).suggestion
        return None if suggestion is None else suggestion.value

    assert [advised(largest) for largest in (None, 128, 100, 40)] == [128, 128, 64, None]


def test_a_class_that_moves_more_than_the_probe_is_the_ceiling_and_said_to_be() -> None:
    """Whatever the number of calls: an update visits each weight once."""
    update = operator("optimizer", 7, gigabytes=28)  # 4,000 GB/s, in four calls; the probe reached 2,800
    found = diagnosed(profile=profiled(update, operator("convolution", 2.9, flops=90)))
    figures = {e.what: (e.value, e.unit) for e in found.evidence}
    assert figures["optimizer moves more than the probe did"] == (pytest.approx(4000, rel=1e-3), "GB/s")
    assert not any("bandwidth reached here, optimizer" in what for what in figures)


def test_no_part_that_leads_is_mixed() -> None:
    step = profiled(
        operator("convolution", 3.4, flops=100),
        operator("activation", 3.2, gigabytes=8),
        operator("optimizer", 3.3, gigabytes=8),
    )
    found = diagnosed(profile=step)
    assert told(found) == ("mixed", "unsure")
    assert found.next_step is not None


def test_without_evidence_nothing_is_claimed() -> None:
    assert told(diagnosed()) == ("unknown", "unsure")
    crashed = CaseResult(case=make_case(), outcome="crashed", reason="x", attempts=(), summary=None)
    found = diagnose_case(crashed, make_environment(), CEILINGS, None)
    assert (told(found), found.next_step, found.suggestion) == (("unknown", "unsure"), None, None)


# --- memory, power, others ---------------------------------------------------------------------------------


def test_out_of_memory_is_memory_capacity_for_sure() -> None:
    case = make_case(gradient_checkpointing=True)
    result = CaseResult(case=case, outcome="oom", reason="out of memory", attempts=(), summary=None)
    found = diagnose_case(result, make_environment(), CEILINGS, None)
    assert told(found) == ("memory-capacity", "sure")
    assert found.suggestion is not None
    assert (found.suggestion.axis, found.suggestion.value) == ("per_device_batch_size", 16)


def estimate_of(*, standing_gib: int, activations_gib: int) -> MemoryEstimate:
    """Adam in fp32: of what stands, a quarter each is weights and gradients, half is Adam's."""
    peak = (standing_gib + activations_gib) * GIB
    return MemoryEstimate(
        parameters_bytes=standing_gib * GIB // 4,
        gradients_bytes=standing_gib * GIB // 4,
        optimizer_state_bytes=standing_gib * GIB // 2,
        saved_activations_bytes=activations_gib * GIB,
        largest_temporary_bytes=0,
        communication_buffers_bytes=0,
        context_bytes=GIB,
        peak_allocated_bytes=peak,
        peak_allocated_interval_bytes=Interval(low=peak, high=peak),
        peak_device_bytes=peak + GIB,
        peak_device_interval_bytes=Interval(low=peak + GIB, high=peak + GIB),
    )


@pytest.mark.parametrize(
    ("standing_gib", "case", "device", "suggested"),
    [
        (10, {}, "cuda", ("gradient_checkpointing", True)),
        (90, {}, "cuda", ("strategy", "zero3-offload")),
        (90, {"strategy": "ddp", "world_size": 2}, "cuda", ("strategy", "zero3")),
        (90, {}, "cpu", None),  # nowhere to keep them but there
        (90, {"strategy": "zero3", "world_size": 2}, "cuda", None),
    ],
)
def test_what_to_do_about_memory_follows_from_what_takes_it(
    standing_gib: int, case: dict[str, Any], device: str, suggested: tuple[str, Any] | None
) -> None:
    estimate = estimate_of(standing_gib=standing_gib, activations_gib=100 - standing_gib)
    result = CaseResult(
        case=make_case(**case),
        outcome="oom",
        reason="out of memory",
        attempts=(),
        summary=None,
        memory_estimate=estimate,
    )
    found = diagnose_case(result, make_environment(device=device), CEILINGS, None)
    got = found.suggestion
    assert (None if got is None else (got.axis, got.value)) == suggested
    assert [e.value for e in found.evidence[1:]] == [101 * GIB, pytest.approx(standing_gib)]
    if standing_gib == 90:
        assert "90 % of the tensors foretold are weights" in str(found.next_step)


@pytest.mark.parametrize(("used_gib", "bottleneck"), [(60, "compute"), (78, "memory-capacity")])
def test_a_device_filled_to_the_brim_is_memory_capacity(used_gib: int, bottleneck: str) -> None:
    samples = {"memory_used_bytes": (used_gib * GIB,) * 6}
    assert diagnosed(profile=profiled(*PRODUCTS), samples=samples).bottleneck == bottleneck


def test_what_a_neighbour_holds_of_a_devices_memory_is_not_the_cases() -> None:
    samples = {"memory_used_bytes": (78 * GIB,) * 6, "num_foreign_processes": (1,) * 6}
    found = diagnosed(profile=profiled(*PRODUCTS), samples=samples)
    assert told(found) == ("compute", "unsure")
    assert "another process was on the device" in str(found.next_step)


@pytest.mark.parametrize(
    ("limit_gib", "bottleneck"), [(None, "compute"), (6, "compute"), (4, "memory-capacity")]
)
def test_so_is_a_process_near_its_control_groups_limit(limit_gib: int | None, bottleneck: str) -> None:
    memory = WorkerMemory(
        peak_memory_allocated_bytes=None,
        peak_memory_reserved_bytes=None,
        peak_host_rss_bytes=round(3.8 * GIB),
    )
    limit = None if limit_gib is None else limit_gib * GIB
    step = profiled(*PRODUCTS, idle_ms=None)
    found = diagnosed(device="cpu", memory=memory, profile=step, host_limit_bytes=limit)
    assert found.bottleneck == bottleneck
    if bottleneck == "memory-capacity":
        assert found.evidence[0].what == "of the control group's limit at the peak"


@pytest.mark.parametrize(("used_pct", "bottleneck"), [(80.0, "compute"), (95.0, "memory-capacity")])
def test_so_is_a_process_near_its_own_limit(used_pct: float, bottleneck: str) -> None:
    memory = WorkerMemory(
        peak_memory_allocated_bytes=None,
        peak_memory_reserved_bytes=None,
        peak_host_rss_bytes=GIB,
        tightest_limit="RLIMIT_DATA",
        tightest_limit_used_pct=used_pct,
    )
    found = diagnosed(device="cpu", memory=memory, profile=profiled(*PRODUCTS, idle_ms=None))
    assert found.bottleneck == bottleneck


@pytest.mark.parametrize(
    ("reason", "clock_mhz", "verdict"),
    [
        ("hw_thermal_slowdown", 1200.0, ("power-or-thermal", "sure")),
        ("sw_power_cap", 1500.0, ("power-or-thermal", "sure")),
        ("sw_power_cap", 1975.0, ("compute", "sure")),  # at its limit, and as fast as ever
        ("gpu_idle", 1200.0, ("compute", "sure")),
    ],
)
def test_clocks_held_back_by_power_or_heat(reason: str, clock_mhz: float, verdict: tuple[str, str]) -> None:
    samples = {"throttle_reasons": (THROTTLE_REASONS[reason],) * 6, "clock_sm_mhz": (clock_mhz,) * 6}
    found = diagnosed(profile=profiled(*PRODUCTS), samples=samples)
    assert told(found) == verdict


def test_low_clocks_do_not_matter_to_a_device_that_waits() -> None:
    samples = {"throttle_reasons": (0x40,) * 6, "clock_sm_mhz": (1200.0,) * 6}
    found = diagnosed(profile=profiled(operator("matmul", 2, flops=60), idle_ms=8), samples=samples)
    assert found.bottleneck == "host-launch"


def test_a_foreign_process_on_the_device_is_named_and_leaves_nothing_sure() -> None:
    found = diagnosed(profile=profiled(*PRODUCTS), samples={"num_foreign_processes": (0, 2, 2, 2, 0, 0)})
    assert found.sureness == "unsure"
    assert found.next_step is not None
    assert "another process was on the device" in found.next_step


@pytest.mark.parametrize(
    ("others_pct", "sureness"), [(5.0, "sure"), (15.0, "likely"), (30.0, "unsure"), (60.0, "unsure")]
)
def test_busy_neighbours_weaken_a_verdict_and_are_named(others_pct: float, sureness: str) -> None:
    usage = busy(other_cpu_pct=others_pct)
    found = diagnosed(device="cpu", host_usage=usage, profile=profiled(*PRODUCTS, idle_ms=None))
    assert told(found) == ("compute", sureness)
    named = [e for e in found.evidence if "others" in e.what]
    assert len(named) == (others_pct >= 10)


def test_a_verdict_that_is_not_clear_drowns_in_the_work_of_others() -> None:
    step = profiled(
        *(
            operator("convolution", 4.5, flops=120),
            operator("optimizer", 4, gigabytes=9),
            operator("pooling", 2, gigabytes=4),
        ),
        idle_ms=None,
    )
    quiet = diagnosed(device="cpu", host_usage=busy(other_cpu_pct=0.0), profile=step)
    assert quiet.bottleneck == "compute"
    assert diagnosed(device="cpu", host_usage=busy(other_cpu_pct=70.0), profile=step).bottleneck == "unknown"


# --- what it is held against -------------------------------------------------------------------------------


def test_the_profiles_reached_rates_serve_where_the_run_has_no_ceilings() -> None:
    case = make_case(precision="bf16")
    rank: RankResult = make_rank(
        (STEP_NS,) * 60, profile=profiled(operator("matmul", 9, flops=4000, gigabytes=1))
    )
    result = CaseResult(
        case=case, outcome="ok", reason=None, attempts=(make_attempt(case, 0, rank),), summary=None
    )
    found = diagnose_case(result, make_environment(), None, make_profile())
    assert found.bottleneck == "compute"
    assert any(e.what == "of the rate reached here, matmul" for e in found.evidence)
    assert not any(
        "reached" in e.what for e in diagnose_case(result, make_environment(), None, None).evidence
    )


def test_what_the_devices_counters_say_stands_behind_a_verdict_on_the_device() -> None:
    """A compute-bound fp32 step on a device whose tensor pipe does nothing."""
    samples = {"tensor_activity_pct": (0.0, 0.5) * 3, "dram_activity_pct": (40.0, None) * 3}
    found = diagnosed(profile=profiled(*PRODUCTS), samples=samples)
    told_by_counters = {e.what: e.value for e in found.evidence if "counters" in e.what}
    assert told_by_counters["of the time the tensor pipe works, by the device's counters"] == 0.25
    assert told_by_counters["of the time the memory works, by the device's counters"] == 40.0
    waiting = diagnosed(profile=profiled(*PRODUCTS[:1], idle_ms=8), samples=samples)
    assert waiting.bottleneck == "host-launch"
    assert not any("counters" in e.what for e in waiting.evidence)


def test_the_drivers_utilization_is_evidence_of_idleness_alone() -> None:
    """It says that some kernel ran, and nothing of how well; kernels that were profiled tell more."""
    busy, idle = ({"utilization_gpu_pct": (pct,) * 6} for pct in (100.0, 30.0))
    assert told(diagnosed(samples=busy)) == ("unknown", "unsure")
    found = diagnosed(samples=idle)
    assert told(found) == ("host-launch", "sure")
    assert found.evidence[0] == Evidence(
        what="of the time no kernel runs, by the driver", value=70.0, unit="%"
    )
    found = diagnosed(profile=profiled(*PRODUCTS), samples=idle)
    assert told(found) == ("compute", "sure")
    assert not any("by the driver" in e.what for e in found.evidence)


def test_a_bandwidth_that_the_step_itself_passes_is_no_ceiling() -> None:
    """A probe that was disturbed said a hundredth of what there is; the optimizer's 18 GB in 7 ms mend it."""
    disturbed = replace(CEILINGS, device_copy_bytes_per_s=2.8e10)
    operators = (
        operator("convolution", 6, flops=200, gigabytes=0.8),
        operator("optimizer", 3.9, gigabytes=10),
    )
    assert diagnosed(profile=profiled(*operators), ceilings=disturbed).bottleneck == "compute"
    without = (operators[0], operator("other", 3.9))
    assert diagnosed(profile=profiled(*without), ceilings=disturbed).bottleneck == "memory-bandwidth"
