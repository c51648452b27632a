"""DistributedDataParallel: every rank holds the whole model; the backward pass averages gradients."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
import torch.distributed as dist
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
        self._exchange: _Exchange | None = None

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """As a single device's. Gradients are averaged at the step's last micro-batch only."""
        self._num_taken += 1
        self._ddp.require_backward_grad_sync = self._num_taken == self._num_micro_batches
        if self._exchange is not None and self._exchange.is_silent:
            self._ddp.require_forward_param_sync = False  # buffers, such as a batch norm's, stay as they are
        return super().forward(inputs, targets)

    def optimizer_step(self) -> None:
        """Update the weights and drop the gradients."""
        super().optimizer_step()
        self._num_taken = 0

    def prepare_silence(self) -> None:
        """Have DDP hand its buckets to a hook, from now on: it takes one, once, and none while steps are
        measured. With a hook DDP leaves the division by the number of ranks to it; the loss's share has it
        here, so that no further pass over the gradients is timed."""
        self._exchange = exchange = _Exchange()
        self._ddp.register_comm_hook(exchange, lambda state, bucket: state.of(bucket.buffer()))
        self._loss_share /= dist.get_world_size()

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Give DDP its buckets back as they are; gradients are copied into them and out of them as ever."""
        assert self._exchange is not None
        self._exchange.is_silent = True
        try:
            yield
        finally:
            self._exchange.is_silent = False

    def collectives(self) -> tuple[Collective, ...]:
        """Gradients, which autocast leaves in the weights' fp32, once a step however many micro-batches."""
        return (Collective("all-reduce", "gradients", 4 * num_trained(self.module)),)


class _Exchange:
    """What becomes of a bucket. It knows nothing of the engine: DDP's reducer holds it where no garbage
    collector looks, and would hold the model with it."""

    def __init__(self) -> None:
        self.is_silent = False

    def of(self, gradients: Tensor) -> torch.futures.Future[Tensor]:
        """A bucket's sum over ranks, or the bucket itself."""
        if self.is_silent:
            done: torch.futures.Future[Tensor] = torch.futures.Future(
                devices=[gradients.device] if gradients.is_cuda else None
            )
            done.set_result(gradients)
            return done
        work = dist.all_reduce(gradients, async_op=True)
        return work.get_future().then(lambda summed: summed.value()[0])  # type: ignore[no-any-return]
