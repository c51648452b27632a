"""Samples taken around the worker."""

from __future__ import annotations

from benchbox.schema._base import Count, Measured, NonNegative, Record

THROTTLE_REASONS: dict[str, int] = {
    "gpu_idle": 0x1,
    "applications_clocks_setting": 0x2,
    "sw_power_cap": 0x4,
    "hw_slowdown": 0x8,
    "sync_boost": 0x10,
    "sw_thermal_slowdown": 0x20,
    "hw_thermal_slowdown": 0x40,
    "hw_power_brake_slowdown": 0x80,
    "display_clock_setting": 0x100,
    "board_limit": 0x200,
    "reliability": 0x400,
}
"""Bits of :attr:`DeviceTelemetry.throttle_reasons`, as ``nvml.h`` numbers its clocks event reasons."""

SLOWING_REASONS_MASK = (
    THROTTLE_REASONS["sw_power_cap"]
    | THROTTLE_REASONS["hw_slowdown"]
    | THROTTLE_REASONS["sw_thermal_slowdown"]
    | THROTTLE_REASONS["hw_thermal_slowdown"]
    | THROTTLE_REASONS["hw_power_brake_slowdown"]
)
"""The bits under which a sample counts as throttled: power or heat holds the clocks below what was asked
for. An idle device, clocks that somebody set, and clocks kept in step with another device or a display are as
they are meant to be; the last two bits have a name in NVIDIA's binding and no description."""


class DeviceTelemetry(Record, frozen=True, kw_only=True):
    """Samples of one device within the measured windows. Columns are equally long; a column the device
    lacks is ``None``, a sample that failed is ``None`` in its column."""

    uuid: str
    sample_at_ns: tuple[Count, ...]
    memory_used_bytes: tuple[Count | None, ...] | None = None
    utilization_gpu_pct: tuple[NonNegative | None, ...] | None = None
    """Share of time in which some kernel ran: shows idleness, never efficiency."""
    utilization_memory_pct: tuple[NonNegative | None, ...] | None = None
    power_w: tuple[Measured | None, ...] | None = None
    energy_j: tuple[Measured | None, ...] | None = None
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
    node: Count = 0
    """The machine that the device is in, whose clock stamped the samples."""


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
    node: Count = 0
