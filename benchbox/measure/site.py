"""Where attempts run: the worker server, the devices and the driver that watches them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator, Mapping, Sequence
from types import TracebackType

from benchbox.measure.attempt import Tick, unsupported, watch_attempt
from benchbox.measure.devices import find_devices, name_slice
from benchbox.measure.environment import describe_environment
from benchbox.measure.host_adam import build_host_adam, needs_host_adam
from benchbox.measure.launch import WorkerServer, worker_variables
from benchbox.measure.nvml import Nvml
from benchbox.measure.placement import Placement, default_num_threads
from benchbox.measure.sampler import Sampler
from benchbox.measure.torch_facts import ask_torch
from benchbox.plan.hardware import load_profiles, match_profile
from benchbox.plan.supported import why_unsupported
from benchbox.schema import AttemptResult, Case, HardwareProfile, MeasureSettings, WorkerTask


class Site:
    """Entering it starts a worker server and learns what this machine is.

    Args:
        cases: all that may run here; they decide how many devices the environment names.
        settings: how they are measured.
        device: as the user chose it.
        python: the interpreter that workers run in.
        variables: what its environment has besides.

    Raises (on entering):
        BadInputError: no such device.
        WorkerStartError: the worker's interpreter cannot be started.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        settings: MeasureSettings,
        device: str,
        *,
        python: str = sys.executable,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.nvml: Nvml
        self.placement: Placement
        self._cases = cases
        self._settings = settings
        self._device_choice = device
        self._python = python
        self._added_variables = dict(variables or {})
        self._servers: dict[bool, WorkerServer] = {}  # by whether it has imported DeepSpeed
        self._has_built_host_adam = False
        self._no_host_adam: str | None = None
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> Site:
        with contextlib.ExitStack() as closing:
            self.nvml = Nvml()
            closing.callback(self.nvml.close)
            closing.callback(self.close_server)
            self._start_first_server()
            self._closing = closing.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def why_unsupported(self, case: Case) -> str | None:
        """Why ``case`` cannot run here, as far as it is known before a process starts."""
        return why_unsupported(case, self._machine)

    def hardware_profile(self) -> HardwareProfile | None:
        """The profile of the device that cases train on here, or ``None``: never another device's."""
        if not self.environment.devices:
            host = self.environment.host
            return match_profile(host.cpu_model, None, load_profiles(), host.num_usable_processors)
        device = self.environment.devices[0]
        if any(other.name != device.name for other in self.environment.devices):
            return None
        return match_profile(
            device.name, device.memory_total_bytes, load_profiles(), device.num_multiprocessors
        )

    def attempt(self, task: WorkerTask) -> Generator[Tick | AttemptResult, None, None]:
        """Run ``task``; as :func:`watch_attempt`. Nothing of it is started where it cannot run here."""
        reason = self.why_unsupported(task.case)
        if reason is None and needs_host_adam(task.case):
            reason = yield from self.host_adam(task.case)
        if reason is not None:
            yield unsupported(task.case, task.attempt, reason)
            return
        server, sampler = self.running_server(task.case), self.sampler(task.case)
        yield from watch_attempt(server, task, sampler, self.rank_variables(task.case))

    def host_adam(self, case: Case) -> Generator[Tick, None, str | None]:
        """Build what ``case`` needs to update weights on the host, once; why that cannot be done."""
        if not self._has_built_host_adam:
            server, variables = self.running_server(case), self.rank_variables(case)
            self._no_host_adam = yield from build_host_adam(server, variables)
            self._has_built_host_adam = True
        return self._no_host_adam

    def rank_variables(self, case: Case) -> dict[str, str]:
        """The environment of the ranks of ``case``, on top of the server's."""
        return self.placement.rank_variables(case, self._settings)

    def sampler(self, case: Case) -> Sampler | None:
        """A new sampler for an attempt of ``case``; ``None`` with telemetry off."""
        hz = self._settings.telemetry_hz
        return Sampler(hz, self.placement.uuids(case), self.nvml) if hz > 0 else None

    def running_server(self, case: Case | None = None) -> WorkerServer:
        """The worker server for ``case``; a new one where there is none, or the last one has ended.

        Cases that need DeepSpeed have one of their own, so that the memory of the others has no part of it.
        """
        with_deepspeed = case is not None and self.placement.forks_deepspeed(case)
        server = self._servers.pop(with_deepspeed, None)
        if server is not None and server.has_ended():
            server.close()
            server = None
        if server is None:
            variables = self._variables | (self.placement.group_variables() if with_deepspeed else {})
            server = WorkerServer(variables, self._python, with_deepspeed=with_deepspeed)
        self._servers[with_deepspeed] = server
        return server

    def close_server(self) -> None:
        """End the worker servers, where there are any, with all that they started."""
        while self._servers:
            self._servers.popitem()[1].close()

    def _start_first_server(self) -> None:
        settings, num_threads = self._settings, default_num_threads()
        variables = worker_variables(settings, num_threads, None) | self._added_variables
        self._servers[False] = server = WorkerServer(variables, self._python)
        answer = ask_torch(server, cudnn_benchmark=settings.cudnn_benchmark)
        answer = answer._replace(facts=name_slice(answer.facts, self.nvml))
        chosen = find_devices(self._device_choice, answer, self.nvml)
        self.placement = self._place(Placement(chosen, answer.facts, num_threads))
        self._machine = self.placement.machine()
        visible = self.placement.worker_visible()
        self._variables = worker_variables(settings, num_threads, visible) | self._added_variables
        if self._variables != variables:
            self.close_server()
        used = max(case.world_size for case in self._cases)
        alone = all(case.strategy == "single" for case in self._cases)
        group = {} if alone else self.placement.group_variables()
        self.environment = describe_environment(
            answer.facts, self.placement.devices[:used], self.nvml, settings, group | self._variables
        )

    def _place(self, placement: Placement) -> Placement:
        """What of this machine the run uses: all that the user has chosen."""
        return placement
