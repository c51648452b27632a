"""The one door to the NVIDIA driver: what a device is, and what it does right now.

Without the binding, the library or the driver there are no devices and a reason, never an exception. Every
field stands on its own: what a device refuses for good (not supported, a function that an old driver lacks,
no permission, the device lost) is ``None`` and is not asked again; what fails once is ``None`` once.

Two kinds of reading are costly, so the caller says when to take them, and they are ``None`` in between:
each direction of PCIe traffic blocks in the driver for about 20 ms while bytes are counted, and the list of
processes takes two trips into the driver.

Processes: within a container the driver may number them as the machine does and not as the container does.
Then the worker's own number never shows up on the device, its own process would look like a foreign one, and
nothing can be told. So the count stays ``None`` until one of the own processes has been seen on the device
once. Processes of other containers may be hidden altogether: a count of 0 means that none is visible.
"""

from __future__ import annotations

import threading
from types import ModuleType
from typing import Any, Literal, NamedTuple

from benchbox.measure.gpm import Gpm
from benchbox.measure.nvml_ask import Asker, known_32, known_64, scaled
from benchbox.schema import DeviceFacts

PcieDirection = Literal["tx", "rx"]


class DeviceSample(NamedTuple):
    """One reading of what changes; fields and units as in :class:`benchbox.schema.DeviceTelemetry`."""

    memory_used_bytes: float | None = None
    utilization_gpu_pct: float | None = None
    utilization_memory_pct: float | None = None
    power_w: float | None = None
    energy_j: float | None = None
    temperature_c: float | None = None
    clock_sm_mhz: float | None = None
    clock_memory_mhz: float | None = None
    throttle_reasons: float | None = None
    power_limit_pct: float | None = None
    pcie_tx_bytes_per_s: float | None = None
    pcie_rx_bytes_per_s: float | None = None
    sm_activity_pct: float | None = None
    tensor_activity_pct: float | None = None
    dram_activity_pct: float | None = None
    num_foreign_processes: float | None = None


class Nvml:
    """The driver, opened once. ``devices`` holds every GPU and, after its GPU, every MIG slice."""

    def __init__(self) -> None:
        self.devices: tuple[NvmlDevice, ...] = ()
        self.driver_version: str | None = None
        self.unavailable_reason: str | None = None
        """Why there is no driver to ask; ``None`` when it answered, whether it has devices or not."""
        self._pynvml: ModuleType | None = None
        self._left_to: threading.Thread | None = None
        try:
            import pynvml
        except ImportError as error:
            self.unavailable_reason = f"the NVML binding cannot be imported: {error}"
            return
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            self.unavailable_reason = f"the NVIDIA driver cannot be opened: {error}"
            return
        self._pynvml = pynvml
        self.driver_version = Asker(pynvml).ask("driver", pynvml.nvmlSystemGetDriverVersion)
        self.devices = tuple(_list_devices(pynvml))

    def find(self, uuid: str) -> NvmlDevice | None:
        """The device with this UUID, with or without ``GPU-`` or ``MIG-`` before it, in any case; ``None``
        where there is none or the driver is stuck.

        Numbers would not do: NVML counts all devices in bus order and ignores ``CUDA_VISIBLE_DEVICES``.
        """
        if self.is_stuck():
            return None
        wanted = _bare_uuid(uuid)
        return next((d for d in self.devices if d.uuid is not None and _bare_uuid(d.uuid) == wanted), None)

    def leave_to(self, thread: threading.Thread) -> None:
        """Leave the driver alone for as long as ``thread``, which does not come back from it, is alive."""
        self._left_to = thread

    def is_stuck(self) -> bool:
        """Whether the driver is left to a thread that still has not come back from it."""
        return self._left_to is not None and self._left_to.is_alive()

    def close(self) -> None:
        """Give the driver back; devices must not be asked afterwards. A second call does nothing.

        A driver that is stuck is kept: taking it from under a thread that is in it may end this process.
        """
        if self._pynvml is None or self.is_stuck():
            return
        for device in self.devices:
            device.close()
        asker = Asker(self._pynvml)
        asker.ask("shutdown", self._pynvml.nvmlShutdown)
        self._pynvml = None


class NvmlDevice:
    """One GPU, or one MIG slice of it."""

    def __init__(self, pynvml: ModuleType, handle: Any, index: int, parent: Any = None) -> None:
        self._pynvml = pynvml
        self._handle = handle
        self._asker = Asker(pynvml)
        self._ask = self._asker.ask
        self.index = index
        """NVML's number of the GPU."""
        self.uuid: str | None = self._ask("uuid", pynvml.nvmlDeviceGetUUID, handle)
        default_limit = self._ask("default limit", pynvml.nvmlDeviceGetPowerManagementDefaultLimit, handle)
        self._default_power_limit_mw = known_32(default_limit)
        self._is_mig = parent is not None
        self._gpm = Gpm(pynvml, self._asker, handle, parent)
        self._own_process_seen = False

    def facts(self) -> DeviceFacts:
        """What the device is; a fact that the driver does not tell is ``None``.

        PCIe generation and width are the best that card and slot reach together: the current ones drop when
        idle. NVML knows the number of multiprocessors of a MIG slice only.
        """
        nvml, ask, handle = self._pynvml, self._ask, self._handle
        memory = self._memory()
        capability = ask("capability", nvml.nvmlDeviceGetCudaComputeCapability, handle)
        limit = known_32(ask("limit", nvml.nvmlDeviceGetEnforcedPowerLimit, handle))
        mig = ask("mig", nvml.nvmlDeviceGetMigMode, handle)
        ecc = ask("ecc", nvml.nvmlDeviceGetEccMode, handle)
        persistence = ask("persistence", nvml.nvmlDeviceGetPersistenceMode, handle)
        slice_of = ask("attributes", nvml.nvmlDeviceGetAttributes_v2, handle) if self._is_mig else None
        max_clock = nvml.nvmlDeviceGetMaxClockInfo
        return DeviceFacts(
            index=self.index,
            name=ask("name", nvml.nvmlDeviceGetName, handle) or "unknown",
            uuid=self.uuid,
            memory_total_bytes=None if memory is None else known_64(memory.total),
            compute_capability=None if capability is None else f"{capability[0]}.{capability[1]}",
            num_multiprocessors=None if slice_of is None else slice_of.multiprocessorCount,
            power_limit_w=scaled(limit, 1e-3),
            default_power_limit_w=scaled(self._default_power_limit_mw, 1e-3),
            max_clock_sm_mhz=known_32(ask("max sm", max_clock, handle, nvml.NVML_CLOCK_SM)),
            max_clock_memory_mhz=known_32(ask("max memory", max_clock, handle, nvml.NVML_CLOCK_MEM)),
            mig_enabled=True if self._is_mig else (None if mig is None else bool(mig[0])),
            ecc_enabled=None if ecc is None else bool(ecc[0]),
            persistence_mode=None if persistence is None else bool(persistence),
            pcie_gen=known_32(ask("pcie gen", nvml.nvmlDeviceGetMaxPcieLinkGeneration, handle)),
            pcie_width=known_32(ask("pcie width", nvml.nvmlDeviceGetMaxPcieLinkWidth, handle)),
        )

    def sample(
        self, *, own_pids: frozenset[int] | None = None, pcie: PcieDirection | None = None
    ) -> DeviceSample:
        """Read every field once; GPM activities are means since the last call, ``None`` in the first.

        Args:
            own_pids: processes that belong on the device; ``None`` leaves the list of processes unread.
            pcie: the direction to measure in this call, for about 20 ms; ``None`` for neither.
        """
        nvml, ask, handle = self._pynvml, self._ask, self._handle
        memory = self._memory()
        utilization = ask("utilization", nvml.nvmlDeviceGetUtilizationRates, handle)
        limit = known_32(ask("limit", nvml.nvmlDeviceGetEnforcedPowerLimit, handle))
        default = self._default_power_limit_mw
        temperature = ask("temperature", nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU)
        activity = self._gpm.activity_since_last()
        return DeviceSample(
            memory_used_bytes=None if memory is None else known_64(memory.used),
            utilization_gpu_pct=None if utilization is None else known_32(utilization.gpu),
            utilization_memory_pct=None if utilization is None else known_32(utilization.memory),
            power_w=scaled(known_32(self._power_mw()), 1e-3),
            energy_j=scaled(known_64(ask("energy", nvml.nvmlDeviceGetTotalEnergyConsumption, handle)), 1e-3),
            temperature_c=known_32(temperature),
            clock_sm_mhz=known_32(ask("sm", nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM)),
            clock_memory_mhz=known_32(
                ask("memory clock", nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_MEM)
            ),
            throttle_reasons=self._throttle_reasons(),
            power_limit_pct=100 * limit / default if limit is not None and default else None,
            pcie_tx_bytes_per_s=self._pcie("tx") if pcie == "tx" else None,
            pcie_rx_bytes_per_s=self._pcie("rx") if pcie == "rx" else None,
            sm_activity_pct=activity[0],
            tensor_activity_pct=activity[1],
            dram_activity_pct=activity[2],
            num_foreign_processes=None if own_pids is None else self._foreign_processes(own_pids),
        )

    def close(self) -> None:
        """Give the device's sample buffers back."""
        self._gpm.close()

    def _memory(self) -> Any:
        """Memory without the driver's own reserve; an old driver counts that as used, too."""
        nvml, handle = self._pynvml, self._handle
        now = self._ask("memory v2", nvml.nvmlDeviceGetMemoryInfo, handle, nvml.nvmlMemory_v2)
        return now if now is not None else self._ask("memory", nvml.nvmlDeviceGetMemoryInfo, handle)

    def _power_mw(self) -> int | None:
        """Power at this moment; where it is not known so, NVML's own, from Ampere on a mean over a second."""
        power: int | None = self._ask("power now", self._instant_power_mw)
        if power is None:
            power = self._ask("power", self._pynvml.nvmlDeviceGetPowerUsage, self._handle)
        return power

    def _instant_power_mw(self) -> int:
        nvml = self._pynvml
        (field,) = nvml.nvmlDeviceGetFieldValues(self._handle, [nvml.NVML_FI_DEV_POWER_INSTANT])
        if field.nvmlReturn != nvml.NVML_SUCCESS:
            raise nvml.NVMLError(field.nvmlReturn)
        return int(field.value.uiVal)

    def _throttle_reasons(self) -> int | None:
        nvml, handle = self._pynvml, self._handle
        reasons = self._ask("event reasons", nvml.nvmlDeviceGetCurrentClocksEventReasons, handle)
        if reasons is None:  # the name before driver 535
            reasons = self._ask("reasons", nvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle)
        return known_64(reasons)

    def _pcie(self, direction: PcieDirection) -> float | None:
        nvml = self._pynvml
        counter = nvml.NVML_PCIE_UTIL_TX_BYTES if direction == "tx" else nvml.NVML_PCIE_UTIL_RX_BYTES
        value = self._ask(f"pcie {direction}", nvml.nvmlDeviceGetPcieThroughput, self._handle, counter)
        return scaled(known_32(value), 1024)

    def _foreign_processes(self, own_pids: frozenset[int]) -> int | None:
        nvml, handle = self._pynvml, self._handle
        found = self._ask("processes", nvml.nvmlDeviceGetComputeRunningProcesses_v3, handle)
        if found is None:
            found = self._ask("processes v2", nvml.nvmlDeviceGetComputeRunningProcesses_v2, handle)
        if found is None:
            return None
        pids = {process.pid for process in found}
        self._own_process_seen = self._own_process_seen or not pids.isdisjoint(own_pids)
        return len(pids - own_pids) if self._own_process_seen else None


def _list_devices(pynvml: ModuleType) -> list[NvmlDevice]:
    """A device whose handle the driver refuses (lost, or not ours to see) is left out."""
    ask = Asker(pynvml).ask
    devices = []
    for index in range(ask("count", pynvml.nvmlDeviceGetCount) or 0):
        handle = ask(f"handle {index}", pynvml.nvmlDeviceGetHandleByIndex, index)
        if handle is None:
            continue
        devices.append(NvmlDevice(pynvml, handle, index))
        num_slices = ask(f"slices {index}", pynvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0
        for number in range(num_slices):
            mig = ask(f"mig {index} {number}", pynvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, number)
            if mig is not None:
                devices.append(NvmlDevice(pynvml, mig, index, parent=handle))
    return devices


def _bare_uuid(uuid: str) -> str:
    bare = uuid.strip().lower()
    return bare.removeprefix("mig-").removeprefix("gpu-")
