"""Which devices the user means, and how CUDA is made to show these alone."""

from __future__ import annotations

import os

import msgspec

from benchbox.errors import BadInputError
from benchbox.measure.nvml import Nvml
from benchbox.measure.torch_facts import TorchAnswer
from benchbox.schema import DeviceFacts, TorchFacts


def choose_devices(choice: str, facts: TorchFacts) -> tuple[DeviceFacts, ...]:
    """The devices that the user means, in that order; none stands for the CPU.

    ``choice`` is ``auto`` (all GPUs, else the CPU), ``cpu``, ``cuda`` (all GPUs), or, joined by commas,
    ``cuda:N`` and UUIDs of GPUs or of MIG slices, with or without their ``GPU-`` or ``MIG-``.

    Raises:
        BadInputError: there is no such device, the text lists those that there are; or one is named twice.
    """
    if choice == "cpu" or (choice == "auto" and not facts.devices):
        return ()
    if choice in ("auto", "cuda") and facts.devices:
        return facts.devices
    chosen = tuple(_choose(name.strip(), choice, facts) for name in choice.split(","))
    for number, device in enumerate(chosen):
        if device in chosen[:number]:
            raise BadInputError(f"--device: {choice!r} names {_described(device)} twice")
    return chosen


def _choose(name: str, choice: str, facts: TorchFacts) -> DeviceFacts:
    for device in facts.devices:
        if name == f"cuda:{device.index}" or (device.uuid is not None and _bare(name) == _bare(device.uuid)):
            return device
    there = ["cpu", *(f"cuda:{device.index} ({_described(device)})" for device in facts.devices)]
    part = "" if name == choice else f": {name!r}"
    raise BadInputError(f"--device: {choice!r}{part} is not on this machine; torch sees {', '.join(there)}")


def find_devices(choice: str, answer: TorchAnswer, nvml: Nvml) -> tuple[DeviceFacts, ...]:
    """As :func:`choose_devices`, but ``auto`` does not quietly mean the CPU of a machine that has a GPU.

    Raises:
        BadInputError: there is no such device, or ``auto`` and the driver lists a GPU that torch does not see
            and that ``CUDA_VISIBLE_DEVICES`` does not hide on purpose.
    """
    chosen = choose_devices(choice, answer.facts)
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if choice == "auto" and not chosen and nvml.devices and not hidden:
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


def visible_devices(devices: tuple[DeviceFacts, ...], facts: TorchFacts) -> str | None:
    """``CUDA_VISIBLE_DEVICES`` that shows ``devices`` alone, in this order; ``None``: no other is seen.

    A lone visible device keeps whatever made it visible, which may be a MIG slice's own name. A device
    without a UUID goes by what ``CUDA_VISIBLE_DEVICES`` calls it already, or by its number.
    """
    if not devices or len(facts.devices) == 1:
        return None
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    names = named if len(named) >= len(facts.devices) else [str(device.index) for device in facts.devices]
    return ",".join(_full_uuid(d.uuid) if d.uuid is not None else names[d.index] for d in devices)


def _bare(uuid: str) -> str:
    return uuid.lower().removeprefix("gpu-").removeprefix("mig-")


def _full_uuid(uuid: str) -> str:
    """As ``CUDA_VISIBLE_DEVICES`` wants it; torch leaves the ``GPU-`` out."""
    return uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"


def _described(device: DeviceFacts) -> str:
    return device.name if device.uuid is None else f"{device.name}, {_full_uuid(device.uuid)}"
