"""``benchbox hw init``: probe a device in a process of its own and write down what it reached."""

from __future__ import annotations

import datetime
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from benchbox.errors import BenchboxError, WouldOverwriteError
from benchbox.measure.launch import tuned_allocator
from benchbox.plan.hardware import profile_to_toml
from benchbox.plan.tomlfile import printable
from benchbox.schema import HardwareProfile, HostFacts, ProbeResult

BASE_TIMEOUT_S = 600.0  # importing torch from a cold network disk, and a slow device's shortest runs
MAX_PROBES = 10
MAX_REASON_CHARACTERS = 300


def run_probe(device: str, host: HostFacts, seconds_per_probe: float = 2.0) -> ProbeResult:
    """Probe ``device`` (``cpu`` or ``cuda:N``); on a CPU with a thread for each usable processor.

    Raises:
        BenchboxError: the probe failed or hung; the text ends with the last line that it printed.
    """
    with tempfile.TemporaryDirectory(prefix="benchbox-probe-") as folder:
        out = Path(folder) / "probe.json"
        command = [sys.executable, "-P", "-m", "benchbox.worker.probe", "--out", str(out), "--device", device]
        command += ["--seconds", str(seconds_per_probe)]
        if device == "cpu":
            command += ["--threads", str(host.num_usable_processors)]
        # As the worker of a run has it, so that a CPU's figures are the ceiling of that worker.
        variables = {**os.environ, **tuned_allocator()}
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


def profile_from_probe(result: ProbeResult, host: HostFacts, measured_on: datetime.date) -> HardwareProfile:
    """A profile of what was measured; the vendor's peaks stay unknown, so there is no MFU against them.

    Raises:
        BenchboxError: the device has no name to match it by.
    """
    is_cpu = result.device_name is None
    device_name = printable(result.device_name if result.device_name is not None else host.cpu_model).strip()
    slug = re.sub(r"[^a-z0-9]+", "-", device_name.lower()).strip("-")
    if not slug:
        raise BenchboxError("this device has no name that a profile could be matched by")
    source = f"measured by benchbox hw init on {measured_on.isoformat()}, torch {result.torch}"
    if is_cpu:
        return HardwareProfile(
            name=f"{slug}-{host.num_usable_processors}-processors",
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
        name=slug,
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


def write_profile(profile: HardwareProfile, folder: Path, overwrite: bool = False) -> Path:
    """Write ``profile`` to ``folder``/NAME.toml, by rename; the path written.

    Raises:
        WouldOverwriteError: the file exists and ``overwrite`` is false.
        BenchboxError: the folder cannot be written to.
    """
    path = folder / f"{profile.name}.toml"
    if path.exists() and not overwrite:
        raise WouldOverwriteError(f"{path}: exists already; say --overwrite to measure it anew")
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
