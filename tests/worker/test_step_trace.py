"""That traces under fake tensors are those of real tensors, to the byte."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from benchbox.schema import Case, Precision
from benchbox.worker.models import build_model
from benchbox.worker.step_memory import (
    TRACED_BATCH_SIZES,
    bytes_alive_at_peak,
    holds,
    peak_of,
    step_memory,
)
from benchbox.worker.step_trace import trace_fake, trace_module, trace_setup
from benchbox.worker.strategies import make_engine
from tests.factories import NUM_PARAMETERS, make_case
from tests.worker.mixed_model import MIXED

CPU = torch.device("cpu")
SHAPES: dict[str, dict[str, Any]] = {
    "mlp": {"input_shape": (12,), "num_classes": 5, "hidden_size": 8},
    "small-cnn": {"input_shape": (1, 28, 28), "num_classes": 10},
    "reference-cnn": {},
}


def cases(models: tuple[str, ...], batch_sizes: tuple[int, ...]) -> Iterator[Case]:
    for model, size, precision, checkpointing, memory_format in itertools.product(
        models, batch_sizes, ("fp32", "bf16"), (False, True), ("contiguous", "channels_last")
    ):
        if model != "mlp" or memory_format == "contiguous":
            yield make_case(
                model=model,
                per_device_batch_size=size,
                precision=precision,
                gradient_checkpointing=checkpointing,
                memory_format=memory_format,
                **SHAPES[model],
            )


def what(case: Case) -> str:
    checkpointing = "ckpt" if case.gradient_checkpointing else "plain"
    return f"{case.model}-{case.per_device_batch_size}-{case.precision}-{checkpointing}-{case.memory_format}"


SMALL = list(cases(("mlp", "small-cnn"), (1, 7)))


@pytest.fixture
def no_initial_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory does not depend on weights, and drawing 192 million of them takes seconds."""
    monkeypatch.setattr(nn.init, "kaiming_uniform_", lambda tensor, **_: tensor)
    monkeypatch.setattr(nn.init, "uniform_", lambda tensor, *_: tensor)


def bytes_seen_by_hooks(case: Case) -> int:
    """What autograd keeps in a real forward pass of the engine that is measured, each storage once."""
    engine = make_engine(case, CPU, ())
    parameters = {p.untyped_storage().data_ptr() for p in engine.module.parameters()}
    kept: list[Tensor] = []  # so that no address is used twice
    inputs = torch.zeros(case.per_device_batch_size, *case.input_shape)
    targets = torch.zeros(case.per_device_batch_size, dtype=torch.int64)
    if case.memory_format == "channels_last":
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    with saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        engine.forward(inputs, targets)
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in kept}
    return sum(num_bytes for address, num_bytes in storages.items() if address not in parameters)


def saved_bytes(case: Case) -> int:
    trace = trace_fake(trace_setup(case, as_gpu=False), case, case.per_device_batch_size, ())
    return sum(trace.sizes[number] for number in trace.saved)


@pytest.mark.parametrize("case", SMALL, ids=what)
def test_saved_bytes_are_what_torchs_hooks_see_in_a_real_pass(case: Case) -> None:
    assert saved_bytes(case) == bytes_seen_by_hooks(case) > 0


@pytest.mark.parametrize("case", list(cases(("reference-cnn",), (2,))), ids=what)
@pytest.mark.usefixtures("no_initial_weights")
def test_saved_bytes_of_the_reference_model_too(case: Case) -> None:
    assert saved_bytes(case) == bytes_seen_by_hooks(case) > 0


def test_checkpointing_keeps_less_and_bf16_keeps_copies_of_weights() -> None:
    plain, checkpointed, low = (
        saved_bytes(make_case(**changes))
        for changes in ({}, {"gradient_checkpointing": True}, {"precision": "bf16"})
    )
    assert checkpointed < plain / 4
    num_copied_weights = 128 * 64 * 9 + 512 * 128 * 54 * 54 + 1000 * 512 + 64 * 3 * 9
    halves = saved_bytes(make_case(precision="bf16", per_device_batch_size=64)) - low
    assert low == pytest.approx(halves + 2 * num_copied_weights, rel=1e-3)


@pytest.mark.parametrize("case", SMALL, ids=what)
@pytest.mark.parametrize("as_gpu", [False, True])
def test_fake_and_real_tensors_live_and_end_alike(case: Case, as_gpu: bool) -> None:
    setup = trace_setup(case, as_gpu=as_gpu)
    fake = trace_fake(setup, case, case.per_device_batch_size, ())
    memory_format = torch.channels_last if setup.channels_last else torch.contiguous_format
    module = build_model(case, ()).to(memory_format=memory_format)  # type: ignore[call-overload]
    assert trace_module(module, setup, case.per_device_batch_size) == fake


def test_states_are_exactly_parameters_gradients_and_adams_two_moments() -> None:
    case = make_case()
    trace = trace_fake(trace_setup(case, as_gpu=False), case, 1, ())
    num_bytes = 4 * NUM_PARAMETERS["reference-cnn"]
    parameters, gradients, optimizer = (
        peak_of((kind,), trace, trace.sizes) for kind in ("parameter", "gradient", "optimizer")
    )
    assert parameters == gradients == num_bytes
    assert optimizer == 2 * num_bytes + 4 * 8  # and a step count for each of eight tensors


@pytest.mark.parametrize("data", ["device", "host", "loader"])
@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("as_gpu", [False, True])
def test_two_batch_sizes_foretell_every_other_one(
    data: str, accumulation: int, precision: str, as_gpu: bool
) -> None:
    for strategy in ("single",) if precision == "fp32" else ("single", "zero2"):
        case = make_case(
            model="small-cnn",
            data=data,
            precision=precision,
            strategy=strategy,
            gradient_accumulation_steps=accumulation,
            memory_format="channels_last",
            **SHAPES["small-cnn"],
        )
        setup = trace_setup(case, as_gpu=as_gpu)
        first, second = (trace_fake(setup, case, size, ()) for size in TRACED_BATCH_SIZES)
        memory = step_memory(first, second)
        assert memory is not None
        assert all(holds(memory, trace_fake(setup, case, size, ()), size) for size in (1, 64))


def test_a_gpu_keeps_a_byte_an_element_for_dropout_and_a_cpu_a_number() -> None:
    case = make_case()
    on_cpu, on_gpu = (trace_fake(trace_setup(case, as_gpu=as_gpu), case, 10, ()) for as_gpu in (False, True))
    saved = [sum(trace.sizes[number] for number in trace.saved) for trace in (on_cpu, on_gpu)]
    assert saved[0] - saved[1] == 10 * 512 * 3


def test_a_batch_from_the_host_takes_room_on_a_gpu_only_while_it_is_used() -> None:
    on_device, from_host = (
        trace_fake(trace_setup(case, as_gpu=True), case, 8, ())
        for case in (make_case(), make_case(data="host"))
    )
    batch = 8 * (3 * 224 * 224 * 4 + 8)
    assert peak_of(("batch",), on_device, on_device.sizes) == batch
    assert peak_of(("batch",), from_host, from_host.sizes) == batch
    peaks = [bytes_alive_at_peak(t, t.sizes, is_rounded=False) for t in (on_device, from_host)]
    assert peaks[0] == peaks[1]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_attention_with_dropout_keeps_no_matrix_of_weights_on_a_gpu(precision: Precision) -> None:
    case = make_case(**MIXED, precision=precision)
    num_samples, num_heads, num_tokens = 64, 2, 16
    matrix = num_samples * num_heads * num_tokens**2
    on_cpu, on_gpu = (
        trace_fake(trace_setup(case, as_gpu=as_gpu), case, num_samples, ()) for as_gpu in (False, True)
    )
    element = 4 if precision == "fp32" else 2
    saved = [[trace.sizes[number] for number in trace.saved] for trace in (on_cpu, on_gpu)]
    assert saved[0].count(element * matrix) > saved[1].count(element * matrix)
    assert sum(saved[0]) > sum(saved[1])
