"""ZeRO by DeepSpeed's own engine, which does precision, loss scaling and accumulation in its own way."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchbox.schema import Case
from benchbox.worker.engine import AUTOCAST_DTYPE, Collective, Engine
from benchbox.worker.models import build_model, num_parameters, num_trained
from benchbox.worker.strategies.cpu_adam import OPTIMIZER_NAME, host_adam
from benchbox.worker.strategies.own_part import repeat_own

STAGE = {"zero1": 1, "zero2": 2, "zero2-offload": 2, "zero3": 3, "zero3-offload": 3}

_COLLECTIVES = frozenset(
    {
        "all_reduce",
        "all_reduce_coalesced",
        "reduce",
        "reduce_scatter",
        "reduce_scatter_tensor",
        "all_gather",
        "all_to_all_single",
        "broadcast",
        "barrier",
    }
)


def deepspeed_config(case: Case) -> dict[str, Any]:
    """DeepSpeed's defaults, but for what the case says."""
    zero: dict[str, Any] = {"stage": STAGE[case.strategy]}
    if case.strategy.endswith("-offload"):
        on_host = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
        zero["offload_optimizer"] = on_host
        if zero["stage"] == 3:
            zero["offload_param"] = on_host
    return {
        "train_micro_batch_size_per_gpu": case.per_device_batch_size,
        "gradient_accumulation_steps": case.gradient_accumulation_steps,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "gradient_clipping": 0.0,  # its default is to clip at norm 1, and no other strategy clips
        "bf16": {"enabled": case.precision == "bf16"},
        "fp16": {"enabled": case.precision == "fp16"},
        "steps_per_print": 2**40,
        # Its own timer waits for the device twice in every step, which no other strategy does.
        "timers": {"throughput": {"enabled": False}},
    }


class ZeroEngine(Engine):
    """A DeepSpeed engine. Weights are in the case's precision; the optimizer keeps fp32 ones beside them."""

    def __init__(self, case: Case, device: torch.device, import_dirs: tuple[str, ...]) -> None:
        super().__init__(case, device)
        deepspeed = import_quietly()
        if device.type == "cuda":
            tell_free_memory(deepspeed.accelerator.get_accelerator())
        self._dtype = AUTOCAST_DTYPE.get(case.precision, torch.float32)
        config = deepspeed_config(case)
        model = build_model(case, import_dirs)
        self._stage = STAGE[case.strategy]
        self._num_parameters, self._num_trained = num_parameters(model), num_trained(model)
        if self._stage == 3:
            model.to(self._dtype)  # as DeepSpeed itself does in the other stages
            deepspeed.zero.Init(module=model, config_dict_or_path=config)
        if case.strategy.endswith("-offload"):
            optimizer = host_adam(model.parameters(), case.learning_rate)
            self.optimizer_name = OPTIMIZER_NAME
        else:
            optimizer = torch.optim.Adam(model.parameters(), lr=case.learning_rate, fused=True)
            self.optimizer_name = "torch.optim.Adam(fused=True)"
        self._deepspeed = deepspeed.initialize(model=model, optimizer=optimizer, config=config)[0]
        self.module = model

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

    def collectives(self) -> tuple[Collective, ...]:
        """As the stage asks for it: gradients reach the rank that keeps their part, once a step in stage 1
        and after each micro-batch in the others; then updated weights, or in stage 3 all weights, frozen ones
        too, at every use, reach everybody.

        In stages 1 and 2 DeepSpeed 0.19 sends more: it reduces gradients to all ranks (all-reduce). In stage
        3 it keeps what it has gathered for the backward pass if so many numbers are within its bounds.
        """
        size, num_gathered = self._dtype.itemsize, self._num_trained
        num_micro_batches = self._deepspeed.gradient_accumulation_steps()
        num_reductions, num_gathers = (1 if self._stage == 1 else num_micro_batches), 1
        if self._stage == 3:
            bound = min(self._deepspeed.zero_max_reuse_distance(), self._deepspeed.zero_max_live_parameters())
            num_gathered = self._num_parameters
            num_gathers = num_micro_batches * (1 if num_gathered <= bound else 2)
        return (
            Collective("reduce-scatter", "gradients", size * self._num_trained, num_reductions),
            Collective("all-gather", "parameters", size * num_gathered, num_gathers),
        )

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Put something that does nothing in the place of DeepSpeed's way to ``torch.distributed``."""
        from deepspeed.comm import comm

        real = comm.cdb
        comm.cdb = _Silence(real, gathers_anew=self._stage == 3)
        try:
            yield
        finally:
            comm.cdb = real


def import_quietly() -> Any:
    """DeepSpeed, without what it says of itself at every start and torch at every collective."""
    import deepspeed
    import deepspeed.comm

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", "`torch.distributed.*` is deprecated", FutureWarning)
    # On a CPU it would compile an all-reduce that only inference uses: minutes at first use, and an error
    # where there is no compiler.
    deepspeed.ops.__compatible_ops__ = {}
    _import_muon()
    return deepspeed


def tell_free_memory(accelerator: Any) -> None:
    """Have torch say how much of a GPU's memory is free, which stages 1 and 2 ask when they flatten weights.

    DeepSpeed 0.19 asks NVML for a device by number, and reads ``CUDA_VISIBLE_DEVICES`` as numbers to find it:
    a name there, which says for certain what device is meant, is a ``ValueError``.
    """
    accelerator.available_memory = lambda device_index=None: torch.cuda.mem_get_info(device_index)[0]


def _import_muon() -> None:
    """DeepSpeed imports it when an engine is made, to see whether the optimizer is Muon; and Muon, which
    nothing here uses, takes seconds to import torch's compiler, unless torch is told that none is wanted."""
    before = os.environ.get("TORCHDYNAMO_DISABLE")
    os.environ["TORCHDYNAMO_DISABLE"] = "1"
    with contextlib.suppress(ImportError):  # not every version has it
        import deepspeed.runtime.zero.muon.muon_optimizer  # noqa: F401
    if before is None:
        del os.environ["TORCHDYNAMO_DISABLE"]
    else:
        os.environ["TORCHDYNAMO_DISABLE"] = before


class _Silence:
    """DeepSpeed's backend, with collectives that have happened as soon as they are asked for.

    Stages 1 and 2 gather in place, and so keep what parameters were before; stage 3 gathers into new memory.
    """

    def __init__(self, real: object, *, gathers_anew: bool) -> None:
        self._real = real
        self._gathers_anew = gathers_anew

    def __getattr__(self, name: str) -> object:
        return _do_nothing if name in _COLLECTIVES else getattr(self._real, name)

    def all_gather_into_tensor(self, output_tensor: Tensor, input_tensor: Tensor, **_: object) -> _Done:
        """Exchange nothing."""
        if self._gathers_anew:
            repeat_own(output_tensor, input_tensor)
        return _Done()

    def all_gather_coalesced(
        self, output_tensors: list[Tensor], input_tensors: list[Tensor], *_: object
    ) -> _Done:
        """Exchange nothing."""
        for output, own in zip(output_tensors, input_tensors, strict=True):
            self.all_gather_into_tensor(output, own)
        return _Done()


class _Done:
    """The handle of a collective that has happened."""

    def wait(self) -> None:
        """Return at once."""

    def is_completed(self) -> bool:
        """It is."""
        return True


def _do_nothing(*_: object, **__: object) -> _Done:
    return _Done()
