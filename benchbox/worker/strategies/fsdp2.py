"""FSDP2: every rank holds a part of each parameter, and gathers a stage's parameters when it needs them."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.nn import functional

from benchbox.schema import Case
from benchbox.worker.engine import AUTOCAST_DTYPE
from benchbox.worker.models import build_model
from benchbox.worker.strategies.single import TorchEngine

# What FSDP2 calls in torch.distributed: the first two from torch 2.13 on, the others before.
_COLLECTIVES = (
    "all_gather_single",
    "reduce_scatter_single",
    "all_gather_into_tensor",
    "reduce_scatter_tensor",
)


class Fsdp2Engine(TorchEngine):
    """Stages are sharded from the host one by one. In bf16 and fp16 parameters are gathered, and stages
    computed, in that type, while gradients are reduced in fp32, as are the weights that Adam updates."""

    def __init__(self, case: Case, device: torch.device, import_dirs: tuple[str, ...]) -> None:
        super().__init__(case, device)
        model = build_model(case, import_dirs)
        self._param_dtype = AUTOCAST_DTYPE.get(case.precision, torch.float32)
        policy = MixedPrecisionPolicy(param_dtype=self._param_dtype, reduce_dtype=torch.float32)
        mesh = init_device_mesh(device.type, (dist.get_world_size(),))
        for stage in model.children() if isinstance(model, nn.Sequential) else ():
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
