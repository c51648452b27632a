"""``benchbox hw init``: probe a device in a process of its own and write down what it reached."""

from __future__ import annotations

import datetime
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from benchbox.errors import BenchboxError, WouldOverwriteError
from benchbox.measure.devices import find_devices
from benchbox.measure.launch import WorkerServer, inherited_variables, tuned_allocator
from benchbox.measure.nvml import Nvml
from benchbox.measure.placement import num_threads_on
from benchbox.measure.torch_facts import ask_torch
from benchbox.plan.hardware import profile_to_toml
from benchbox.plan.tomlfile import printable
from benchbox.schema import DeviceFacts, HardwareProfile, HostFacts, ProbeResult

BASE_TIMEOUT_S = 600.0  # importing torch from a cold network disk, and a slow device's shortest runs
MAX_PROBES = 10
MAX_REASON_CHARACTERS = 300


def device_to_probe(choice: str) -> DeviceFacts | None:
    """The device that ``auto``, ``cpu`` or ``cuda:N`` means here, as a run takes it; ``None`` for the CPU.

    Raises:
        BadInputError: there is no such device.
        WorkerStartError: torch, which is asked for any device but the CPU, cannot be started.
    """
    if choice == "cpu":
        return None
    nvml = Nvml()
    try:
        with WorkerServer({}) as server:
            answer = ask_torch(server, cudnn_benchmark=False)
        return next(iter(find_devices(choice, answer, nvml)), None)
    finally:
        nvml.close()


def run_probe(device: str, host: HostFacts, seconds_per_probe: float = 2.0) -> ProbeResult:
    """Probe ``device`` (``cpu`` or ``cuda:N``); on a CPU with as many threads as a worker has.

    Raises:
        BenchboxError: the probe failed or hung; the text ends with the last line that it printed.
    """
    with tempfile.TemporaryDirectory(prefix="benchbox-probe-") as folder:
        out = Path(folder) / "probe.json"
        command = [sys.executable, "-P", "-m", "benchbox.worker.probe", "--out", str(out), "--device", device]
        command += ["--seconds", str(seconds_per_probe)]
        if device == "cpu":
            command += ["--threads", str(num_threads_on(host))]
        # As the worker of a run has it, so that a CPU's figures are the ceiling of that worker.
        variables = inherited_variables() | tuned_allocator()
        timeout_s = BASE_TIMEOUT_S + 2 * MAX_PROBES * seconds_per_probe
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=variables,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise BenchboxError(f"probing {device}: not finished after {timeout_s:.0f} s; ended") from None
        except OSError as error:
            raise BenchboxError(f"probing {device}: {sys.executable}: {error.strerror or error}") from None
        if done.returncode != 0:
            reason = _last_line(done.stderr)
            raise BenchboxError(f"probing {device} failed (status {done.returncode}): {reason}")
        try:
            return msgspec.json.decode(out.read_bytes(), type=ProbeResult)
        except (OSError, msgspec.DecodeError) as error:
            raise BenchboxError(f"probing {device}: its result cannot be read: {error}") from None


def profile_name(device_name: str | None, host: HostFacts) -> str:
    """What the profile of a GPU with this name is called; of the CPU where there is no such name.

    Raises:
        BenchboxError: the device has no name to match it by.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", _printed_name(device_name, host).lower()).strip("-")
    if not slug:
        raise BenchboxError("this device has no name that a profile could be matched by")
    return f"{slug}-{host.num_usable_processors}-processors" if device_name is None else slug


def _printed_name(device_name: str | None, host: HostFacts) -> str:
    return printable(device_name if device_name is not None else host.cpu_model).strip()


def profile_from_probe(result: ProbeResult, host: HostFacts, measured_on: datetime.date) -> HardwareProfile:
    """A profile of what was measured; the vendor's peaks stay unknown, so there is no MFU against them.

    Raises:
        BenchboxError: the device has no name to match it by.
    """
    is_cpu = result.device_name is None
    device_name = _printed_name(result.device_name, host)
    name = profile_name(result.device_name, host)
    source = f"measured by benchbox hw init on {measured_on.isoformat()}, torch {result.torch}"
    if is_cpu:
        return HardwareProfile(
            name=name,
            kind="cpu",
            vendor=next((vendor for vendor in ("Intel", "AMD") if vendor in device_name), "unknown"),
            match_names=(device_name,),
            sources=(source,),
            confidence="medium",
            memory_gib=_gib(host.memory_total_bytes),
            num_multiprocessors=host.num_usable_processors,
            reached=result.reached,
        )
    total = result.memory_total_bytes
    return HardwareProfile(
        name=name,
        kind="gpu",
        vendor="AMD" if (result.compute_capability or "").startswith("gfx") else "NVIDIA",
        match_names=(device_name,),
        sources=(source,),
        confidence="medium",
        compute_capability=result.compute_capability,
        memory_gib=_gib(total) if total else None,
        memory_mib_reported=(total >> 20,) if total else (),
        num_multiprocessors=result.num_multiprocessors,
        reached=result.reached,
    )


def profile_path(name: str, folder: Path, overwrite: bool = False) -> Path:
    """Where the profile with this name goes.

    Raises:
        WouldOverwriteError: the file exists and ``overwrite`` is false.
    """
    path = folder / f"{name}.toml"
    if path.exists() and not overwrite:
        raise WouldOverwriteError(f"{path}: exists already; say --overwrite to measure it anew")
    return path


def write_profile(profile: HardwareProfile, folder: Path, overwrite: bool = False) -> Path:
    """Write ``profile`` to ``folder``/NAME.toml, by rename; the path written.

    Raises:
        WouldOverwriteError: the file exists and ``overwrite`` is false.
        BenchboxError: the folder cannot be written to.
    """
    path = profile_path(profile.name, folder, overwrite)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        unfinished.write_text(profile_to_toml(profile), encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise BenchboxError(f"{path}: cannot be written: {error.strerror or error}") from None
    return path


def _gib(num_bytes: int) -> float:
    return round(num_bytes / 2**30, 2)


def _last_line(stderr: bytes) -> str:
    lines = stderr.decode(errors="replace").strip().splitlines()
    return printable(lines[-1])[:MAX_REASON_CHARACTERS] if lines else "it printed nothing"
