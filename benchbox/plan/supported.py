"""What a machine cannot do, as far as it can be known before any process starts."""

from __future__ import annotations

import shutil
from collections.abc import Iterable

import msgspec

from benchbox.schema import Case, DeviceFacts

_CXX = ("c++", "g++", "clang++")
_CC = ("cc", "gcc", "clang")


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What decides which cases can run on one machine."""

    gpus: tuple[DeviceFacts, ...]
    """Those that the run may use; empty: it trains on the CPU."""
    num_usable_processors: int
    has_deepspeed: bool

    @property
    def num_places(self) -> int:
        """How many ranks fit: one for each GPU, or one for each processor."""
        return len(self.gpus) or self.num_usable_processors


def why_unsupported(case: Case, machine: Machine) -> str | None:
    """Why ``case`` cannot run, for the report; ``None`` where nothing is known to be in the way."""
    checks = (_ranks, _precision, _deepspeed, _compile, _memory_format)
    return next((reason for check in checks if (reason := check(case, machine)) is not None), None)


def _ranks(case: Case, machine: Machine) -> str | None:
    if case.strategy == "single" and case.world_size != 1:
        return f"strategy single trains on one device, not on {case.world_size}"
    if case.world_size > machine.num_places:
        what = "GPUs" if machine.gpus else "usable processors"
        return (
            f"world size {case.world_size} needs {case.world_size} {what}; this run has {machine.num_places}"
        )
    return None


def _precision(case: Case, machine: Machine) -> str | None:
    if not machine.gpus:
        if case.precision == "tf32":
            return "tf32 needs an NVIDIA GPU of compute capability 8.0 or later"
        if case.precision == "fp16":
            return "fp16 training on a CPU: torch has no fast convolution for it; use bf16"
        return None
    if case.precision not in ("tf32", "bf16"):
        return None
    for device in machine.gpus[: case.world_size]:
        capability = device.compute_capability
        if capability is not None and int(capability.partition(".")[0]) < 8:
            return f"{case.precision} needs compute capability 8.0 or later; {device.name} has {capability}"
    return None


def _deepspeed(case: Case, machine: Machine) -> str | None:
    if not case.strategy.startswith("zero"):
        return None
    if not machine.has_deepspeed:
        return f"{case.strategy} needs deepspeed, which is not installed"
    if case.strategy.endswith("-offload") and not _one_is_there(_CXX):
        return (
            f"{case.strategy} needs DeepSpeedCPUAdam, which has to be compiled, "
            f"and none of {', '.join(_CXX)} is there"
        )
    return None


def _compile(case: Case, machine: Machine) -> str | None:
    if not case.compile:
        return None
    if case.strategy != "single":
        return f"torch.compile is offered with strategy single, not with {case.strategy}"
    compilers = _CC if machine.gpus else _CXX
    if not _one_is_there(compilers):
        return f"torch.compile needs a compiler, and none of {', '.join(compilers)} is there"
    return None


def _memory_format(case: Case, machine: Machine) -> str | None:  # noqa: ARG001 - called like the others
    if case.memory_format == "channels_last" and len(case.input_shape) != 3:
        return "channels_last needs samples of three dimensions (channels, height, width)"
    return None


def _one_is_there(compilers: Iterable[str]) -> bool:
    return any(shutil.which(name) for name in compilers)
