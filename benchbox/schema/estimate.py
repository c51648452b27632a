"""Memory of a case, foretold without a device."""

from __future__ import annotations

from benchbox.schema._base import Count, Interval, PositiveInt, Record


class MemoryEstimate(Record, frozen=True, kw_only=True):
    """Bytes on one device, part by part, and the peak that they make."""

    parameters_bytes: Count
    gradients_bytes: Count
    optimizer_state_bytes: Count
    saved_activations_bytes: Count
    """What autograd keeps for the backward pass, each storage once; inputs and targets are in it."""
    largest_temporary_bytes: Count
    communication_buffers_bytes: Count
    context_bytes: Count
    """What the framework holds before any tensor stands: kernels, workspaces. Not in torch's own account."""
    peak_allocated_bytes: Count
    """By torch's account."""
    peak_allocated_interval_bytes: Interval
    peak_device_bytes: Count
    """As the driver sees it: reserved memory and context too."""
    peak_device_interval_bytes: Interval
    host_bytes: Count = 0
    """Of parameters and optimizer state that a strategy keeps on the host, for each rank."""
    device_memory_bytes: Count | None = None
    """What the device has; ``None`` where no profile or device says."""
    fits: bool | None = None
    """``None`` where the interval spans what the device has, or that is not known."""
    largest_per_device_batch_size: PositiveInt | None = None
    """Foretold; ``None`` where the device's memory is not known or not even one sample fits."""
