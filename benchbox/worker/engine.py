"""What one training step is: forward, backward, optimizer, in the case's precision and memory format."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchbox.schema import Case
from benchbox.worker.data import MicroBatches
from benchbox.worker.models import UnsupportedCase, build_model

AUTOCAST_DTYPE = {"bf16": torch.bfloat16, "fp16": torch.float16}


def check_supported(case: Case, device: torch.device) -> None:
    """Raise :class:`UnsupportedCase` for what this hardware or torch cannot do, before anything is built."""
    if case.strategy != "single" or case.world_size != 1:
        raise UnsupportedCase(
            f"strategy {case.strategy} with world size {case.world_size} is not offered yet"
        )
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


class Engine:
    """One model on one device with its optimizer.

    ``step`` is what is measured. The phase pass calls its three parts one by one.
    """

    def __init__(self, case: Case, device: torch.device, import_dirs: tuple[str, ...]) -> None:
        set_precision_flags(case.precision)
        self.device = device
        self.memory_format = (
            torch.channels_last if case.memory_format == "channels_last" else torch.contiguous_format
        )
        with device:
            model = build_model(case, import_dirs)
        self.module: nn.Module = model.to(device, memory_format=self.memory_format)  # type: ignore[call-overload]
        self.optimizer = torch.optim.Adam(model.parameters(), lr=case.learning_rate, fused=True)
        dtype = AUTOCAST_DTYPE.get(case.precision)
        self._autocast: contextlib.AbstractContextManager[Any] = (
            torch.autocast(device.type, dtype) if dtype is not None else contextlib.nullcontext()
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=case.precision == "fp16")
        self._loss_share = 1.0 / case.gradient_accumulation_steps
        self._forward: Callable[[Tensor], Tensor] = self.module
        # A replayed graph overwrites the gradients of the one before, so they cannot add up over replays.
        self._graphs = case.compile and device.type == "cuda" and case.gradient_accumulation_steps == 1
        if case.compile:
            self._forward = torch.compile(self.module, mode="reduce-overhead" if self._graphs else None)

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

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The mean cross-entropy of one micro-batch, a scalar."""
        if self._graphs:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        with self._autocast:
            return functional.cross_entropy(self._forward(inputs), targets)

    def backward(self, loss: Tensor) -> None:
        """Add one micro-batch's share to the gradients."""
        share = loss * self._loss_share if self._loss_share != 1.0 else loss
        self.scaler.scale(share).backward()  # type: ignore[no-untyped-call]

    def optimizer_step(self) -> None:
        """Update the weights and drop the gradients."""
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
