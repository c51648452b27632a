"""What passes of their own find out about where a step's time goes, and what the machine can reach."""

from __future__ import annotations

from benchbox.schema._base import (
    Count,
    Interval,
    NonNegative,
    OperatorClass,
    Positive,
    PositiveInt,
    Precision,
    Record,
)


class Communication(Record, frozen=True, kw_only=True):
    """One rank's steps with collectives on, and with collectives that do nothing, by turns."""

    num_steps_on: PositiveInt
    num_steps_off: PositiveInt
    step_time_on_ns: Count
    """The mean step."""
    step_time_off_ns: Count
    """The mean step without collectives: this rank's own work. What it computes then means nothing."""
    step_time_off_quickest_ns: Count | None = None
    """Of the quickest block of such steps, which a disturbance of a few seconds has most likely spared. Older
    reports lack it."""
    exposed_ns: int
    """On less off. Collectives that overlap with arithmetic are not in it; noise can make it negative."""
    exposed_interval_ns: Interval
    bytes_per_step: Count
    """What this rank must send in one optimizer step, by ``bytes_formula``."""
    bytes_formula: str


class AllReduceRate(Record, frozen=True, kw_only=True):
    """The best of a few all-reduces of a bucket, in fp32, as one rank saw it."""

    num_bytes: PositiveInt
    """Of the bucket."""
    bytes_per_s: Positive
    """Bus bandwidth, as in :class:`AllReduceCeiling`."""


class OperatorTime(Record, frozen=True, kw_only=True):
    """All operators of one class in the profiled step."""

    operator_class: OperatorClass
    num_calls: Count
    time_ns: Count
    """Own time, children left out: of kernels on a GPU, of the host on a CPU."""
    flops: Count | None = None
    """``None`` where the class has no exact count."""
    least_bytes: Count | None = None
    """Every input read once and every output written once."""


class ProfiledStep(Record, frozen=True, kw_only=True):
    """One optimizer step under torch's profiler, in a pass of its own."""

    step_time_ns: Count
    """With the profiler on: longer than a measured step. Shares are what to read here."""
    operators: tuple[OperatorTime, ...]
    device_idle_ns: Count | None = None
    """Time in the step in which no kernel ran; ``None`` on a CPU."""
    num_kernels: Count | None = None


class BatchSplit(Record, frozen=True, kw_only=True):
    """Steps with the full and with half the batch, by turns: a fixed part and a part for each sample."""

    half_batch_size: PositiveInt
    num_steps: PositiveInt
    """Of each kind."""
    full_step_time_ns: Count
    half_step_time_ns: Count
    fixed_ns: int
    """Time of a step of no samples, by the straight line through both; noise can make it negative."""
    fixed_interval_ns: Interval
    per_sample_ns: int
    per_sample_interval_ns: Interval


class InputAblation(Record, frozen=True, kw_only=True):
    """Steps with the case's own input and with one batch that is already on the device, by turns."""

    num_steps: PositiveInt
    loaded_step_time_ns: Count
    on_device_step_time_ns: Count


class PrecisionCeiling(Record, frozen=True, kw_only=True):
    """The best that this machine reached in one precision; ``None`` where it cannot or was not asked."""

    precision: Precision
    matmul_tflops: Positive | None = None
    convolution_tflops: Positive | None = None
    """Of the reference model's own convolution shapes."""


class AllReduceCeiling(Record, frozen=True, kw_only=True):
    """The best all-reduce among so many ranks: over bucket sizes, of the rank that saw it slowest."""

    world_size: PositiveInt
    bytes_per_s: Positive
    """Bus bandwidth: 2 (n - 1) / n times the buffer, over the time."""


class Ceilings(Record, frozen=True, kw_only=True):
    """What short probes reached at the start of a run."""

    precisions: tuple[PrecisionCeiling, ...]
    device_copy_bytes_per_s: Positive | None = None
    """Read plus written: of a copy, on a CPU of an addition in place where that moves more."""
    host_to_device_bytes_per_s: Positive | None = None
    """From pinned memory; ``None`` on a CPU."""
    all_reduce: tuple[AllReduceCeiling, ...] = ()
    """From a pass of the cases themselves, one for each world size that any of them trained with."""
    probe_s: NonNegative = 0.0
    """How long the probes took."""
