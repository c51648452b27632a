"""What holds of every plan, whatever was measured on whatever device."""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from benchbox.analyze.plan import plan
from benchbox.analyze.predict_rates import DeviceRates, device_rates
from benchbox.errors import BadInputError
from benchbox.plan.plan_file import checked_job
from benchbox.schema import (
    CaseResult,
    Configuration,
    HardwareProfile,
    OperatorTime,
    PhaseTimes,
    PlanJob,
    PrecisionRates,
    ProfiledStep,
    ReachedRates,
    Report,
)
from tests.plans import report, result
from tests.tables import PROFILES, profile

GPUS = [one for one in PROFILES if one.kind == "gpu"]
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
STRATEGIES = ("ddp", "zero1", "zero2", "zero3", "fsdp2", "zero2-offload", "zero3-offload")
COUNTS = (1, 2, 3, 4, 8, 16, 64)


@st.composite
def sources(draw: st.DrawFn, precision: str) -> list[Report]:
    """One or two GPUs of one maker: two batches, perhaps a step's phases and operators, perhaps several of
    them with a strategy, perhaps probes."""
    able = [one for one in GPUS if isinstance(device_rates(one, precision), DeviceRates)]
    first = draw(st.sampled_from(able))
    like = [one for one in able if one.vendor == first.vendor and one != first]
    second = draw(st.sampled_from([None, *like]))
    traced = draw(st.booleans())
    model = draw(st.sampled_from(["reference-cnn", "reference-transformer"]))
    waiting, compute = draw(st.floats(0, 0.9)), draw(st.integers(0, 100))
    strategy, together = draw(st.sampled_from(STRATEGIES)), draw(st.booleans())
    probed = draw(st.booleans())
    reports = []
    for one in (first, second):
        if one is None:
            continue
        rate, growth = draw(st.floats(1, 1e5)), draw(st.floats(1, 3.9))
        cases = []
        for batch, of_batch in ((16, rate), (64, rate * growth)):
            cases.append(_case(of_batch, batch, model, precision, waiting, compute, draw, traced=traced))
        if together:
            lost = draw(st.floats(0.2, 1))
            cases.append(
                result(
                    4 * lost * rate * growth,
                    model=model,
                    per_device_batch_size=64,
                    precision=precision,
                    strategy=strategy,
                    world_size=4,
                    peak_bytes=2**30,
                )
            )
        reached = _reached(one, draw(st.floats(0.3, 1))) if probed else None
        reports.append(report(one.name, *cases, reached=reached))
    return reports


def _case(
    rate: float,
    batch: int,
    model: str,
    precision: str,
    waiting: float,
    compute: int,
    draw: st.DrawFn,
    *,
    traced: bool,
) -> CaseResult:
    rank: dict[str, Any] = {}
    if traced:
        rank["phases"] = PhaseTimes(
            num_steps=5,
            input_wait_ns=round(1e6 * waiting),
            host_to_device_ns=0,
            forward_ns=round(1e6 * (1 - waiting)),
            backward_ns=0,
            optimizer_ns=draw(st.integers(0, 10**6)),
        )
        moved = draw(st.floats(1e3, 1e13)) / rate * batch
        rank["profile"] = ProfiledStep(
            step_time_ns=100,
            operators=(
                OperatorTime(operator_class="matmul", num_calls=1, time_ns=compute),
                OperatorTime(
                    operator_class="activation", num_calls=1, time_ns=100 - compute, least_bytes=round(moved)
                ),
            ),
        )
    one = result(
        rate, model=model, per_device_batch_size=batch, precision=precision, peak_bytes=2**30, rank=rank
    )
    assert one.summary is not None
    flops = draw(st.none() | st.floats(1e6, 1e15))
    if flops is None:
        return one
    return replace(one, summary=replace(one.summary, model_flops_per_step=round(flops / rate * batch) + 1))


def _reached(one: HardwareProfile, share: float) -> ReachedRates:
    peaks = {name: getattr(one.peak_dense_tflops, name) for name in PRECISIONS}
    return ReachedRates(
        matmul_tflops=PrecisionRates(**{name: peak and peak * share for name, peak in peaks.items()}),
        conv_tflops=PrecisionRates(),
        copy_gb_per_s=(one.memory_bandwidth_gb_per_s or 1000.0) * share,
    )


def times(one: HardwareProfile, factor: float) -> HardwareProfile:
    """``one`` with ``factor`` times the peaks and the bandwidth, and so of what its probes reached.

    It stays a GeForce card, where it is one: those exchange through the host's memory.
    """
    peaks = PrecisionRates(
        **{
            name: peak and peak * factor
            for name in PRECISIONS
            for peak in [getattr(one.peak_dense_tflops, name)]
        }
    )
    better = replace(
        one,
        name="better",
        match_names=tuple(f"better {name}" for name in one.match_names),
        peak_dense_tflops=peaks,
        memory_bandwidth_gb_per_s=one.memory_bandwidth_gb_per_s and one.memory_bandwidth_gb_per_s * factor,
    )
    return better if one.reached is None else replace(better, reached=_reached(better, 0.9))


def planned(reports: list[Report], targets: list[HardwareProfile], **job: Any) -> tuple[Configuration, ...]:
    """Nothing, where all is refused."""
    others = [one for one in PROFILES if one.name not in {target.name for target in targets}]
    names = tuple(one.name for one in targets)
    checked, samples, _ = checked_job(PlanJob(samples=10**6, targets=names, **job))
    try:
        return plan(reports, checked, samples, None, None, (*others, *targets), 10_000).configurations
    except BadInputError as error:
        if "can be foretold" not in str(error):
            raise
        return ()


def way(one: Configuration) -> tuple[object, ...]:
    return (one.strategy, one.count, one.per_device_batch_size, one.gradient_accumulation_steps)


@settings(max_examples=200)
@given(data=st.data(), precision=st.sampled_from(PRECISIONS), factor=st.floats(1, 4), probed=st.booleans())
def test_more_peak_and_bandwidth_is_never_slower(
    data: st.DataObject, precision: str, factor: float, probed: bool
) -> None:
    reports = data.draw(sources(precision))
    measured = {one.hardware_profile.name for one in reports}
    plain = data.draw(st.sampled_from([one for one in GPUS if one.name not in measured]))
    if probed:
        plain = replace(plain, reached=_reached(plain, 0.9))
    job: dict[str, Any] = {
        "counts": COUNTS,
        "network_gb_per_s": data.draw(st.floats(0.01, 100)),
        "global_batch_size": data.draw(st.none() | st.sampled_from([64, 4096])),
    }
    slow = {way(one): one for one in planned(reports, [plain], **job)}
    fast = {way(one): one for one in planned(reports, [times(plain, factor)], **job)}
    # An interval that spans too much is refused, and the better device's may be the wider one.
    for key in slow.keys() & fast.keys():
        one = slow[key]
        assert fast[key].samples_per_second.value >= one.samples_per_second.value * (1 - 1e-9)


@settings(max_examples=200)
@given(
    data=st.data(), precision=st.sampled_from(PRECISIONS), global_batch=st.sampled_from([768, 4096, 12288])
)
def test_more_devices_never_take_longer_at_an_equal_global_batch(
    data: st.DataObject, precision: str, global_batch: int
) -> None:
    """By the model's own terms: what several devices did where they were measured stands as it was."""
    reports = data.draw(sources(precision))
    measured = [profile(one.hardware_profile.name) for one in reports]
    targets = list({one.name: one for one in [*measured, data.draw(st.sampled_from(GPUS))]}.values())
    network = data.draw(st.none() | st.floats(0.01, 100))
    found = planned(reports, targets, counts=COUNTS, global_batch_size=global_batch, network_gb_per_s=network)
    assume(found)
    rows: dict[tuple[object, ...], list[tuple[int, float]]] = defaultdict(list)
    alone: dict[tuple[object, ...], tuple[int, float]] = {}
    for one in found:
        place = (one.device, one.per_device_batch_size)
        if one.count == 1:
            alone[place] = (1, one.time_s.value)
        elif one.basis == "predicted":
            rows[*place, one.strategy].append((one.count, one.time_s.value))
    assert rows
    for key, course in rows.items():
        ordered = [time for _, time in sorted([*course, *([alone[key[:2]]] if key[:2] in alone else [])])]
        assert all(later <= earlier * (1 + 1e-9) for earlier, later in itertools.pairwise(ordered))


@settings(max_examples=200)
@given(data=st.data(), precision=st.sampled_from(PRECISIONS))
def test_no_foretold_rate_nor_its_interval_is_above_the_roofline(data: st.DataObject, precision: str) -> None:
    reports = data.draw(sources(precision))
    target = data.draw(st.sampled_from(GPUS))
    job: dict[str, Any] = {
        "counts": COUNTS,
        "network_gb_per_s": data.draw(st.none() | st.floats(0.01, 100)),
        "global_batch_size": data.draw(st.none() | st.sampled_from([64, 4096])),
    }
    cases = {
        f"{one.hardware_profile.name}, case {case.case.case_id}": (one.hardware_profile, case)
        for one in reports
        for case in one.cases
    }
    targets = {one.name: one for one in [*(source for source, _ in cases.values()), target]}
    for one in planned(reports, list(targets.values()), **job):
        target = targets[one.device]
        estimate = one.samples_per_second
        assert estimate.low <= estimate.value <= estimate.high
        assert one.time_s.low <= one.time_s.value <= one.time_s.high
        source, case = cases[one.source]
        assert case.summary is not None
        for ceiling in ceilings(source, case, target):
            measured = case.summary.samples_per_second / case.case.world_size
            if one.device == source.name and measured > ceiling:
                continue  # what was measured shows that the step does less than was counted
            assert estimate.high <= one.count * ceiling * (1 + 1e-9)
            assert one.time_s.low >= 10**6 / (one.count * ceiling) * (1 - 1e-9)


def ceilings(source: HardwareProfile, case: CaseResult, target: HardwareProfile) -> list[float]:
    """Samples a second of one device by the data sheet's FLOP/s and by its bandwidth."""
    batch, found = case.case.per_device_batch_size, []
    assert case.summary is not None
    if case.summary.model_flops_per_step:
        peaks = target.peak_dense_tflops
        peak = getattr(peaks, case.case.precision) or peaks.fp32
        found.append(peak * 1e12 / (case.summary.model_flops_per_step / batch))
    step = case.attempts[0].ranks[0].profile
    if step is not None:
        moved, kept = (
            sum(max(0, (one.least_bytes or 0) - 2 * (gpu.l2_mib or 0) * 2**20) for one in step.operators)
            / batch
            for gpu in (target, source)
        )
        # More than the source's own bandwidth carries, beside its cache, was never moved.
        if moved and kept * case.summary.samples_per_second <= source.memory_bandwidth_gb_per_s * 1e9:
            found.append(target.memory_bandwidth_gb_per_s * 1e9 / moved)
    return found
