"""Put together what may explain why two reports differ: host, driver, torch, settings."""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec

import benchbox
from benchbox.errors import BadInputError
from benchbox.measure.host_facts import host_facts
from benchbox.measure.nvml import Nvml
from benchbox.schema import DeviceFacts, Environment, MeasureSettings, TorchFacts

# Variables that change what torch and its libraries do; those that are set are recorded.
_TELLING_PREFIXES = (
    "CUDA_",
    "CUDNN_",
    "CUBLAS_",
    "KMP_",
    "MALLOC_",
    "MKL_",
    "NCCL_",
    "OMP_",
    "ONEDNN_",
    "TORCH",
)
_TELLING_NAMES = (
    "LD_PRELOAD",
    "NVIDIA_TF32_OVERRIDE",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_ALLOC_CONF",
    "GLIBC_TUNABLES",
)


def choose_device(choice: str, facts: TorchFacts) -> DeviceFacts | None:
    """The device that the user means; ``None`` stands for the CPU.

    ``choice`` is ``auto`` (the first GPU, else the CPU), ``cpu``, ``cuda``, ``cuda:N`` or the UUID of a GPU
    or of a MIG slice, with or without its ``GPU-`` or ``MIG-``.

    Raises:
        BadInputError: there is no such device; the text lists those that there are.
    """
    if choice == "cpu" or (choice == "auto" and not facts.devices):
        return None
    for device in facts.devices:
        names = {f"cuda:{device.index}"} | ({"auto", "cuda"} if device.index == 0 else set())
        if choice in names or (device.uuid is not None and _bare(choice) == _bare(device.uuid)):
            return device
    there = ["cpu", *(f"cuda:{device.index} ({_described(device)})" for device in facts.devices)]
    raise BadInputError(f"--device: {choice!r} is not on this machine; torch sees {', '.join(there)}")


def visible_device(device: DeviceFacts | None, facts: TorchFacts) -> str | None:
    """The UUID to restrict the worker to; ``None`` where it sees no other GPU anyway.

    A lone visible device keeps whatever made it visible, which may be a MIG slice's own name.
    """
    if device is None or device.uuid is None or len(facts.devices) == 1:
        return None
    return _full_uuid(device.uuid)


def _bare(uuid: str) -> str:
    return uuid.lower().removeprefix("gpu-").removeprefix("mig-")


def _full_uuid(uuid: str) -> str:
    """As ``CUDA_VISIBLE_DEVICES`` wants it; torch leaves the ``GPU-`` out."""
    return uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"


def _described(device: DeviceFacts) -> str:
    return device.name if device.uuid is None else f"{device.name}, {_full_uuid(device.uuid)}"


def describe_environment(
    facts: TorchFacts,
    device: DeviceFacts | None,
    nvml: Nvml,
    settings: MeasureSettings,
    variables: Mapping[str, str],
) -> Environment:
    """Everything about the machine as this run uses it."""
    found = nvml.find(device.uuid) if device is not None and device.uuid is not None else None
    devices = () if device is None else (_merged(device, found.facts() if found is not None else None),)
    return Environment(
        benchbox=benchbox.__version__,
        device="cpu" if device is None else "cuda",
        driver=nvml.driver_version,
        host=host_facts(),
        software=facts,
        devices=devices,
        host_allocator=settings.host_allocator,
        worker_variables={
            name: value
            for name, value in sorted({**os.environ, **variables}.items())
            if name.startswith(_TELLING_PREFIXES) or name in _TELLING_NAMES
        },
    )


def _merged(by_torch: DeviceFacts, by_driver: DeviceFacts | None) -> DeviceFacts:
    """Torch's facts, and the driver's where torch has none."""
    if by_driver is None:
        return by_torch
    return msgspec.structs.replace(
        by_driver, **{name: v for name, v in msgspec.structs.asdict(by_torch).items() if v is not None}
    )
