"""Put together what may explain why two reports differ: host, driver, torch, settings."""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec

import benchbox
from benchbox.errors import BadInputError
from benchbox.measure.host_facts import host_facts
from benchbox.measure.launch import REMOVED_VARIABLES
from benchbox.measure.nvml import Nvml
from benchbox.measure.torch_facts import TorchAnswer
from benchbox.schema import DeviceFacts, Environment, MeasureSettings, TorchFacts

# Variables that change what torch and its libraries do; those that are set are recorded.
_TELLING_PREFIXES = (
    "ATEN_",
    "CUDA_",
    "CUDNN_",
    "CUBLAS_",
    "DNNL_",
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


def find_device(choice: str, answer: TorchAnswer, nvml: Nvml) -> DeviceFacts | None:
    """As :func:`choose_device`, but ``auto`` does not quietly mean the CPU of a machine that has a GPU.

    Raises:
        BadInputError: there is no such device, or ``auto`` and the driver lists a GPU that torch does not see
            and that ``CUDA_VISIBLE_DEVICES`` does not hide on purpose.
    """
    chosen = choose_device(choice, answer.facts)
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if choice == "auto" and chosen is None and nvml.devices and not hidden:
        raise BadInputError(
            f"--device auto: torch sees no GPU although the driver lists {nvml.devices[0].facts().name}: "
            f"{_why_no_gpu(answer)}; --device cpu measures the CPU"
        )
    return chosen


def _why_no_gpu(answer: TorchAnswer) -> str:
    if answer.facts.cuda is None:
        return f"torch {answer.facts.torch} is built without CUDA"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = [] if visible is None else [f"CUDA_VISIBLE_DEVICES is {visible!r}"]
    return ", ".join([*found, answer.printed or "torch does not say why"])


def name_slice(facts: TorchFacts, nvml: Nvml) -> TorchFacts:
    """``facts`` with the UUID of the MIG slice that ``CUDA_VISIBLE_DEVICES`` names.

    Of the lone device that is visible then, torch may give the UUID of the GPU that the slice is a part of;
    the slice has to be sampled, and not the whole. CUDA shows the first slice that is named, and no other.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    if len(facts.devices) != 1 or not named.startswith("MIG-") or nvml.find(named) is None:
        return facts
    return msgspec.structs.replace(facts, devices=(msgspec.structs.replace(facts.devices[0], uuid=named),))


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
            name: f"removed; was {value!r}" if name in REMOVED_VARIABLES else value
            for name, value in sorted({**os.environ, **variables}.items())
            if name.startswith(_TELLING_PREFIXES) or name in _TELLING_NAMES
        },
        telemetry_unavailable_reason=None if device is None or found is not None else _why_unwatched(nvml),
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
