"""What this machine has, without torch: its CPU and the GPUs that the driver knows."""

from __future__ import annotations

from typing import NamedTuple

from benchbox.measure.host_facts import host_facts
from benchbox.measure.nvml import Nvml


class Detected(NamedTuple):
    """One device; ``num_processors`` are usable processors of a CPU, unknown for a GPU."""

    name: str
    memory_total_bytes: int | None
    num_processors: int | None


def detect_devices() -> tuple[list[Detected], str | None]:
    """The CPU and all GPUs, and why there are no GPUs to be seen where the driver cannot be asked."""
    host = host_facts()
    devices = [Detected(host.cpu_model, host.memory_total_bytes, host.num_usable_processors)]
    nvml = Nvml()
    try:
        for device in nvml.devices:
            facts = device.facts()
            devices.append(Detected(facts.name, facts.memory_total_bytes, None))
        return devices, nvml.unavailable_reason
    finally:
        nvml.close()
