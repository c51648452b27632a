"""One model on one device: autocast, loss scaling where fp16 asks for it, torch's fused Adam."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchbox.schema import Case
from benchbox.worker.engine import AUTOCAST_DTYPE, Engine
from benchbox.worker.models import build_model


class TorchEngine(Engine):
    """What all strategies of torch's own have in common once the model is wrapped."""

    optimizer_name = "torch.optim.Adam(fused=True)"

    def _prepare(self, case: Case, model: nn.Module, wrapped: Callable[[Tensor], Tensor]) -> None:
        """Take the model, and what a step calls in its place."""
        self.module = model
        self._forward = wrapped
        self.optimizer = torch.optim.Adam(model.parameters(), lr=case.learning_rate, fused=True)
        self._autocast: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=case.precision == "fp16")
        self._scale_before = self.scaler.get_scale()
        self._loss_share = 1.0 / case.gradient_accumulation_steps

    def _use_autocast(self, case: Case) -> None:
        if (dtype := AUTOCAST_DTYPE.get(case.precision)) is not None:
            self._autocast = torch.autocast(self.device.type, dtype)

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The mean cross-entropy of one micro-batch, a scalar."""
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

    def was_skipped(self) -> bool:
        """Whether the scale has fallen since this was last asked."""
        before, self._scale_before = self._scale_before, self.scaler.get_scale()
        return self._scale_before < before


class SingleEngine(TorchEngine):
    """No wrapper at all; compiled where the case says so."""

    def __init__(
        self, case: Case, device: torch.device, import_dirs: tuple[str, ...], *, on_host: bool = False
    ) -> None:
        super().__init__(case, device)
        with torch.device("cpu") if on_host else device:
            model = build_model(case, import_dirs)
        module: nn.Module = model.to(device, memory_format=self.memory_format)  # type: ignore[call-overload]
        # A replayed graph overwrites the gradients of the one before, so they cannot add up over replays.
        self.replays_graphs = case.compile and device.type == "cuda" and case.gradient_accumulation_steps == 1
        wrapped: Callable[[Tensor], Tensor] = module
        if case.compile:
            wrapped = torch.compile(module, mode="reduce-overhead" if self.replays_graphs else None)
        self._prepare(case, module, wrapped)
        self._use_autocast(case)

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The mean cross-entropy of one micro-batch, a scalar."""
        if self.replays_graphs:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        with self._autocast:
            return functional.cross_entropy(self._forward(inputs), targets)
