"""From the raw times of a case's attempts to the figures that a report shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from benchbox.analyze.energy import joules_per_sample
from benchbox.analyze.ranks import longest_steps, summarize_ranks
from benchbox.analyze.roofline import matmul_ceiling
from benchbox.analyze.samples import summarize_samples
from benchbox.schema import (
    AttemptResult,
    Case,
    CaseSummary,
    Ceilings,
    HardwareProfile,
    Interval,
    Outcome,
    PrecisionRates,
    RankResult,
)
from benchbox.stats import mean, mean_interval, median, percentile


def case_outcome(attempts: Sequence[AttemptResult]) -> tuple[Outcome | None, str | None]:
    """How a case ended, and why: as its first attempt that is not ``ok``.

    ``(None, None)`` where there is no attempt.
    """
    for attempt in attempts:
        if attempt.outcome != "ok":
            return attempt.outcome, attempt.reason
    return ("ok", None) if attempts else (None, None)


def summarize_case(
    case: Case,
    attempts: Sequence[AttemptResult],
    profile: HardwareProfile | None,
    ceilings: Ceilings | None = None,
) -> CaseSummary | None:
    """The figures of a case over its ``ok`` attempts; ``None`` where none of them measured a step.

    Throughput rests on the mean step time on purpose: a loader that delivers in bursts makes most steps fast
    and a few slow, and the median would never see the slow ones. Of several ranks the one with the longest
    mean step counts, and the samples of all. Over attempts it is the geometric mean, the centre of the
    interval given beside it.
    """
    measured = [a for a in attempts if a.outcome == "ok" and any(sum(r.step_time_ns) > 0 for r in a.ranks)]
    if not measured:
        return None
    ranks = [rank for attempt in measured for rank in attempt.ranks]
    memory = [rank.memory for rank in ranks if rank.memory]
    step_times = [longest_steps(attempt).step_time_ns for attempt in measured]
    pooled = [time_ns for times in step_times for time_ns in times]
    rates = [case.global_batch_size * len(times) / sum(times) * 1e9 for times in step_times]
    samples_per_second = math.exp(mean([math.log(rate) for rate in rates]))
    samples = summarize_samples(measured)
    energy = joules_per_sample(measured, case.global_batch_size)
    compute = _compute(case, ranks, samples_per_second, profile, ceilings)
    usage = _host_usage(ranks)
    return CaseSummary(
        samples_per_second=samples_per_second,
        samples_per_second_interval=_between_attempts(rates)
        if len(rates) > 1
        else _within(step_times[0], rates[0]),
        interval_basis="attempts" if len(rates) > 1 else "steps",
        num_attempts=len(measured),
        num_measured_steps=len(pooled),
        step_time_p50_ns=round(percentile(pooled, 0.5)),
        step_time_p95_ns=round(percentile(pooled, 0.95)),
        peak_memory_allocated_bytes=_largest([m.peak_memory_allocated_bytes for m in memory]),
        peak_memory_reserved_bytes=_largest([m.peak_memory_reserved_bytes for m in memory]),
        device_memory_used_bytes=samples.device_memory_used_bytes,
        peak_host_rss_bytes=_largest([m.peak_host_rss_bytes for m in memory]),
        utilization_gpu_pct=samples.utilization_gpu_pct,
        utilization_memory_pct=samples.utilization_memory_pct,
        power_w=samples.power_w,
        joules_per_sample=energy[0] if energy else None,
        energy_source=energy[1] if energy else None,
        throttled_samples_pct=samples.throttled_samples_pct,
        foreign_process_seen=samples.foreign_process_seen,
        cpu_user_pct=usage.cpu_user_pct,
        cpu_kernel_pct=usage.cpu_kernel_pct,
        minor_page_faults_per_step=usage.minor_page_faults_per_step,
        model_flops_per_step=compute.model_flops_per_step,
        achieved_tflops=compute.achieved_tflops,
        mfu=_share(compute.achieved_tflops, compute.peak_tflops),
        mfu_peak_tflops=compute.peak_tflops,
        mfu_peak_precision=case.precision if compute.peak_tflops else None,
        ceiling_fraction=_share(compute.achieved_tflops, compute.ceiling_tflops),
        ceiling_tflops=compute.ceiling_tflops,
        ceiling_source=compute.ceiling_source,
        overhead_s=_middle([attempt.overhead_s for attempt in measured]),
        **summarize_ranks(measured)._asdict(),
    )


def _between_attempts(rates: Sequence[float]) -> Interval:
    """Student's t over the logarithms of the attempts' rates: rates are positive, and vary by factors."""
    low, high = mean_interval([math.log(rate) for rate in rates], independent=True)
    return Interval(low=math.exp(low), high=math.exp(high))


def _within(step_time_ns: Sequence[int], rate: float) -> Interval | None:
    """The mean step time's interval, carried over to the rate on the log scale (delta method)."""
    low, high = mean_interval(step_time_ns)
    half_width = (high - low) / 2 / mean(step_time_ns)
    if half_width > 20:  # infinite for too few steps; a factor of e^20 tells as little
        return None
    stretch = math.exp(half_width)
    return Interval(low=rate / stretch, high=rate * stretch)


class _Compute(NamedTuple):
    model_flops_per_step: int | None
    achieved_tflops: float | None
    peak_tflops: float | None
    ceiling_tflops: float | None
    ceiling_source: Literal["run", "profile"] | None


def _compute(
    case: Case,
    ranks: Sequence[RankResult],
    samples_per_second: float,
    profile: HardwareProfile | None,
    ceilings: Ceilings | None,
) -> _Compute:
    """Arithmetic rate of one device, and what it is held against: rates of the case's own precision."""
    flops = next((rank.flops.model_flops_per_step for rank in ranks if rank.flops), None)
    steps_per_second = samples_per_second / case.global_batch_size
    ceiling_tflops, ceiling_source = matmul_ceiling(case.precision, ceilings, profile)
    return _Compute(
        model_flops_per_step=flops,
        achieved_tflops=None if flops is None else flops * steps_per_second / 1e12,
        peak_tflops=_rate(profile.peak_dense_tflops, case) if profile else None,
        ceiling_tflops=ceiling_tflops,
        ceiling_source=ceiling_source,
    )


def _rate(rates: PrecisionRates, case: Case) -> float | None:
    by_precision = {"fp32": rates.fp32, "tf32": rates.tf32, "bf16": rates.bf16, "fp16": rates.fp16}
    return by_precision[case.precision]


class _HostUsage(NamedTuple):
    cpu_user_pct: float | None
    cpu_kernel_pct: float | None
    minor_page_faults_per_step: float | None


def _host_usage(ranks: Sequence[RankResult]) -> _HostUsage:
    """Of one worker process, over the wall time of the windows."""
    known = [(r, r.host_usage) for r in ranks if r.host_usage and r.windows]
    wall_s = sum(w.end_at_ns - w.start_at_ns for rank, _ in known for w in rank.windows) / 1e9
    if wall_s <= 0:
        return _HostUsage(None, None, None)
    return _HostUsage(
        cpu_user_pct=100 * sum(usage.cpu_user_s for _, usage in known) / wall_s,
        cpu_kernel_pct=100 * sum(usage.cpu_kernel_s for _, usage in known) / wall_s,
        minor_page_faults_per_step=sum(usage.minor_page_faults for _, usage in known)
        / sum(window.num_steps for rank, _ in known for window in rank.windows),
    )


def _largest(values: Sequence[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


def _middle(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or whole is None else part / whole
