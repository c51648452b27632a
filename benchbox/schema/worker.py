"""What one worker process is told and what it answers."""

from __future__ import annotations

from typing import Literal

from benchbox.schema._base import (
    Count,
    NonNegative,
    Outcome,
    Positive,
    PositiveInt,
    Record,
    StopReason,
    WarmupEnd,
)
from benchbox.schema.case import Case, MeasureSettings
from benchbox.schema.evidence import AllReduceRate, BatchSplit, Communication, InputAblation, ProfiledStep

ANOTHER_RANK_ENDED = "another rank ended"
"""With this begins the reason of a rank that failed only because a peer was gone."""
PASSES_CUT_SHORT = "the process was ended during its extra passes"
"""Why they failed, as a rank writes it before they begin: its word until it has another."""


class NodePlace(Record, frozen=True, kw_only=True):
    """Where one machine stands among those that run an attempt together."""

    node: Count
    num_nodes: PositiveInt
    num_local_ranks: PositiveInt
    """The same on every node."""
    local_address: str
    master_address: str
    """Of node 0, as this node reaches it."""
    master_port: PositiveInt


class WorkerTask(Record, frozen=True, kw_only=True):
    """``case.json``: all that one worker process needs to know."""

    case: Case
    measure: MeasureSettings
    attempt: Count
    device: str
    """``cpu`` or ``cuda:0``; the launcher has made the chosen GPU number 0. Of several local ranks each takes
    the GPU of its own local number."""
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
    memory_limit_bytes: PositiveInt | None = None
    """Of private memory of each process (RLIMIT_DATA); what goes beyond it is out of memory."""
    trace_path: str | None = None
    """Where the Chrome trace of the profiled step goes; ``None``: it is not kept."""
    probe_share_s: NonNegative = 0.0
    """This case's share of what the run's probe took, for the time that its passes may take."""
    place: NodePlace | None = None
    """``None``: all ranks run on this machine."""

    @property
    def local_ranks(self) -> range:
        """The numbers of the ranks that run on this machine."""
        if self.place is None:
            return range(self.case.world_size)
        first = self.place.node * self.place.num_local_ranks
        return range(first, first + self.place.num_local_ranks)


class Window(Record, frozen=True, kw_only=True):
    """One stretch of measured steps with nothing but steps in it."""

    start_at_ns: Count
    end_at_ns: Count
    num_steps: PositiveInt


class PhaseTimes(Record, frozen=True, kw_only=True):
    """Medians over the steps of a pass of their own, per optimizer step."""

    num_steps: PositiveInt
    input_wait_ns: Count
    host_to_device_ns: Count
    forward_ns: Count
    backward_ns: Count
    optimizer_ns: Count

    @property
    def whole_ns(self) -> int:
        """A step of that pass. Phases that else overlap add up to more than a measured step."""
        waiting_ns = self.input_wait_ns + self.host_to_device_ns
        return waiting_ns + self.forward_ns + self.backward_ns + self.optimizer_ns


class LossCheck(Record, frozen=True, kw_only=True):
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


class WorkerMemory(Record, frozen=True, kw_only=True):
    """Peaks; on a CPU torch keeps no account of its own."""

    peak_memory_allocated_bytes: Count | None
    """Torch's account within the measured windows."""
    peak_memory_reserved_bytes: Count | None
    """As above."""
    peak_host_rss_bytes: Count | None
    """The kernel's high-water mark (VmHWM) at the end of the windows: of the process's whole life up to then,
    so building the model and warming up are in it."""
    tightest_limit: Literal["RLIMIT_AS", "RLIMIT_DATA"] | None = None
    """Of the limits set for this process, the one that its peak came closest to; ``None`` without any."""
    tightest_limit_used_pct: NonNegative | None = None
    """The peak as a share of that limit."""


class HostUsage(Record, frozen=True, kw_only=True):
    """What the kernel charged to the worker process within the measured windows."""

    cpu_user_s: NonNegative
    cpu_kernel_s: NonNegative
    minor_page_faults: Count
    major_page_faults: Count
    other_cpu_pct: NonNegative | None = None
    """Of all processors of the machine: what everything but the worker used while it measured."""


class Flops(Record, frozen=True, kw_only=True):
    """Exact counts for one optimizer step on one device."""

    model_flops_per_step: Count
    hardware_flops_per_step: Count
    """With the recomputation of gradient checkpointing; equal to the model's without it."""
    num_parameters: Count


class RankResult(Record, frozen=True, kw_only=True):
    """``rank{N}.json``: what one worker process measured."""

    rank: Count
    outcome: Outcome
    reason: str | None
    process_start_at_ns: Count
    ready_at_ns: Count | None
    """When the model stood and the first step could begin."""
    finished_at_ns: Count
    extra_passes_s: NonNegative
    evidence_passes_s: NonNegative | None = None
    """The part of ``extra_passes_s`` that phases, profile, input ablation and batch split took."""
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
    extra_passes_failed_reason: str | None = None
    """Why passes after measuring are missing; what was measured before them stands."""
    local_rank: Count = 0
    node: Count = 0
    """The machine that the rank ran on, by its number in the run."""
    device_uuid: str | None = None
    """Of the GPU that the rank trained on."""
    optimizer: str | None = None
    """The class that updated the weights, e.g. ``torch.optim.Adam(fused=True)``."""
    communication: Communication | None = None
    """``None`` with one rank, and where the pass was left out."""
    all_reduce: tuple[AllReduceRate, ...] = ()
    """By bucket size; empty with one rank, and where the pass was left out."""
    profile: ProfiledStep | None = None
    batch_split: BatchSplit | None = None
    input_ablation: InputAblation | None = None
