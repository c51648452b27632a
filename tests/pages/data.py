"""Reports with everything that a page can show, the same on every call."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from benchbox.report.build import build_report
from benchbox.schema import (
    THROTTLE_REASONS,
    AttemptResult,
    Case,
    CaseResult,
    Ceilings,
    Diagnosis,
    Evidence,
    Flops,
    Interval,
    MemoryEstimate,
    OperatorTime,
    PhaseTimes,
    PrecisionCeiling,
    ProfiledStep,
    Report,
    Scaling,
    Suggestion,
    WorkerMemory,
)
from tests.factories import (
    FLOPS_PER_SAMPLE,
    GIB,
    NUM_PARAMETERS,
    make_attempt,
    make_case,
    make_device_samples,
    make_environment,
    make_profile,
    make_rank,
    make_suite,
)

BATCHES = (16, 32, 64, 128, 256, 512)
PEAK_TFLOPS = {"fp32": 51.2, "tf32": 371.0, "bf16": 702.0, "fp16": 688.0}
COPY_BYTES_PER_S = 2.81e12
FIXED_MS = 1.9
ESTIMATED_SHARE = {"fp32": 1.0, "tf32": 1.0, "bf16": 0.62, "fp16": 0.62}


def make_sweep(
    batches: Sequence[int] = BATCHES,
    precisions: Sequence[str] = ("fp32", "bf16"),
    *,
    name: str = "NVIDIA H100 80GB HBM3",
    created_at: str = "2026-01-05T12:34:56+00:00",
    slower: float = 1.0,
    world_sizes: Sequence[int] = (),
) -> Report:
    """A sweep on one GPU: batch sizes × precisions × checkpointing; the largest fp32 batch does not fit.

    ``world_sizes`` adds ddp cases on so many devices, each with its scaling.
    """
    cases = [
        make_case(per_device_batch_size=batch, precision=precision, gradient_checkpointing=checkpointing)
        for precision in precisions
        for checkpointing in (False, True)
        for batch in batches
    ]
    cases += [make_case(strategy="ddp", world_size=size, per_device_batch_size=64) for size in world_sizes]
    attempts = [
        attempt for case in cases for attempt in _attempts(case, slower, fits=_fits(case, max(batches)))
    ]
    environment = make_environment()
    facts = replace(environment.devices[0], name=name)
    report = build_report(
        make_suite(cases),
        replace(environment, devices=(facts,), software=replace(environment.software, devices=(facts,))),
        attempts,
        make_profile(),
        complete=True,
        created_at=created_at,
        telemetry_cost=None,
        controller_peak_rss_bytes=61_000_000,
    )
    ceilings = Ceilings(
        precisions=tuple(
            PrecisionCeiling(precision=p, matmul_tflops=v, convolution_tflops=v * 0.7)  # type: ignore[arg-type]
            for p, v in PEAK_TFLOPS.items()
        ),
        device_copy_bytes_per_s=COPY_BYTES_PER_S,
        host_to_device_bytes_per_s=55.1e9,
        probe_s=4.2,
    )
    return replace(
        report, cases=tuple(_enriched(result, cases) for result in report.cases), ceilings=ceilings
    )


def make_many(num_cases: int) -> Report:
    """A report of so many cases, each with three attempts, telemetry, phases and memory."""
    return make_sweep(batches=range(1, num_cases // 8 + 1), precisions=("fp32", "tf32", "bf16", "fp16"))


def _fits(case: Case, largest: int) -> bool:
    return case.gradient_checkpointing or case.precision != "fp32" or case.per_device_batch_size < largest


def _step_ms(case: Case, slower: float) -> float:
    work = FLOPS_PER_SAMPLE[case.model] * case.per_device_batch_size / (0.55 * PEAK_TFLOPS[case.precision])
    again = 1.3 if case.gradient_checkpointing else 1.0
    spread = 1 + 0.03 * (case.world_size - 1)
    return slower * spread * (FIXED_MS + again * work / 1e9)


def _attempts(case: Case, slower: float, *, fits: bool) -> list[AttemptResult]:
    if not fits:
        reason = "CUDA out of memory: tried to allocate 23.91 GiB; 12.40 GiB of 79.65 GiB were free"
        tail = "Traceback (most recent call last):\n  ...\ntorch.OutOfMemoryError: " + reason
        return [make_attempt(case, 0, outcome="oom", reason=reason, stderr_tail=tail, ranks=())]
    return [_attempt(case, number, _step_ms(case, slower)) for number in range(3)]


def _attempt(case: Case, number: int, step_ms: float) -> AttemptResult:
    rng = random.Random(f"{case.case_id} {number}")
    level = step_ms * (1 + rng.gauss(0, 0.004))
    steps = [
        round(level * 1e6 * (1 + abs(rng.gauss(0, 0.008)) + (0.06 if rng.random() < 0.03 else 0)))
        for _ in range(120)
    ]
    peak_gib = 3.6 + 0.0241 * case.per_device_batch_size * ESTIMATED_SHARE[case.precision]
    rank = make_rank(
        steps,
        start_at_ns=10_000_000_000 * (number + 1),
        memory=WorkerMemory(
            peak_memory_allocated_bytes=int(peak_gib * GIB),
            peak_memory_reserved_bytes=int((peak_gib * 1.07 + 0.3) * GIB),
            peak_host_rss_bytes=int(3.4 * GIB),
        ),
        phases=_phases(level) if number == 0 else None,
        profile=_profile(case, level) if number == 0 else None,
        flops=Flops(
            model_flops_per_step=FLOPS_PER_SAMPLE[case.model] * case.per_device_batch_size,
            hardware_flops_per_step=FLOPS_PER_SAMPLE[case.model] * case.per_device_batch_size,
            num_parameters=NUM_PARAMETERS[case.model],
        ),
        num_threads=8,
    )
    ranks = tuple(replace(rank, rank=place, local_rank=place) for place in range(case.world_size))
    return make_attempt(case, number, *ranks, devices=(_samples(rank, peak_gib, number),))


def _samples(rank: Any, peak_gib: float, number: int) -> Any:
    hz = max(10.0, 24e9 / sum(rank.step_time_ns))
    plain = make_device_samples(rank, hz=hz)
    count = len(plain.sample_at_ns)
    rng = random.Random(f"{count} {number} {peak_gib}")
    throttled = range(int(0.55 * count), int(0.72 * count)) if number == 2 else range(0)
    cap = THROTTLE_REASONS["sw_power_cap"]
    return replace(
        plain,
        memory_used_bytes=tuple(int((peak_gib * 1.07 + 0.9) * GIB) for _ in range(count)),
        power_w=tuple(
            round(612 + 20 * rng.random() + (60 if i in throttled else 0), 1) for i in range(count)
        ),
        clock_sm_mhz=tuple(1755.0 - (210 if i in throttled else 0) for i in range(count)),
        temperature_c=tuple(52.0 + 9 * i / max(1, count - 1) for i in range(count)),
        throttle_reasons=tuple(cap if i in throttled else 0 for i in range(count)),
    )


def _phases(level: float) -> PhaseTimes:
    return PhaseTimes(
        num_steps=5,
        input_wait_ns=round(level * 0.01e6),
        host_to_device_ns=round(level * 0.02e6),
        forward_ns=round(level * 0.27e6),
        backward_ns=round(level * 0.50e6),
        optimizer_ns=round(level * 0.20e6),
    )


def _profile(case: Case, level: float) -> ProfiledStep:
    flops = FLOPS_PER_SAMPLE[case.model] * case.per_device_batch_size
    width = 4 if case.precision in ("fp32", "tf32") else 2
    weights = NUM_PARAMETERS[case.model]
    activations = 30_000_000 * case.per_device_batch_size * width

    def moved(num_bytes: int, share: float) -> int:
        """No more than the memory of such a device delivers in that share of the step."""
        return min(num_bytes, int(0.9 * COPY_BYTES_PER_S * share * level / 1e3))

    return ProfiledStep(
        step_time_ns=round(level * 1.2e6),
        operators=(
            OperatorTime(
                operator_class="convolution",
                num_calls=5,
                time_ns=round(level * 0.45e6),
                flops=int(flops * 0.86),
                least_bytes=moved(activations, 0.45),
            ),
            OperatorTime(
                operator_class="matmul",
                num_calls=6,
                time_ns=round(level * 0.15e6),
                flops=int(flops * 0.14),
                least_bytes=moved(3 * weights * width, 0.15),
            ),
            OperatorTime(
                operator_class="optimizer",
                num_calls=1,
                time_ns=round(level * 0.2e6),
                least_bytes=moved(7 * weights * 4, 0.2),
            ),
            OperatorTime(operator_class="activation", num_calls=6, time_ns=round(level * 0.1e6)),
        ),
        device_idle_ns=round(level * 0.08e6),
        num_kernels=63,
    )


def _estimate(case: Case) -> MemoryEstimate:
    weights = NUM_PARAMETERS[case.model] * 4
    activations = int(0.0198 * case.per_device_batch_size * ESTIMATED_SHARE[case.precision] * GIB)
    kept = activations // 3 if case.gradient_checkpointing else activations
    temporary = 200_000_000
    peak = int(0.93 * (4 * weights + kept + temporary))  # they do not all stand at the same time
    return MemoryEstimate(
        parameters_bytes=weights,
        gradients_bytes=weights,
        optimizer_state_bytes=2 * weights,
        saved_activations_bytes=kept,
        largest_temporary_bytes=temporary,
        communication_buffers_bytes=0,
        context_bytes=520_000_000,
        peak_allocated_bytes=peak,
        peak_allocated_interval_bytes=Interval(low=peak * 0.95, high=peak * 1.05),
        peak_reserved_bytes=peak + 280_000_000,
        peak_device_bytes=peak + 800_000_000,
        peak_device_interval_bytes=Interval(low=peak, high=1.2 * (peak + 800_000_000)),
        device_memory_bytes=85_520_809_984,
        fits=True,
        largest_per_device_batch_size=2048,
    )


def _enriched(result: CaseResult, cases: Sequence[Case]) -> CaseResult:
    result = replace(result, memory_estimate=_estimate(result.case))
    if result.summary is None:
        return result
    size = result.case.world_size
    weak = None if size == 1 else 1 / (1 + 0.03 * (size - 1))
    compute = result.case.per_device_batch_size > 64
    diagnosis = Diagnosis(
        bottleneck="compute" if compute else "optimizer",
        sureness="likely",
        evidence=(
            Evidence(what="of the step is spent in convolutions and matrix products", value=60, unit="%"),
            Evidence(what="of the rate that matrix products reached here", value=55.2, unit="%"),
        ),
        next_step="Try a larger batch: the optimizer's share of the step falls with it.",
        suggestion=Suggestion(
            axis="per_device_batch_size",
            value=result.case.per_device_batch_size * 2,
            predicted_speedup=Interval(low=1.04, high=1.18),
        ),
    )
    alone = next(
        (case for case in cases if case == replace(result.case, case_id=case.case_id, world_size=1)), None
    )
    scaling = (
        Scaling(
            weak_efficiency=weak,
            weak_efficiency_interval=Interval(low=weak * 0.99, high=weak * 1.01),
            weak_baseline_case_id=alone.case_id,
        )
        if weak is not None and alone is not None
        else None
    )
    return replace(result, diagnosis=diagnosis, scaling=scaling)
