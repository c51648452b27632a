"""Ask the worker's side what memory cases will need; nothing is trained and no device is touched."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from benchbox.errors import WorkerStartError
from benchbox.measure.detect import detect_devices
from benchbox.measure.host_facts import host_facts
from benchbox.measure.launch import WorkerServer, stderr_tail
from benchbox.plan.hardware import load_profiles, match_profile
from benchbox.schema import Case, CaseEstimate, Environment, EstimateTask, HardwareProfile

TIMEOUT_S = 120.0


class EstimateDevice(NamedTuple):
    """The device that memory is foretold for."""

    name: str
    kind: Literal["cpu", "gpu"]
    compute_capability: str | None
    memory_bytes: int | None


def device_of_profile(profile: HardwareProfile) -> EstimateDevice:
    """The device that a profile describes, with the memory that drivers were seen to report."""
    memory_bytes = None
    if profile.memory_mib_reported:
        memory_bytes = min(profile.memory_mib_reported) << 20
    elif profile.memory_gib is not None:
        memory_bytes = int(profile.memory_gib * 2**30)
    return EstimateDevice(profile.name, profile.kind, profile.compute_capability, memory_bytes)


def detected_device() -> EstimateDevice:
    """This machine's first GPU, or its CPU where the driver shows none."""
    devices, _ = detect_devices()
    if len(devices) > 1:
        gpu = devices[1]
        profile = match_profile(gpu.name, gpu.memory_total_bytes, load_profiles(), gpu.num_processors)
        capability = None if profile is None else profile.compute_capability
        return EstimateDevice(gpu.name, "gpu", capability, gpu.memory_total_bytes)
    host = host_facts()
    return EstimateDevice(host.cpu_model, "cpu", None, host.memory_limit_bytes or host.memory_total_bytes)


def device_of_environment(environment: Environment) -> EstimateDevice:
    """The device that a run trains on."""
    host = environment.host
    if not environment.devices:
        memory_bytes = host.memory_limit_bytes or host.memory_total_bytes
        return EstimateDevice(host.cpu_model, "cpu", None, memory_bytes)
    device = environment.devices[0]
    return EstimateDevice(device.name, "gpu", device.compute_capability, device.memory_total_bytes)


def estimates_for(
    cases: Sequence[Case],
    device: EstimateDevice,
    running_server: Callable[[], WorkerServer],
    import_dirs: Iterable[str],
    timeout_s: float = TIMEOUT_S,
) -> dict[str, CaseEstimate]:
    """The estimate of each case by its id, or why there is none; traced in forks of a server.

    A model whose tracing ends its process, or the server's, or does not end within ``timeout_s``, costs its
    own cases only. ``running_server`` gives a new server where the last one has ended.

    Raises:
        WorkerStartError: no server can be started.
    """
    found: dict[str, CaseEstimate] = {}
    left = list(cases)
    while left:
        answers, why = _ask(left, device, running_server(), tuple(import_dirs), timeout_s)
        found |= {answer.case_id: answer for answer in answers}
        left = left[len(answers) :]
        if left and why is not None:
            model = left[0].model
            for case in left:
                if case.model == model:
                    found[case.case_id] = CaseEstimate(
                        case_id=case.case_id, estimate=None, unknown_reason=why
                    )
            left = [case for case in left if case.model != model]
    return found


def why_skipped(answer: CaseEstimate | None) -> str | None:
    """Why a case need not be tried where unfit ones are to be skipped; ``None`` where it may fit."""
    known = None if answer is None else answer.estimate
    if known is None or known.fits is not False or known.device_memory_bytes is None:
        return None
    needs, has = known.peak_device_interval_bytes.low / 2**30, known.device_memory_bytes / 2**30
    return f"not run: foretold to need at least {needs:.3g} GiB, and the device has {has:.3g} GiB"


def _ask(
    cases: list[Case],
    device: EstimateDevice,
    server: WorkerServer,
    import_dirs: tuple[str, ...],
    timeout_s: float,
) -> tuple[list[CaseEstimate], str | None]:
    """The answers for the first cases, and why there are no more."""
    with tempfile.TemporaryDirectory(prefix="benchbox-estimate-") as folder:
        task, out, stderr = (Path(folder, name) for name in ("task.json", "answers.jsonl", "stderr.txt"))
        out.touch()
        task.write_bytes(
            msgspec.json.encode(
                EstimateTask(
                    cases=tuple(cases),
                    device=device.kind,
                    compute_capability=device.compute_capability,
                    device_memory_bytes=device.memory_bytes,
                    import_dirs=import_dirs,
                    out=str(out),
                )
            )
        )
        started_at = time.monotonic()
        server.start(estimate=str(task), stderr=str(stderr))
        why = None
        status: int | None
        try:
            status = server.wait(timeout_s)
        except WorkerStartError as error:
            status, why = -1, f"tracing ended the worker server: {error}"[:500]
        except BaseException:  # Ctrl-C too
            server.kill_worker()
            raise
        if status is None:
            server.kill_worker()
            server.wait(timeout_s)
            why = f"tracing was ended after {time.monotonic() - started_at:.0f} s"
        lines = out.read_bytes().split(b"\n")[:-1]  # what follows the last line feed is cut short
        answers = [msgspec.json.decode(line, type=CaseEstimate) for line in lines]
        if why is None and len(answers) < len(cases):
            printed = (stderr_tail(stderr) or "nothing was printed").splitlines()[-1]
            why = f"tracing ended its process (status {status}): {printed}"[:500]
        return answers, why
