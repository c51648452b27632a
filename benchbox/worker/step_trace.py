"""The storages of one training step, in order, traced under fake tensors: no data, no time, no device.

A build of torch without CUDA cannot hold fake CUDA tensors (autograd asks for the device's guard), so every
trace is of fake CPU tensors. What a GPU does otherwise is put in: dropout keeps a mask of booleans, attention
has the kernel that a GPU would choose, autocast has the loss's logarithms in the low precision, and a batch
from the host is copied.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import msgspec
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional

from benchbox.schema import Case
from benchbox.worker.gpu_kernels import gpu_kernels
from benchbox.worker.live_storages import LiveStorages
from benchbox.worker.models import build_model

LOW_DTYPE = {"bf16": torch.bfloat16, "fp16": torch.float16}
MAX_TRACED_MICRO_BATCHES = 3  # the second adds to gradients that stand, and further ones do the same again

Kind = Literal["parameter", "gradient", "optimizer", "batch", "saved", "temporary", "elsewhere"]


class TraceSetup(msgspec.Struct, frozen=True, kw_only=True):
    """All that the storages of a step depend on, but for the batch size."""

    model: str
    input_shape: tuple[int, ...]
    num_classes: int
    hidden_size: int | None
    low_dtype: Literal["bf16", "fp16"] | None
    """``None``: everything in fp32."""
    casts_model: bool
    """The whole model is in the low precision, as DeepSpeed and FSDP2 have it; else autocast."""
    gradient_checkpointing: bool
    channels_last: bool
    num_micro_batches: int
    batch_from: Literal["device", "host", "loader"]
    as_gpu: bool


@dataclass(frozen=True)
class StepTrace:
    """Two optimizer steps; the second is how every later one goes."""

    events: tuple[int, ...]
    """``i``: storage i begins; ``~i``: it ends. Ends that follow each other are sorted."""
    sizes: tuple[int, ...]
    """Bytes of each storage."""
    kinds: tuple[Kind, ...]
    saved: tuple[int, ...]
    """Storages that autograd keeps for the backward pass of a micro-batch, parameters left out."""
    step_from: int
    """Where in ``events`` the second step begins."""
    has_convolutions: bool


def trace_setup(case: Case, *, as_gpu: bool) -> TraceSetup:
    """What to trace for ``case``."""
    low = case.precision if case.precision in LOW_DTYPE else None
    on_device: Literal["device", "host", "loader"] = "loader"
    if case.data == "device" or (case.data == "host" and not as_gpu):
        on_device = "device"
    elif case.data == "host":
        on_device = "host"
    return TraceSetup(
        model=case.model,
        input_shape=case.input_shape,
        num_classes=case.num_classes,
        hidden_size=case.hidden_size,
        low_dtype=low,  # type: ignore[arg-type]
        casts_model=low is not None and case.strategy not in ("single", "ddp"),
        gradient_checkpointing=case.gradient_checkpointing,
        channels_last=case.memory_format == "channels_last",
        num_micro_batches=min(case.gradient_accumulation_steps, MAX_TRACED_MICRO_BATCHES),
        batch_from=on_device,
        as_gpu=as_gpu,
    )


def trace_fake(setup: TraceSetup, case: Case, batch_size: int, import_dirs: tuple[str, ...]) -> StepTrace:
    """Trace a step of ``batch_size`` samples a micro-batch.

    ``case`` names the model; anything that it raises, or that cannot run under fake tensors, is raised.
    """
    with torch.device("meta"):
        module = _formatted(build_model(case, import_dirs), setup)
    with FakeTensorMode():
        without_data(module)
        return trace_module(module, setup, batch_size)


def trace_module(module: nn.Module, setup: TraceSetup, batch_size: int) -> StepTrace:
    """Trace a step of a module that is there, on tensors of the kind that are made now, fake or real."""
    return _Tracer(module, setup).trace(batch_size)


def _formatted(module: nn.Module, setup: TraceSetup) -> nn.Module:
    if setup.casts_model and setup.low_dtype is not None:
        module = module.to(LOW_DTYPE[setup.low_dtype])
    return module.to(memory_format=_memory_format(setup))  # type: ignore[call-overload, no-any-return]


def _memory_format(setup: TraceSetup) -> torch.memory_format:
    return torch.channels_last if setup.channels_last else torch.contiguous_format


def without_data(module: nn.Module) -> None:
    """Put tensors of the current kind in place of those on the meta device; shared ones stay shared."""
    made: dict[int, Tensor] = {}

    def like(old: Tensor) -> Tensor:
        return torch.empty_strided(old.shape, old.stride(), dtype=old.dtype, device="cpu")

    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False, remove_duplicate=False)):
            new = nn.Parameter(like(parameter), requires_grad=parameter.requires_grad)
            setattr(part, name, made.setdefault(id(parameter), new))
        for name, buffer in list(part.named_buffers(recurse=False, remove_duplicate=False)):
            setattr(part, name, made.setdefault(id(buffer), like(buffer)))


class _Tracer:
    """Takes the steps as ``worker.engine`` takes them and sorts what it sees."""

    def __init__(self, module: nn.Module, setup: TraceSetup) -> None:
        self._module = module
        self._setup = setup
        self._optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, fused=True)
        self._live = LiveStorages()
        self._kinds: dict[int, Kind] = {}
        self._saved: set[int] = set()

    def trace(self, batch_size: int) -> StepTrace:
        live = self._live
        batches = self._batches(batch_size)
        for tensor in (*self._module.parameters(), *self._module.buffers()):
            self._sort(tensor, "parameter")
        for tensor in (tensor for batch in batches for tensor in batch):
            self._sort(tensor, "batch" if self._lies_on_device() else "elsewhere")
        with live, gpu_kernels() if self._setup.as_gpu else contextlib.nullcontext():
            first_number = len(live.sizes)
            loss = self._step(batches, sees_saved=True)
            for state in self._optimizer.state.values():
                for tensor in state.values():
                    self._sort(tensor, "optimizer")
            step_from, second_number = len(live.events), len(live.sizes)
            # Kept until the second step gives its own, as a loop keeps it.
            loss = self._step(batches, sees_saved=False)
            events, sizes = tuple(live.events), tuple(live.sizes)
        del loss
        saved = self._saved_in_second(first_number, second_number)
        for number in saved:
            self._kinds.setdefault(number, "saved")
        return StepTrace(
            events=sorted_ends(events, step_from),
            sizes=sizes,
            kinds=tuple(self._kinds.get(number, "temporary") for number in range(len(sizes))),
            saved=saved,
            step_from=step_from,
            has_convolutions="convolution" in live.operators,
        )

    def _saved_in_second(self, first: int, second: int) -> tuple[int, ...]:
        """The same storages of the second step, where no hook changes how long a tensor lives."""
        moved = (number if number < first else number - first + second for number in self._saved)
        return tuple(sorted(n for n in moved if self._kinds.get(n) != "parameter"))

    def _sort(self, tensor: Tensor, kind: Kind) -> None:
        number = self._live.number(tensor)
        if number is not None:
            self._kinds[number] = kind

    def _lies_on_device(self) -> bool:
        return not self._setup.as_gpu or self._setup.batch_from == "device"

    def _batches(self, batch_size: int) -> list[tuple[Tensor, Tensor]]:
        batches = []
        for _ in range(self._setup.num_micro_batches):
            inputs = torch.zeros(batch_size, *self._setup.input_shape)
            if self._setup.batch_from != "loader" and inputs.dim() == 4:
                inputs = inputs.contiguous(memory_format=_memory_format(self._setup))
            batches.append((inputs, torch.zeros(batch_size, dtype=torch.int64)))
        return batches

    def _step(self, batches: list[tuple[Tensor, Tensor]], *, sees_saved: bool) -> Tensor:
        for place, (host_inputs, host_targets) in enumerate(batches):
            inputs, targets = self._to_device(host_inputs), self._to_device(host_targets)
            with self._watch_saved() if sees_saved and place == 0 else contextlib.nullcontext():
                loss = self._loss(inputs, targets)
            share = loss / len(batches) if len(batches) > 1 else loss
            torch.autograd.backward(share)
        for parameter in self._module.parameters():
            if parameter.grad is not None:
                self._sort(parameter.grad, "gradient")
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return loss

    def _to_device(self, tensor: Tensor) -> Tensor:
        memory_format = _memory_format(self._setup) if tensor.dim() == 4 else torch.contiguous_format
        if self._lies_on_device():
            return tensor.contiguous(memory_format=memory_format)
        copy = tensor.clone(memory_format=memory_format)
        self._sort(copy, "batch")
        return copy

    def _loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        dtype = LOW_DTYPE[self._setup.low_dtype] if self._setup.low_dtype is not None else None
        if dtype is None:
            return functional.cross_entropy(self._module(inputs), targets)
        if self._setup.casts_model:
            return functional.cross_entropy(self._module(inputs.to(dtype)).float(), targets)
        with torch.autocast("cpu", dtype):
            logits = self._module(inputs)
            if not self._setup.as_gpu:
                return functional.cross_entropy(logits, targets)
        # A GPU's autocast leaves the logarithms in the low precision, and converts them for the loss.
        return functional.nll_loss(logits.log_softmax(1).float(), targets)

    @contextlib.contextmanager
    def _watch_saved(self) -> Iterator[None]:
        def pack(tensor: Tensor) -> Tensor:
            number = self._live.number(tensor)
            if number is not None:
                self._saved.add(number)
            return tensor

        with saved_tensors_hooks(pack, lambda tensor: tensor):
            yield


def sorted_ends(events: tuple[int, ...], *borders: int) -> tuple[int, ...]:
    """Ends that follow each other in one order: a cache that is cleared gives them in the order of hashes."""
    out: list[int] = []
    ends: list[int] = []
    for place, event in enumerate(events):
        if ends and (event >= 0 or place in borders):
            out += sorted(ends)
            ends = []
        if event < 0:
            ends.append(event)
        else:
            out.append(event)
    return (*out, *sorted(ends))
