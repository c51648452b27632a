"""ZeRO by DeepSpeed's own engine, which does precision, loss scaling and accumulation in its own way."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchbox.schema import Case
from benchbox.worker.engine import AUTOCAST_DTYPE, Engine
from benchbox.worker.models import build_model

STAGE = {"zero1": 1, "zero2": 2, "zero2-offload": 2, "zero3": 3, "zero3-offload": 3}


def deepspeed_config(case: Case) -> dict[str, Any]:
    """DeepSpeed's defaults, but for what the case says."""
    zero: dict[str, Any] = {"stage": STAGE[case.strategy]}
    if case.strategy.endswith("-offload"):
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
        if zero["stage"] == 3:
            zero["offload_param"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    return {
        "train_micro_batch_size_per_gpu": case.per_device_batch_size,
        "gradient_accumulation_steps": case.gradient_accumulation_steps,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": case.precision == "bf16"},
        "fp16": {"enabled": case.precision == "fp16"},
        "steps_per_print": 2**40,
    }


class ZeroEngine(Engine):
    """A DeepSpeed engine. Weights are in the case's precision; the optimizer keeps fp32 ones beside them."""

    optimizer_name = "torch.optim.Adam(fused=True)"

    def __init__(self, case: Case, device: torch.device, import_dirs: tuple[str, ...]) -> None:
        super().__init__(case, device)
        import deepspeed

        logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
        config = deepspeed_config(case)
        model = build_model(case, import_dirs)
        if STAGE[case.strategy] == 3:
            deepspeed.zero.Init(module=model, config_dict_or_path=config)
        optimizer = torch.optim.Adam(model.parameters(), lr=case.learning_rate, fused=True)
        self._deepspeed = deepspeed.initialize(model=model, optimizer=optimizer, config=config)[0]
        self.module = model
        self._dtype = AUTOCAST_DTYPE.get(case.precision, torch.float32)

    def to_device(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Copy a micro-batch to the device, in the case's memory format and precision."""
        on_device, targets = super().to_device(inputs, targets)
        return on_device.to(self._dtype), targets

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The mean cross-entropy of one micro-batch, a scalar; in fp32 whatever the logits are in."""
        return functional.cross_entropy(self._deepspeed(inputs).float(), targets)

    def backward(self, loss: Tensor) -> None:
        """Add one micro-batch's share to the gradients; DeepSpeed divides by the number of micro-batches."""
        self._deepspeed.backward(loss)
        if not self._deepspeed.is_gradient_accumulation_boundary():
            self._deepspeed.step()  # counts the micro-batch, and updates nothing

    def optimizer_step(self) -> None:
        """Update the weights and drop the gradients."""
        self._deepspeed.step()

    def was_skipped(self) -> bool:
        """Whether DeepSpeed found a gradient that is not finite."""
        return not self._deepspeed.was_step_applied()

    def close(self) -> None:
        """Take DeepSpeed's hooks off, which hold the model in cycles."""
        self._deepspeed.destroy()
