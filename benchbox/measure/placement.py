"""Which devices, processors and variables the ranks of a case get."""

from __future__ import annotations

import os
from typing import NamedTuple

from benchbox.measure.devices import visible_devices
from benchbox.measure.host_facts import host_facts
from benchbox.plan.supported import Machine
from benchbox.schema import Case, DeviceFacts, HostFacts, MeasureSettings, TorchFacts


class Placement(NamedTuple):
    """Where the cases of a run may train; a case takes the first devices, one for each rank."""

    devices: tuple[DeviceFacts, ...]
    """Empty: on the CPU."""
    facts: TorchFacts
    num_threads: int
    """Arithmetic threads, all ranks of a case together."""
    interface: str = "lo"
    """The network that gloo's ranks meet on."""

    def machine(self) -> Machine:
        """What decides whether a case can run here."""
        return Machine(
            gpus=self.devices,
            num_usable_processors=host_facts().num_usable_processors,
            has_deepspeed=self.facts.deepspeed is not None,
        )

    def device(self) -> str:
        """What a worker is told to train on; it sees the devices of its case alone."""
        return "cuda:0" if self.devices else "cpu"

    def uuids(self, case: Case) -> tuple[str, ...]:
        """The devices to watch while ``case`` runs."""
        devices = self.devices[: case.world_size]
        return tuple(device.uuid for device in devices if device.uuid is not None)

    def worker_visible(self) -> str | None:
        """``CUDA_VISIBLE_DEVICES`` of a worker that trains alone, on the first device."""
        return visible_devices(self.devices[:1], self.facts)

    def forks_deepspeed(self, case: Case) -> bool:
        """Whether the server that forks the ranks of ``case`` shall have imported DeepSpeed.

        Not on a GPU's machine, where the import asks the driver: a fork must find CUDA untouched.
        """
        return not self.devices and case.strategy.startswith("zero")

    def rank_variables(self, case: Case, settings: MeasureSettings) -> dict[str, str]:
        """Environment of the ranks of ``case``, on top of the worker server's."""
        num_threads = settings.num_threads or max(1, self.num_threads // case.world_size)
        variables = {"OMP_NUM_THREADS": str(num_threads)} | self.group_variables()
        visible = visible_devices(self.devices[: case.world_size], self.facts)
        return variables if visible is None else variables | {"CUDA_VISIBLE_DEVICES": visible}

    def group_variables(self) -> dict[str, str]:
        """Those of them that are the same for every case."""
        variables = {} if self.devices else {"DS_ACCELERATOR": "cpu"}
        if "GLOO_SOCKET_IFNAME" not in os.environ:
            variables["GLOO_SOCKET_IFNAME"] = (
                self.interface
            )  # or gloo asks for the host's name, which may not resolve
        return variables


def default_num_threads() -> int:
    """One arithmetic thread for each physical core that this process may use."""
    return num_threads_on(host_facts())


def num_threads_on(host: HostFacts) -> int:
    """One for each physical core that may be used."""
    return min(host.num_physical_cores or host.num_usable_processors, host.num_usable_processors)
