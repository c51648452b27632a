"""What one training step is. A strategy is what wraps the model, and what a step's three parts call."""

from __future__ import annotations

import abc
import contextlib
import shutil
from typing import Literal

import msgspec
import torch
from torch import Tensor, nn

from benchbox.schema import Case
from benchbox.worker.data import MicroBatches
from benchbox.worker.models import UnsupportedCase

AUTOCAST_DTYPE = {"bf16": torch.bfloat16, "fp16": torch.float16}


def check_supported(case: Case, device: torch.device) -> None:
    """Raise :class:`UnsupportedCase` for what this hardware or torch cannot do, before anything is built."""
    if case.strategy == "single" and case.world_size != 1:
        raise UnsupportedCase(f"strategy single trains on one device, not on {case.world_size}")
    if case.strategy != "single" and case.compile:
        raise UnsupportedCase(f"torch.compile is offered with strategy single, not with {case.strategy}")
    if device.type == "cpu":
        if case.precision == "tf32":
            raise UnsupportedCase("tf32 needs an NVIDIA GPU of compute capability 8.0 or later")
        if case.precision == "fp16":
            raise UnsupportedCase("fp16 training on a CPU: torch has no fast convolution for it; use bf16")
    else:
        major, minor = torch.cuda.get_device_capability(device)
        if case.precision in ("tf32", "bf16") and major < 8:
            raise UnsupportedCase(
                f"{case.precision} needs compute capability 8.0 or later; this device has {major}.{minor}"
            )
    compilers = ("c++", "g++", "clang++") if device.type == "cpu" else ("cc", "gcc", "clang")
    if case.compile and not any(shutil.which(name) for name in compilers):
        raise UnsupportedCase(f"torch.compile needs a compiler, and none of {', '.join(compilers)} is there")
    if case.memory_format == "channels_last" and len(case.input_shape) != 3:
        raise UnsupportedCase("channels_last needs samples of three dimensions (channels, height, width)")


def set_precision_flags(precision: str) -> None:
    """Let fp32 arithmetic use TF32 only where the case says so; torch's own default lets cuDNN use it."""
    allow = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = allow
    torch.backends.cudnn.allow_tf32 = allow


class Collective(msgspec.Struct, frozen=True):
    """What ranks exchange in one optimizer step by collectives of one kind."""

    kind: Literal["all-reduce", "all-gather", "reduce-scatter"]
    what: str
    num_bytes: int
    """The whole of it, over all ranks."""
    times: int = 1


class Engine(abc.ABC):
    """One rank's model with its optimizer.

    ``step`` is what is measured. The phase pass calls its three parts one by one.
    """

    module: nn.Module
    """The model itself, inside whatever wraps it."""
    optimizer_name: str
    """The class that updates the weights."""

    def __init__(self, case: Case, device: torch.device) -> None:
        set_precision_flags(case.precision)
        self.device = device
        self.memory_format = (
            torch.channels_last if case.memory_format == "channels_last" else torch.contiguous_format
        )

    def step(self, micro_batches: MicroBatches) -> Tensor:
        """One optimizer step over the micro-batches; returns the last one's loss, still on the device."""
        for host_inputs, host_targets in micro_batches:
            inputs, targets = self.to_device(host_inputs, host_targets)
            loss = self.forward(inputs, targets)
            self.backward(loss)
        self.optimizer_step()
        return loss

    def to_device(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Copy a micro-batch to the device, in the case's memory format; no work where it is there."""
        return (
            inputs.to(self.device, non_blocking=True, memory_format=self.memory_format),
            targets.to(self.device, non_blocking=True),
        )

    @abc.abstractmethod
    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The mean cross-entropy of one micro-batch, a scalar."""

    @abc.abstractmethod
    def backward(self, loss: Tensor) -> None:
        """Add one micro-batch's share to the gradients."""

    @abc.abstractmethod
    def optimizer_step(self) -> None:
        """Update the weights and drop the gradients."""

    @abc.abstractmethod
    def was_skipped(self) -> bool:
        """Whether fp16's loss scaling skipped the last step, because a gradient overflowed."""

    def close(self) -> None:  # noqa: B027 - most strategies hold nothing
        """Let go of what would outlive the engine."""

    def prepare_silence(self) -> None:  # noqa: B027 - most strategies need nothing
        """Once, after measuring and before the first silent step: make ready what :meth:`silent` needs."""

    def silent(self) -> contextlib.AbstractContextManager[None]:
        """While it lasts, collectives do nothing. What is computed then, and from then on, means nothing."""
        return contextlib.nullcontext()

    def collectives(self) -> tuple[Collective, ...]:
        """What ranks must exchange in one optimizer step."""
        return ()
