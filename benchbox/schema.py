"""Every record that crosses a file or a process, and its JSON form.

All records are frozen and refuse unknown fields. ``None`` means unknown, never zero. Units stand in the
names. Clock readings (``*_at_ns``) come from the machine's monotonic clock and can be compared between
processes of one machine, never between machines.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

SCHEMA_VERSION = 1

Count = Annotated[int, Meta(ge=0)]
PositiveInt = Annotated[int, Meta(ge=1)]
NonNegative = Annotated[float, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]

DataSource = Literal["device", "host", "loader", "folder", "digits"]
Precision = Literal["fp32", "tf32", "bf16", "fp16"]
Strategy = Literal["single", "ddp", "zero1", "zero2", "zero3", "zero2-offload", "zero3-offload", "fsdp2"]
MemoryFormat = Literal["contiguous", "channels_last"]
HostAllocator = Literal["tuned", "system"]
Outcome = Literal["ok", "oom", "unsupported", "timeout", "crashed", "invalid"]
WarmupEnd = Literal["settled", "step-cap", "time-cap"]
StopReason = Literal["confidence-interval", "noise-stable", "time-budget", "step-cap"]
Confidence = Literal["high", "medium", "low"]


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all records."""


# ---------------------------------------------------------------- what will run


class Case(Record):
    """One configuration to train. ``case_id`` is a hash of what all other fields mean."""

    case_id: str
    model: str
    data: DataSource
    per_device_batch_size: PositiveInt
    precision: Precision
    gradient_checkpointing: bool
    strategy: Strategy
    world_size: PositiveInt
    gradient_accumulation_steps: PositiveInt
    memory_format: MemoryFormat
    compile: bool
    input_shape: tuple[PositiveInt, ...]
    """Shape of one sample, channels first; one number for a flat vector."""
    num_classes: PositiveInt
    hidden_size: PositiveInt | None
    """Width of the ``mlp``'s hidden layer; ``None`` for every other model."""
    learning_rate: Positive
    seed: Count
    data_dir: str | None
    """Folder of class folders, as the suite writes it (relative to the suite's file)."""
    num_generated_images: PositiveInt | None
    """``folder`` data without ``data_dir``: so many seeded JPEGs are made in the run's own folder."""
    num_loader_workers: Count | None
    """DataLoader processes; ``None`` where the data needs no loader."""

    @property
    def global_batch_size(self) -> int:
        """Samples that one optimizer step consumes over all ranks."""
        return self.per_device_batch_size * self.gradient_accumulation_steps * self.world_size


class MeasureSettings(Record):
    """How each attempt is measured: the suite's ``[measure]`` table with its defaults."""

    repetitions: PositiveInt = 3
    max_seconds: Positive = 20.0
    """Per attempt, warm-up included; the extra passes come on top."""
    min_warmup_steps: PositiveInt = 3
    max_warmup_steps: PositiveInt = 200
    min_measured_steps: PositiveInt = 5
    max_measured_steps: PositiveInt = 10_000
    ci_target_pct: Positive | None = None
    """Half-width of the 95 % interval at which measuring stops; ``None``: 0.5 on a GPU, 2 on a CPU."""
    telemetry_hz: Annotated[float, Meta(ge=0, le=50)] = 10.0
    """Samples a second; 0 turns telemetry off."""
    timeout_s: Positive | None = None
    """An attempt that lasts longer is ended as ``timeout``; ``None``: 5 x max_seconds + 120."""
    host_allocator: HostAllocator = "tuned"
    num_threads: PositiveInt | None = None
    """Arithmetic threads of the worker; ``None``: one for each processor that it may use."""
    cudnn_benchmark: bool = True
    num_phase_steps: Count = 5
    """Steps of the separate pass that times phases; 0 leaves it out."""
    num_trajectory_steps: Count = 4
    """Steps of the separate pass that compares losses with fp32; 0 leaves it out."""

    @property
    def effective_timeout_s(self) -> float:
        """The time after which an attempt counts as hung."""
        return self.timeout_s if self.timeout_s is not None else 5 * self.max_seconds + 120


class Suite(Record):
    """What a suite file means once its axes are crossed."""

    name: str
    cases: tuple[Case, ...]
    measure: MeasureSettings
    order_seed: Count
    """Seed of the order in which attempts run."""


class PrecisionRates(Record):
    """TFLOP/s by precision. Tensor-core rates accumulate in fp32. Dense: sparse figures appear nowhere."""

    fp32: Positive | None = None
    tf32: Positive | None = None
    bf16: Positive | None = None
    fp16: Positive | None = None
    fp8: Positive | None = None


class ReachedRates(Record):
    """What probes reached on the device itself: the ceiling that is there, beside the one that is sold."""

    matmul_tflops: PrecisionRates
    conv_tflops: PrecisionRates
    copy_gb_per_s: Positive | None
    """Bytes read plus bytes written by a device-to-device copy (host memory on a CPU)."""
    host_to_device_gb_per_s: Positive | None
    num_threads: PositiveInt | None = None


class HardwareProfile(Record):
    """The facts about one device that figures are set against."""

    name: str
    kind: Literal["gpu", "cpu"]
    vendor: str
    architecture: str | None
    match_names: tuple[str, ...]
    """Names as the driver or torch prints them; matched whole, never as a part of a longer name."""
    sources: tuple[str, ...]
    confidence: Confidence
    compute_capability: str | None = None
    form_factor: str | None = None
    peak_dense_tflops: PrecisionRates = PrecisionRates()
    """The vendor's figures; all ``None`` in a profile that was only measured."""
    memory_gib: Positive | None = None
    """Nominal memory."""
    memory_mib_reported: tuple[PositiveInt, ...] = ()
    """Totals that the driver has been seen to report; they tell variants of one name apart."""
    memory_bandwidth_gb_per_s: Positive | None = None
    num_multiprocessors: PositiveInt | None = None
    """Multiprocessors of a GPU, processors used on a CPU."""
    l2_mib: Positive | None = None
    boost_clock_mhz: Positive | None = None
    tdp_w: Positive | None = None
    nvlink_gb_per_s: Positive | None = None
    """Sum of both directions over all links."""
    pcie_gen: PositiveInt | None = None
    reached: ReachedRates | None = None
    disagreements: tuple[str, ...] = ()
    notes: str = ""


# ---------------------------------------------------------------- what the worker is told and answers


class WorkerTask(Record):
    """``case.json``: all that one worker process needs to know."""

    case: Case
    measure: MeasureSettings
    attempt: Count
    device: str
    """``cpu`` or ``cuda:0``; the launcher has made the chosen GPU number 0."""
    extra_passes: bool
    """Whether this attempt also times phases and compares losses (the first of a case does)."""
    run_dir: str
    """Folder for what attempts share: generated images, the fp32 loss trajectories."""
    attempt_dir: str
    """Folder for this attempt's own files."""
    import_dirs: tuple[str, ...]
    """Where the user's own model may be imported from, searched last."""
    data_root: str
    """The folder that a relative ``data_dir`` starts from."""


class Window(Record):
    """One stretch of measured steps with nothing but steps in it."""

    start_at_ns: Count
    end_at_ns: Count
    num_steps: PositiveInt


class PhaseTimes(Record):
    """Medians over the steps of a pass of their own, per optimizer step."""

    num_steps: PositiveInt
    input_wait_ns: Count
    host_to_device_ns: Count
    forward_ns: Count
    backward_ns: Count
    optimizer_ns: Count


class LossCheck(Record):
    """The loss trajectory of a fresh seeded model, dropout off, against plain fp32 on the same batches."""

    losses: tuple[float | None, ...]
    """One per optimizer step; ``None`` stands for NaN or infinity."""
    digest: str
    """Hash of the losses, each rounded to five significant digits."""
    reference_losses: tuple[float | None, ...] | None
    tolerance_rel: Positive
    agrees_with_fp32: bool | None
    """``None`` where it could not be told; ``reason`` says why."""
    reason: str | None
    dropout: Literal["off"] = "off"


class WorkerMemory(Record):
    """Peaks up to the end of the measured windows; on a CPU torch keeps no account of its own."""

    peak_memory_allocated_bytes: Count | None
    peak_memory_reserved_bytes: Count | None
    peak_host_rss_bytes: Count | None


class HostUsage(Record):
    """What the kernel charged to the worker process within the measured windows."""

    cpu_user_s: NonNegative
    cpu_kernel_s: NonNegative
    minor_page_faults: Count
    major_page_faults: Count


class Flops(Record):
    """Exact counts for one optimizer step on one device."""

    model_flops_per_step: Count
    hardware_flops_per_step: Count
    """With the recomputation of gradient checkpointing; equal to the model's without it."""
    num_parameters: Count


class RankResult(Record):
    """``rank{N}.json``: what one worker process measured."""

    rank: Count
    outcome: Outcome
    reason: str | None
    process_start_at_ns: Count
    ready_at_ns: Count | None
    """When the model stood and the first step could begin."""
    finished_at_ns: Count
    extra_passes_s: NonNegative
    warmup_s: NonNegative = 0.0
    warmup_step_time_ns: tuple[Count, ...] = ()
    warmup_end: WarmupEnd | None = None
    step_time_ns: tuple[Count, ...] = ()
    """Every measured optimizer step, in order."""
    windows: tuple[Window, ...] = ()
    stop_reason: StopReason | None = None
    num_threads: PositiveInt | None = None
    first_loss: float | None = None
    """Of the first warm-up step."""
    last_loss: float | None = None
    """Of the last measured step."""
    memory: WorkerMemory | None = None
    host_usage: HostUsage | None = None
    phases: PhaseTimes | None = None
    loss_check: LossCheck | None = None
    flops: Flops | None = None
    flops_unknown_reason: str | None = None


# ---------------------------------------------------------------- what the controller adds


class DeviceTelemetry(Record):
    """Samples of one device within the measured windows. Columns are equally long; a column the device
    lacks is ``None``, a sample that failed is ``None`` in its column."""

    uuid: str
    sample_at_ns: tuple[Count, ...]
    memory_used_bytes: tuple[Count | None, ...] | None = None
    utilization_gpu_pct: tuple[NonNegative | None, ...] | None = None
    """Share of time in which some kernel ran: shows idleness, never efficiency."""
    utilization_memory_pct: tuple[NonNegative | None, ...] | None = None
    power_w: tuple[NonNegative | None, ...] | None = None
    energy_j: tuple[NonNegative | None, ...] | None = None
    """The device's running counter."""
    temperature_c: tuple[float | None, ...] | None = None
    clock_sm_mhz: tuple[NonNegative | None, ...] | None = None
    clock_memory_mhz: tuple[NonNegative | None, ...] | None = None
    throttle_reasons: tuple[Count | None, ...] | None = None
    """NVML's bit mask."""
    power_limit_pct: tuple[NonNegative | None, ...] | None = None
    """Enforced power limit as a share of the device's default."""
    pcie_tx_bytes_per_s: tuple[NonNegative | None, ...] | None = None
    pcie_rx_bytes_per_s: tuple[NonNegative | None, ...] | None = None
    sm_activity_pct: tuple[NonNegative | None, ...] | None = None
    tensor_activity_pct: tuple[NonNegative | None, ...] | None = None
    dram_activity_pct: tuple[NonNegative | None, ...] | None = None
    num_foreign_processes: tuple[Count | None, ...] | None = None
    """Processes on the device that are not the worker's."""


class HostTelemetry(Record):
    """Samples of the host within the measured windows; columns as in :class:`DeviceTelemetry`."""

    sample_at_ns: tuple[Count, ...]
    host_cpu_user_pct: tuple[NonNegative | None, ...] | None = None
    """Of all processors together."""
    host_cpu_kernel_pct: tuple[NonNegative | None, ...] | None = None
    worker_cpu_user_pct: tuple[NonNegative | None, ...] | None = None
    """The worker and its children; 100 is one processor."""
    worker_cpu_kernel_pct: tuple[NonNegative | None, ...] | None = None
    worker_page_faults: tuple[Count | None, ...] | None = None
    """Running count over the worker and its children."""
    worker_rss_bytes: tuple[Count | None, ...] | None = None
    load_1min: tuple[NonNegative | None, ...] | None = None


class AttemptResult(Record):
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


class Interval(Record):
    """A 95 % interval."""

    low: float
    high: float


class CaseSummary(Record):
    """Derived from the raw times of a case's ``ok`` attempts; the raw times stay beside it."""

    samples_per_second: NonNegative
    """Global batch over the slowest rank's mean step time; the middle of the attempts."""
    samples_per_second_interval: Interval
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
    joules_per_sample: NonNegative | None
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
    overhead_s: NonNegative | None
    """The middle of the attempts' overheads."""


class CaseResult(Record):
    """A case, how it ended, and everything measured."""

    case: Case
    outcome: Outcome | None
    """``None``: the run ended before this case was finished."""
    reason: str | None
    attempts: tuple[AttemptResult, ...]
    summary: CaseSummary | None
    hints: tuple[str, ...] = ()


class DeviceFacts(Record):
    """One accelerator as driver and torch describe it."""

    index: Count
    name: str
    uuid: str | None = None
    memory_total_bytes: Count | None = None
    compute_capability: str | None = None
    num_multiprocessors: Count | None = None
    power_limit_w: NonNegative | None = None
    default_power_limit_w: NonNegative | None = None
    max_clock_sm_mhz: NonNegative | None = None
    max_clock_memory_mhz: NonNegative | None = None
    mig_enabled: bool | None = None
    ecc_enabled: bool | None = None
    persistence_mode: bool | None = None
    pcie_gen: Count | None = None
    pcie_width: Count | None = None


class TorchFacts(Record):
    """What the worker's interpreter says of itself."""

    python: str
    torch: str
    deepspeed: str | None
    numpy: str | None
    cuda: str | None
    cudnn: str | None
    nccl: str | None
    cpu_capability: str | None
    has_mkldnn: bool
    num_threads: PositiveInt
    num_interop_threads: PositiveInt
    cudnn_benchmark: bool
    fp32_matmul_allows_tf32: bool
    """As the fp32 cases run, not torch's default; a ``tf32`` case turns it on."""
    fp32_cudnn_allows_tf32: bool
    devices: tuple[DeviceFacts, ...]


class HostFacts(Record):
    """The machine around the devices."""

    cpu_model: str
    num_physical_cores: PositiveInt | None
    num_usable_processors: PositiveInt
    memory_total_bytes: Count
    memory_limit_bytes: Count | None
    """The cgroup's limit."""
    kernel: str
    os: str
    libc: str
    governor: str | None
    cpu_max_mhz: NonNegative | None
    container: str | None
    virtual_machine: bool | None


class Environment(Record):
    """Everything that may explain why two reports differ."""

    benchbox: str
    device: str
    """``cpu`` or ``cuda``: what this run trained on."""
    driver: str | None
    host: HostFacts
    software: TorchFacts
    devices: tuple[DeviceFacts, ...]
    """The devices that this run trained on, NVML's facts and torch's together; empty on a CPU."""
    host_allocator: HostAllocator
    worker_variables: dict[str, str]
    """Environment variables that change what a worker does, as the launcher set or found them."""


class TelemetryCost(Record):
    """What watching costs, measured: the sampler on and off by turns within one extra attempt."""

    case_id: str
    step_time_on_ns: Count
    step_time_off_ns: Count
    num_steps_on: PositiveInt
    num_steps_off: PositiveInt
    effect_pct: float
    effect_pct_interval: Interval
    sampler_cpu_pct: NonNegative
    """Of one processor, while on."""


class JournalHeader(Record):
    """The journal's first line: what the lines below belong to."""

    schema_version: PositiveInt
    suite: Suite
    environment: Environment


class Report(Record):
    """``report.json``: one run of one suite on one machine."""

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
