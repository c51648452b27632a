"""What the machine around the devices is."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Mapping
from pathlib import Path

import psutil

from benchbox.measure import cgroup
from benchbox.schema import HostFacts


def host_facts(root: Path = Path("/")) -> HostFacts:
    """Describe this machine. What it does not tell is ``None``, or ``unknown`` where a text is due.

    Args:
        root: where ``proc``, ``sys``, ``etc`` and ``run`` are looked for.
    """
    cpuinfo = _text(root / "proc/cpuinfo") or ""
    processors = os.sched_getaffinity(0)
    quota = cgroup.num_processors(root)
    num_usable = len(processors) if quota is None else min(len(processors), math.ceil(quota))
    return HostFacts(
        cpu_model=_cpu_model(cpuinfo),
        num_physical_cores=psutil.cpu_count(logical=False),
        num_usable_processors=max(num_usable, 1),
        memory_total_bytes=psutil.virtual_memory().total,
        memory_limit_bytes=cgroup.memory_limit_bytes(root),
        kernel=platform.release(),
        os=_os_name(root),
        libc=_libc(),
        governor=_governor(root, processors),
        cpu_max_mhz=_cpu_max_mhz(root, processors),
        container=_container(root, os.environ),
        virtual_machine=_is_virtual_machine(root, cpuinfo),
    )


def _cpu_model(cpuinfo: str) -> str:
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "cpu model", "Model") and value.strip():
            return value.strip()
    return platform.machine() or "unknown"  # most 64-bit Arm kernels print numbers only


def _os_name(root: Path) -> str:
    for line in (_text(root / "etc/os-release") or "").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip().strip("\"'")
    return platform.system() or "unknown"


def _libc() -> str:
    try:
        version = os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError):  # not the GNU library
        version = None
    return version or " ".join(platform.libc_ver()).strip() or "unknown"


def _governor(root: Path, processors: set[int]) -> str | None:
    """The governor of the processors in use; several are joined by commas."""
    found = {_text(_cpufreq(root, number) / "scaling_governor") for number in processors} - {None, ""}
    return ",".join(sorted(name for name in found if name)) or None


def _cpu_max_mhz(root: Path, processors: set[int]) -> float | None:
    """The highest clock that any of the processors in use may reach."""
    texts = [_text(_cpufreq(root, number) / "cpuinfo_max_freq") for number in processors]
    return max((int(text) / 1000 for text in texts if text and text.isdecimal()), default=None)


def _cpufreq(root: Path, number: int) -> Path:
    return root / f"sys/devices/system/cpu/cpu{number}/cpufreq"


def _container(root: Path, variables: Mapping[str, str]) -> str | None:
    """What kind of container this is by the marks that its kind leaves; ``None`` where there is no mark."""
    if "KUBERNETES_SERVICE_HOST" in variables:
        return "kubernetes"
    told = variables.get("container") or _text(root / "run/systemd/container")
    if told:
        return told
    if (root / "run/.containerenv").exists():
        return "podman"
    if (root / ".dockerenv").exists():
        return "docker"
    if (root / ".singularity.d").exists():
        return "apptainer"
    groups = _text(root / "proc/1/cgroup") or ""
    marks = {"kubepods": "kubernetes", "docker": "docker", "libpod": "podman", "lxc": "lxc"}
    return next((kind for mark, kind in marks.items() if mark in groups), None)


def _is_virtual_machine(root: Path, cpuinfo: str) -> bool | None:
    """By the processor's flag on x86, by the firmware's table elsewhere; ``None`` where neither speaks."""
    for line in cpuinfo.splitlines():
        key, _, flags = line.partition(":")
        if key.strip() == "flags":
            return "hypervisor" in flags.split()
    if (root / "proc/device-tree/hypervisor").exists():
        return True
    product = _text(root / "sys/class/dmi/id/product_name") or ""
    vendor = _text(root / "sys/class/dmi/id/sys_vendor") or ""
    marks = ("QEMU", "KVM", "VMware", "VirtualBox", "Virtual Machine", "Amazon EC2", "Google Compute Engine")
    if any(mark in f"{vendor} {product}" for mark in marks):
        return "metal" not in product
    return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None
