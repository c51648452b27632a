"""Exact FLOPs of one optimizer step, counted on the meta device: no data, no time, no device."""

from __future__ import annotations

import msgspec
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from benchbox.schema import Case, Flops
from benchbox.worker.models import build_model


def count_flops(case: Case, import_dirs: tuple[str, ...]) -> Flops:
    """Count matrix products and convolutions, forward and backward, two FLOPs a multiply-add.

    The model's FLOPs are counted without checkpointing, the hardware's with it.
    """
    plain, num_parameters = _count(msgspec.structs.replace(case, gradient_checkpointing=False), import_dirs)
    hardware = _count(case, import_dirs)[0] if case.gradient_checkpointing else plain
    return Flops(
        model_flops_per_step=plain * case.gradient_accumulation_steps,
        hardware_flops_per_step=hardware * case.gradient_accumulation_steps,
        num_parameters=num_parameters,
    )


def _count(case: Case, import_dirs: tuple[str, ...]) -> tuple[int, int]:
    """FLOPs of one micro-batch and the number of parameters."""
    with torch.device("meta"):
        model = build_model(case, import_dirs).to("meta")
        inputs = torch.empty(case.per_device_batch_size, *case.input_shape)
        targets = torch.empty(case.per_device_batch_size, dtype=torch.int64)
        with FlopCounterMode(display=False) as counter:
            torch.autograd.backward(functional.cross_entropy(model(inputs), targets))
    return counter.get_total_flops(), sum(p.numel() for p in model.parameters())
