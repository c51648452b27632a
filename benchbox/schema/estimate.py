"""Memory of a case, foretold without a device."""

from __future__ import annotations

from typing import Literal

from benchbox.schema._base import Count, Interval, PositiveInt, Record
from benchbox.schema.case import Case


class MemoryEstimate(Record, frozen=True, kw_only=True):
    """Bytes on one device, part by part, and the peak that they make.

    Each part is the most that it takes at any time of a step. They do not all stand at the same time, so they
    do not add up to the peak.
    """

    parameters_bytes: Count
    """Of one rank; buffers are in it."""
    gradients_bytes: Count
    optimizer_state_bytes: Count
    """The fp32 copy of the weights that DeepSpeed keeps is in it."""
    saved_activations_bytes: Count
    """What autograd keeps for the backward pass of a micro-batch, each storage once, parameters left out:
    what torch's saved-tensor hooks see. Inputs and targets are in it as far as autograd keeps them."""
    batch_bytes: Count = 0
    """Inputs and targets of a step that lie on the device, whoever keeps them."""
    largest_temporary_bytes: Count
    """The most that tensors of no other part take together."""
    communication_buffers_bytes: Count
    context_bytes: Count
    """What the framework holds before any tensor stands. Not in torch's own account. On a GPU a guess; on a
    CPU the resident size of a worker."""
    peak_allocated_bytes: Count
    """By torch's account. On a CPU, where torch keeps none, the bytes of all tensors alive at once."""
    peak_allocated_interval_bytes: Interval
    peak_reserved_bytes: Count | None = None
    """What the caching allocator holds at the end of a step; ``None`` on a CPU."""
    peak_device_bytes: Count
    """As the driver sees it: reserved memory and context. On a CPU the worker's resident size."""
    peak_device_interval_bytes: Interval
    """From what a step cannot do without to what it may take."""
    host_bytes: Count = 0
    """Of parameters, gradients and optimizer state that a strategy keeps on the host, for each rank."""
    device_memory_bytes: Count | None = None
    """What the device has, for each rank; ``None`` where no profile or device says."""
    fits: bool | None = None
    """``None`` where the interval spans what the device has, or that is not known."""
    largest_per_device_batch_size: PositiveInt | None = None
    """The largest whose whole interval is within the device's memory; ``None`` where that is not known, where
    not even one sample fits, and where memory is not a fixed part and a part for each sample."""


class CaseEstimate(Record, frozen=True, kw_only=True):
    """The estimate of one case, or why there is none."""

    case_id: str
    estimate: MemoryEstimate | None
    unknown_reason: str | None = None


class EstimateTask(Record, frozen=True, kw_only=True):
    """What the process that traces is told."""

    cases: tuple[Case, ...]
    device: Literal["cpu", "gpu"]
    compute_capability: str | None
    device_memory_bytes: Count | None
    import_dirs: tuple[str, ...]
    out: str
    """The file of answers, a :class:`CaseEstimate` a line in the order of ``cases``, each written when it is
    known."""


class SuiteEstimate(Record, frozen=True, kw_only=True):
    """What ``benchbox estimate --format json`` prints."""

    suite: str
    device: str
    """The device or profile that the estimates are for."""
    device_memory_bytes: Count | None
    cases: tuple[Case, ...]
    estimates: tuple[CaseEstimate, ...]
    """In the order of ``cases``."""
