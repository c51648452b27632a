"""What one training step is. A strategy is what wraps the model, and what a step's three parts call."""

from __future__ import annotations

import abc
import contextlib
from typing import Literal

import msgspec
import torch
from torch import Tensor, nn

from benchbox.plan.supported import Machine, why_unsupported
from benchbox.schema import Case, DeviceFacts
from benchbox.worker.data import MicroBatches
from benchbox.worker.models import UnsupportedCase

AUTOCAST_DTYPE = {"bf16": torch.bfloat16, "fp16": torch.float16}


def check_supported(case: Case, device: torch.device) -> None:
    """Raise :class:`UnsupportedCase` for what this hardware or torch cannot do, before anything is built.

    The controller has asked the same before it started this process; what it did not know is this device's
    compute capability, where no driver library told it.
    """
    gpus: tuple[DeviceFacts, ...] = ()
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        own = DeviceFacts(index=0, name="this device", compute_capability=f"{major}.{minor}")
        gpus = (own,) * case.world_size
    machine = Machine(gpus=gpus, num_usable_processors=case.world_size, has_deepspeed=True)
    reason = why_unsupported(case, machine)
    if reason is not None:
        raise UnsupportedCase(reason)


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
    replays_graphs = False
    """Whether a step's kernels are replayed as CUDA graphs."""

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
