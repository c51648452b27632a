"""DistributedDataParallel: every rank holds the whole model; the backward pass averages gradients."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from benchbox.schema import Case
from benchbox.worker.engine import Collective
from benchbox.worker.models import build_model, num_trained
from benchbox.worker.strategies.single import TorchEngine


class DdpEngine(TorchEngine):
    """A model that is built on the host, moved to the device, and wrapped with DDP's defaults."""

    def __init__(self, case: Case, device: torch.device, import_dirs: tuple[str, ...]) -> None:
        super().__init__(case, device)
        model = build_model(case, import_dirs)
        model.to(device, memory_format=self.memory_format)  # type: ignore[call-overload]
        self._ddp = DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)
        self._prepare(case, model, self._ddp)
        self._use_autocast(case)
        self._num_micro_batches = case.gradient_accumulation_steps
        self._num_taken = 0
        self._communicates = True

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """As a single device's. Gradients are averaged at the step's last micro-batch only."""
        self._num_taken += 1
        is_last = self._num_taken == self._num_micro_batches
        self._ddp.require_backward_grad_sync = is_last and self._communicates
        return super().forward(inputs, targets)

    def optimizer_step(self) -> None:
        """Update the weights and drop the gradients."""
        super().optimizer_step()
        self._num_taken = 0

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Let every rank keep its own gradients, as DDP does between two synchronizations."""
        self._communicates = False
        try:
            yield
        finally:
            self._communicates = True

    def collectives(self) -> tuple[Collective, ...]:
        """Gradients, which autocast leaves in the weights' fp32, once a step however many micro-batches."""
        return (Collective("all-reduce", "gradients", 4 * num_trained(self.module)),)
