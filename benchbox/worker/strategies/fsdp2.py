"""FSDP2: every rank holds a part of each parameter, and gathers a stage's parameters when it needs them.

The stages are the children of an ``nn.Sequential``, which all reference models are. Any other model is one
piece: nobody can know which of its modules are called whole.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.nn import functional

from benchbox.schema import Case
from benchbox.worker.engine import AUTOCAST_DTYPE, Collective
from benchbox.worker.models import build_model, num_parameters, num_trained
from benchbox.worker.strategies.own_part import repeat_own, take_own
from benchbox.worker.strategies.single import TorchEngine

# What FSDP2 calls in torch.distributed: the first two from torch 2.13 on, the others before.
_SILENCED: dict[str, Callable[..., None]] = {
    "all_gather_single": repeat_own,
    "reduce_scatter_single": take_own,
    "all_gather_into_tensor": repeat_own,
    "reduce_scatter_tensor": take_own,
}


class Fsdp2Engine(TorchEngine):
    """Stages are sharded from the host one by one. In bf16 and fp16 parameters are gathered, and stages
    computed, in that type, while gradients are reduced in fp32, as are the weights that Adam updates."""

    def __init__(self, case: Case, device: torch.device, import_dirs: tuple[str, ...]) -> None:
        super().__init__(case, device)
        model = build_model(case, import_dirs)
        self._num_parameters, self._num_trained = num_parameters(model), num_trained(model)
        self._is_one_piece = not isinstance(model, nn.Sequential)
        self._param_dtype = AUTOCAST_DTYPE.get(case.precision, torch.float32)
        policy = MixedPrecisionPolicy(param_dtype=self._param_dtype, reduce_dtype=torch.float32)
        mesh = init_device_mesh(device.type, (dist.get_world_size(),))
        for stage in () if self._is_one_piece else model.children():
            if any(True for _ in stage.parameters()):
                fully_shard(stage, mesh=mesh, mp_policy=policy)
        self._sharded: FSDPModule = fully_shard(model, mesh=mesh, mp_policy=policy)
        self._prepare(case, model, model)
        self._num_micro_batches = case.gradient_accumulation_steps
        self._num_taken = 0

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The mean cross-entropy of one micro-batch, a scalar. Gradients are reduced at the last one only."""
        if self._num_micro_batches > 1:
            self._num_taken += 1
            self._sharded.set_requires_gradient_sync(self._num_taken == self._num_micro_batches)
        return functional.cross_entropy(self._forward(inputs).float(), targets)

    def optimizer_step(self) -> None:
        """Update the weights and drop the gradients."""
        super().optimizer_step()
        self._num_taken = 0

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Put functions that exchange nothing in the place of those that FSDP2 calls.

        In fp16 ranks still tell each other, in one number, whether a gradient overflowed.
        """
        real = {name: getattr(dist, name) for name in _SILENCED if hasattr(dist, name)}
        try:
            for name in real:
                setattr(dist, name, _SILENCED[name])
            yield
        finally:
            for name, collective in real.items():
                setattr(dist, name, collective)

    def collectives(self) -> tuple[Collective, ...]:
        """Stages are gathered for the forward and again for the backward pass of every micro-batch, frozen
        weights too; a root that has parameters of its own keeps them from one to the other."""
        size = self._param_dtype.itemsize
        times = 1 if self._is_one_piece else 2
        return (
            Collective(
                "all-gather", "parameters", size * self._num_parameters, times * self._num_micro_batches
            ),
            Collective("reduce-scatter", "gradients", 4 * self._num_trained),
        )
