"""Samples taken around the worker."""

from __future__ import annotations

from benchbox.schema._base import Count, NonNegative, Record


class DeviceTelemetry(Record, frozen=True, kw_only=True):
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


class HostTelemetry(Record, frozen=True, kw_only=True):
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
