"""What reports say that a plan can rest on: each measured case with its device, its split and its memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from benchbox.analyze.plan_optimizer import optimizer_s
from benchbox.analyze.roofline import Rates, places, rates
from benchbox.analyze.student import t_quantile
from benchbox.schema import (
    Case,
    CaseResult,
    CaseSummary,
    HardwareProfile,
    OperatorClass,
    PrecisionRates,
    RankResult,
    ReachedRates,
    Report,
    Strategy,
)

# Of each end of a report's interval, and of a plan's.
_TAIL_OF_REPORTS, _TAIL = 0.025, 0.1
_COMPUTE: frozenset[OperatorClass] = frozenset({"matmul", "convolution"})
# What a measured rate may be off by where its interval is not known, as a logarithm.
_UNKNOWN_LOG_HALF = 0.10
# A guess: what a peak of another device surely fits into. `estimate` goes to 0.985, of a peak that it counts
# for the very device; between two, libraries and fragmentation differ, and the context may not be counted.
USABLE_MEMORY_SHARE = 0.92


class Configured(NamedTuple):
    """What is equal for cases that are one configuration, wherever they run and however large the batch."""

    model: str
    data: str
    precision: str
    gradient_checkpointing: bool
    memory_format: str
    compile: bool
    input_shape: tuple[int, ...]
    hidden_size: int | None


class Measured(NamedTuple):
    """One case of one report."""

    case: Case
    configured: Configured
    device: str
    profile: HardwareProfile | None
    software: str
    """Of the report: what differs between two of them that are not of one software."""
    log_half: float
    """Half of the measured rate's 80 % interval, as a logarithm."""
    samples_per_second: float
    """Of all devices together."""
    power_w: float | None
    """Of one device, by the energy of a sample where it was measured."""
    peak_memory_bytes: int | None
    """Of one device."""
    num_parameters: int | None
    flops_per_sample: float | None
    moved: tuple[tuple[int, int], ...]
    """Of the profiled step, by operator class: bytes that go in and come out at least, and in how many
    calls."""
    all_reduce_gb_per_s: float | None
    """That the run's probe reached among the most devices."""
    sent_bytes: int | None
    """By each rank in a step, by the strategy's formula; ``None`` for one device."""
    input_share: float
    """Of a step: waiting for input and copying it, which another device does not shorten."""
    compute_share: float | None
    """Of the profiled operators' time: matrix products and convolutions that arithmetic bounds."""
    fixed_ms: float | None
    """Of a step, by two batch sizes within one case."""
    optimizer_s: float | None
    """Of a step: the update of the weights, on the device; ``None``: nothing says."""


class RanOut(NamedTuple):
    """A case that ran out of memory."""

    device: str
    configured: Configured
    strategy: Strategy
    num_devices: int
    batch: int


def ran_out(reports: Sequence[Report]) -> list[RanOut]:
    """The cases of ``reports`` whose outcome is ``oom``."""
    return [
        RanOut(
            device_name(report),
            configured(case),
            case.strategy,
            case.world_size,
            case.per_device_batch_size,
        )
        for report in reports
        for result in report.cases
        if result.outcome == "oom" and not shared_one_host(report, result)
        for case in [result.case]
    ]


def measured_cases(reports: Sequence[Report]) -> list[Measured]:
    """The ``ok`` cases of ``reports`` that tell of devices."""
    return [
        _measured(report, result)
        for report in reports
        for result in report.cases
        if result.outcome == "ok" and result.summary and not shared_one_host(report, result)
    ]


def shared_one_host(report: Report, result: CaseResult) -> bool:
    """Whether ranks of the case trained on one host's processors: so many devices there were not."""
    nodes = {rank.node for attempt in result.attempts for rank in attempt.ranks}
    return not report.environment.devices and result.case.world_size > len(nodes)


def report_profile(report: Report) -> HardwareProfile | None:
    """The report's hardware profile, with what the run's own probes reached in place of older ones."""
    profile, ceilings = report.hardware_profile, report.ceilings
    if profile is None or ceilings is None:
        return profile
    copy = ceilings.device_copy_bytes_per_s
    upload = ceilings.host_to_device_bytes_per_s
    reached = ReachedRates(
        matmul_tflops=PrecisionRates(**{c.precision: c.matmul_tflops for c in ceilings.precisions}),
        conv_tflops=PrecisionRates(**{c.precision: c.convolution_tflops for c in ceilings.precisions}),
        copy_gb_per_s=copy / 1e9 if copy else None,
        host_to_device_gb_per_s=upload / 1e9 if upload else None,
    )
    return replace(profile, reached=reached)


def all_reduce_gb_per_s(report: Report) -> float | None:
    """Bus bandwidth among the most devices that the run's probe had; ``None`` where it had one."""
    ceilings = report.ceilings
    found = [one for one in ceilings.all_reduce if one.world_size > 1] if ceilings else []
    return max(found, key=lambda one: one.world_size).bytes_per_s / 1e9 if found else None


def device_name(report: Report) -> str:
    """What a plan calls the report's device: the profile's name, the driver's, or the processor's."""
    environment = report.environment
    if report.hardware_profile is not None:
        return report.hardware_profile.name
    if environment.devices:
        return environment.devices[0].name
    return f"{environment.host.cpu_model}, {environment.host.num_usable_processors} processors"


def configured(case: Case) -> Configured:
    """Everything that must be equal for two cases to differ in batch and ranks only."""
    return Configured(
        case.model,
        case.data,
        case.precision,
        case.gradient_checkpointing,
        case.memory_format,
        case.compile,
        case.input_shape,
        case.hidden_size,
    )


def _measured(report: Report, result: CaseResult) -> Measured:
    summary, case = result.summary, result.case
    assert summary is not None
    rank = next((rank for attempt in result.attempts for rank in attempt.ranks if rank.step_time_ns), None)
    estimate = result.memory_estimate
    peak = summary.device_memory_used_bytes or summary.peak_memory_reserved_bytes
    flops = summary.model_flops_per_step
    return Measured(
        case=case,
        configured=configured(case),
        device=device_name(report),
        profile=report_profile(report),
        software=_software(report),
        log_half=_log_half(summary),
        samples_per_second=summary.samples_per_second,
        power_w=_power_w(summary, case.world_size),
        peak_memory_bytes=peak or (estimate.peak_device_bytes if estimate else None),
        num_parameters=_parameters(rank),
        flops_per_sample=flops * case.world_size / case.global_batch_size if flops else None,
        moved=_moved(rank),
        all_reduce_gb_per_s=all_reduce_gb_per_s(report),
        sent_bytes=summary.communication_bytes_per_step,
        input_share=_input_share(rank),
        compute_share=_compute_share(rank, rates(case.precision, report.ceilings, report.hardware_profile)),
        fixed_ms=max(0.0, rank.batch_split.fixed_ns / 1e6) if rank and rank.batch_split else None,
        optimizer_s=optimizer_s(
            rank, case.global_batch_size / summary.samples_per_second, report.hardware_profile
        ),
    )


def _software(report: Report) -> str:
    """``torch 2.13.0+cu130, CUDA 13.0, cuDNN 9.20.0``"""
    facts = report.environment.software
    named = (("torch", facts.torch), ("CUDA", facts.cuda), ("cuDNN", facts.cudnn))
    return ", ".join(f"{name} {version}" for name, version in named if version)


def _log_half(summary: CaseSummary) -> float:
    """Half of an 80 % interval out of the report's of 95 %, which is Student's t on the log scale.

    Over steps of one attempt their effective number is not known; the normal law narrows least of all.
    """
    rate, interval = summary.samples_per_second, summary.samples_per_second_interval
    if interval is None or not 0 < interval.low <= rate <= interval.high:
        return _UNKNOWN_LOG_HALF
    degrees = summary.num_attempts - 1 if summary.interval_basis == "attempts" else math.inf
    narrower = t_quantile(_TAIL, degrees) / t_quantile(_TAIL_OF_REPORTS, degrees)
    return narrower * max(math.log(rate / interval.low), math.log(interval.high / rate))


def _power_w(summary: CaseSummary, num_devices: int) -> float | None:
    """So that a sample takes the joules that the report says; the driver's counter misses nothing between
    two samples of the power."""
    if summary.joules_per_sample is None:
        return summary.power_w
    return summary.joules_per_sample * summary.samples_per_second / num_devices


def _parameters(rank: RankResult | None) -> int | None:
    return rank.flops.num_parameters if rank and rank.flops else None


def _moved(rank: RankResult | None) -> tuple[tuple[int, int], ...]:
    """The update of the weights is left out: with more micro-batches a sample has less of it."""
    step = rank.profile if rank else None
    return tuple(
        (operator.least_bytes, max(1, operator.num_calls))
        for operator in (step.operators if step else ())
        if operator.least_bytes and operator.operator_class != "optimizer"
    )


def _input_share(rank: RankResult | None) -> float:
    phases = rank.phases if rank else None
    if phases is None:
        return 0.0
    waiting_ns = phases.input_wait_ns + phases.host_to_device_ns
    return waiting_ns / phases.whole_ns if phases.whole_ns else 0.0


def _compute_share(rank: RankResult | None, reachable: Rates | None) -> float | None:
    """Products left of the ridge scale with bandwidth, not with arithmetic. Without rates all count."""
    profile = rank.profile if rank else None
    if profile is None or not sum(entry.time_ns for entry in profile.operators):
        return None
    return sum(
        place.share
        for place in places(profile, reachable)
        if place.operator_class in _COMPUTE and place.bound != "memory-bandwidth"
    )
