"""Attempts, cases and the report."""

from __future__ import annotations

from typing import Literal

from benchbox.schema._base import Count, Interval, NonNegative, Outcome, Positive, PositiveInt, Record
from benchbox.schema.case import Case, Suite
from benchbox.schema.diagnosis import Diagnosis
from benchbox.schema.environment import Environment
from benchbox.schema.estimate import MemoryEstimate
from benchbox.schema.evidence import Ceilings
from benchbox.schema.hardware import HardwareProfile
from benchbox.schema.telemetry import DeviceTelemetry, HostTelemetry
from benchbox.schema.worker import RankResult


class AttemptResult(Record, frozen=True, kw_only=True):
    """One line of the journal: one repetition of one case, in a process of its own."""

    case_id: str
    attempt: Count
    outcome: Outcome
    reason: str | None
    stderr_tail: str | None
    started_at: str
    """Wall clock, ISO 8601 with zone."""
    duration_s: NonNegative
    overhead_s: NonNegative | None
    """All of ``duration_s`` that is neither warm-up, measurement nor an extra pass."""
    ranks: tuple[RankResult, ...]
    devices: tuple[DeviceTelemetry, ...]
    host: HostTelemetry | None
    """Of node 0, where the case ran on several machines."""
    other_hosts: tuple[HostTelemetry, ...] = ()
    """Of the other machines."""


class CaseSummary(Record, frozen=True, kw_only=True):
    """Derived from the raw times of a case's ``ok`` attempts; the raw times stay beside it."""

    samples_per_second: NonNegative
    """Global batch over the longest of the ranks' mean step times; the geometric mean of the attempts."""
    samples_per_second_interval: Interval | None
    """``None`` where too few steps were measured to tell."""
    interval_basis: Literal["attempts", "steps"]
    """``steps`` where there was one attempt: the interval then knows nothing of run-to-run variation."""
    num_attempts: PositiveInt
    num_measured_steps: PositiveInt
    step_time_p50_ns: Count
    step_time_p95_ns: Count
    peak_memory_allocated_bytes: Count | None
    peak_memory_reserved_bytes: Count | None
    device_memory_used_bytes: Count | None
    """Largest NVML reading within the windows."""
    peak_host_rss_bytes: Count | None
    utilization_gpu_pct: NonNegative | None
    utilization_memory_pct: NonNegative | None
    power_w: NonNegative | None
    """Of one device, the mean over samples and devices."""
    joules_per_sample: NonNegative | None
    """Of all devices together."""
    energy_source: Literal["counter", "power-integral"] | None
    throttled_samples_pct: NonNegative | None
    foreign_process_seen: bool | None
    cpu_user_pct: NonNegative | None
    """Of the worker process, 100 is one processor."""
    cpu_kernel_pct: NonNegative | None
    minor_page_faults_per_step: NonNegative | None
    model_flops_per_step: Count | None
    achieved_tflops: NonNegative | None
    """Model FLOPs over time, for one device."""
    mfu: NonNegative | None
    mfu_peak_tflops: Positive | None
    mfu_peak_precision: str | None
    ceiling_fraction: NonNegative | None
    ceiling_tflops: Positive | None
    ceiling_source: Literal["run", "profile"] | None = None
    """Whether this run's own probes reached it, or ``benchbox hw init`` did for the hardware profile."""
    overhead_s: NonNegative | None
    """The middle of the attempts' overheads."""
    slowest_rank: Count | None = None
    """The rank that the others wait for: its own work lasts longest. ``None`` with one rank, and unknown."""
    rank_spread_pct: NonNegative | None = None
    """By how much the slowest rank's own work, collectives left out, lasts longer than the quickest one's."""
    straggler_ranks: tuple[Count, ...] = ()
    """Ranks whose own work lasts clearly longer than the middle one's."""
    communication_share: float | None = None
    """Of the slowest rank's step: the time by which collectives make it longer. What overlaps with
    arithmetic, and what other ranks spend waiting for the slowest, is not in it."""
    communication_share_interval: Interval | None = None
    communication_bytes_per_step: Count | None = None
    """What each rank must send by the strategy's formula."""
    communication_bytes_per_s: NonNegative | None = None
    """These bytes over the exposed time; ``None`` where that time cannot be told from none."""


class Scaling(Record, frozen=True, kw_only=True):
    """How a case with several devices does against one device in the same report; 1.0 is ideal."""

    weak_efficiency: NonNegative | None = None
    """Rate over world size times the rate of one device with the same batch for each device."""
    weak_efficiency_interval: Interval | None = None
    weak_baseline_case_id: str | None = None
    strong_efficiency: NonNegative | None = None
    """The same against one device with the same global batch."""
    strong_efficiency_interval: Interval | None = None
    strong_baseline_case_id: str | None = None


class CaseResult(Record, frozen=True, kw_only=True):
    """A case, how it ended, and everything measured."""

    case: Case
    outcome: Outcome | None
    """``None``: the run ended before this case was finished."""
    reason: str | None
    attempts: tuple[AttemptResult, ...]
    summary: CaseSummary | None
    hints: tuple[str, ...] = ()
    scaling: Scaling | None = None
    diagnosis: Diagnosis | None = None
    memory_estimate: MemoryEstimate | None = None
    memory_estimate_unknown_reason: str | None = None


class TelemetryCost(Record, frozen=True, kw_only=True):
    """What watching costs, measured: the sampler on and off by turns within one extra attempt."""

    case_id: str
    step_time_on_ns: Count
    """The mean step."""
    step_time_off_ns: Count
    num_steps_on: PositiveInt
    num_steps_off: PositiveInt
    effect_pct: float
    effect_pct_interval: Interval
    sampler_cpu_pct: NonNegative
    """Of one processor, while on."""


class JournalHeader(Record, frozen=True, kw_only=True):
    """What the lines of a journal belong to."""

    schema_version: PositiveInt
    suite: Suite
    environment: Environment


class JournalLine(Record, frozen=True, kw_only=True, omit_defaults=True):
    """One line of ``journal.jsonl``: exactly one of these; the header comes first."""

    header: JournalHeader | None = None
    attempt: AttemptResult | None = None
    telemetry_cost: TelemetryCost | None = None
    ceilings: Ceilings | None = None


class Report(Record, frozen=True, kw_only=True):
    """``report.json``: one run of one suite, on one machine or on several alike."""

    schema_version: PositiveInt
    benchbox_version: str
    created_at: str
    complete: bool
    """False where the run was ended early; cases without outcome were not finished."""
    suite: Suite
    environment: Environment
    hardware_profile: HardwareProfile | None
    cases: tuple[CaseResult, ...]
    telemetry_cost: TelemetryCost | None
    controller_peak_rss_bytes: Count | None
    ceilings: Ceilings | None = None
    """What short probes reached on this machine at the start of the run."""
