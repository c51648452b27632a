"""Everything that may explain why two reports differ."""

from __future__ import annotations

from benchbox.schema._base import Count, HostAllocator, NonNegative, PositiveInt, Record


class DeviceFacts(Record, frozen=True, kw_only=True):
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


class TorchFacts(Record, frozen=True, kw_only=True):
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
    cpu_flushes_denormals: bool | None = None
    """As workers run: torch takes numbers below the smallest normal one for zero, on a CPU. ``None`` in a
    report of a time when nobody looked."""
    devices: tuple[DeviceFacts, ...]


class HostFacts(Record, frozen=True, kw_only=True):
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


class NodeEnvironment(Record, frozen=True, kw_only=True):
    """One of the other machines of a run on several; fields as in :class:`Environment`, which is node 0's.

    What must be the same everywhere stands there alone: benchbox, the kind of device, the driver.
    """

    node: PositiveInt
    host: HostFacts
    software: TorchFacts
    devices: tuple[DeviceFacts, ...]
    worker_variables: dict[str, str]
    telemetry_unavailable_reason: str | None = None


class Environment(Record, frozen=True, kw_only=True):
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
    """Environment variables that change what a worker does, as the launcher set or found them. One that it
    took away says so, with the value that it had."""
    telemetry_unavailable_reason: str | None = None
    """Why the driver could not be asked about the device; ``None`` where it could, and on a CPU."""
    nodes: tuple[NodeEnvironment, ...] = ()
    """The other machines of a run on several, by number."""
