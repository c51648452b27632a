"""Put together what may explain why two reports differ: host, driver, torch, settings."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import msgspec

import benchbox
from benchbox.measure.host_facts import host_facts
from benchbox.measure.launch import REMOVED_VARIABLES
from benchbox.measure.nvml import Nvml
from benchbox.schema import DeviceFacts, Environment, MeasureSettings, TorchFacts

# Variables that change what torch and its libraries do; those that are set are recorded.
_TELLING_PREFIXES = (
    "ATEN_",
    "CUDA_",
    "CUDNN_",
    "CUBLAS_",
    "DEEPSPEED_",
    "DNNL_",
    "DS_",
    "GLOO_",
    "GOMP_",
    "KMP_",
    "MALLOC_",
    "MKL_",
    "NCCL_",
    "OMP_",
    "ONEDNN_",
    "OPENBLAS_",
    "PYTORCH_",
    "TORCH",
    "TRITON_",
)
_TELLING_NAMES = ("LD_PRELOAD", "GLIBC_TUNABLES", *REMOVED_VARIABLES)


def describe_environment(
    facts: TorchFacts,
    devices: Sequence[DeviceFacts],
    nvml: Nvml,
    settings: MeasureSettings,
    variables: Mapping[str, str],
) -> Environment:
    """Everything about the machine as this run uses it; no ``devices`` where it trains on the CPU."""
    found = [nvml.find(device.uuid) if device.uuid is not None else None for device in devices]
    by_driver = [known.facts() if known is not None else None for known in found]
    return Environment(
        benchbox=benchbox.__version__,
        device="cuda" if devices else "cpu",
        driver=nvml.driver_version,
        host=host_facts(),
        software=facts,
        devices=tuple(_merged(device, known) for device, known in zip(devices, by_driver, strict=True)),
        host_allocator=settings.host_allocator,
        worker_variables={
            name: f"removed; was {value!r}" if name in REMOVED_VARIABLES else value
            for name, value in sorted({**os.environ, **variables}.items())
            if name.startswith(_TELLING_PREFIXES) or name in _TELLING_NAMES
        },
        telemetry_unavailable_reason=_why_unwatched(nvml) if None in found else None,
    )


def _why_unwatched(nvml: Nvml) -> str:
    return nvml.unavailable_reason or "the driver lists no device with the UUID that torch gives"


def _merged(by_torch: DeviceFacts, by_driver: DeviceFacts | None) -> DeviceFacts:
    """Torch's facts, and the driver's where torch has none."""
    if by_driver is None:
        return by_torch
    return msgspec.structs.replace(
        by_driver, **{name: v for name, v in msgspec.structs.asdict(by_torch).items() if v is not None}
    )
