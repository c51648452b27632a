from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchbox.schema import Case
from benchbox.worker.data import make_batches
from benchbox.worker.engine import check_supported, set_precision_flags
from benchbox.worker.models import UnsupportedCase
from benchbox.worker.strategies.single import SingleEngine
from tests.worker.tasks import CPU, IMAGES, SMALL_CNN, make_case, make_task, write_model

CUDA = torch.device("cuda:0")


def parameters(engine: SingleEngine) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in engine.module.parameters()]


# --- a step ------------------------------------------------------------------------------------------------


def test_a_step_is_adam_on_the_cross_entropy() -> None:
    engine = SingleEngine(make_case(learning_rate=0.01), CPU, ())
    by_hand = copy.deepcopy(engine.module)
    adam = torch.optim.Adam(by_hand.parameters(), lr=0.01)
    x, y = torch.randn(4, 16), torch.arange(4)
    for _ in range(3):
        expected = -torch.log_softmax(by_hand(x), dim=1)[torch.arange(4), y].mean()
        adam.zero_grad()
        expected.backward()
        adam.step()
        torch.testing.assert_close(engine.step(((x, y),)), expected)
    for ours, theirs in zip(engine.module.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_accumulation_equals_one_big_batch() -> None:
    x, y = torch.randn(12, 16), torch.arange(12) % 4
    whole = SingleEngine(make_case(per_device_batch_size=12), CPU, ())
    pieces = SingleEngine(make_case(per_device_batch_size=4, gradient_accumulation_steps=3), CPU, ())
    for _ in range(3):
        whole.step(((x, y),))
        pieces.step(tuple(zip(x.split(4), y.split(4), strict=True)))
    for a, b in zip(parameters(whole), parameters(pieces), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_a_step_returns_the_last_micro_batchs_own_loss() -> None:
    """Not its share: losses are compared between cases of different accumulation."""
    x, y = torch.randn(8, 16), torch.arange(8) % 4
    alone = SingleEngine(make_case(), CPU, ())
    expected = alone.forward(x[4:], y[4:])
    both = SingleEngine(make_case(gradient_accumulation_steps=2), CPU, ())
    torch.testing.assert_close(both.step(((x[:4], y[:4]), (x[4:], y[4:]))), expected)


def test_no_gradient_is_left_after_a_step() -> None:
    engine = SingleEngine(make_case(), CPU, ())
    engine.step(((torch.randn(4, 16), torch.arange(4)),))
    assert all(parameter.grad is None for parameter in engine.module.parameters())


# --- precision ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_products_run_in_the_cases_precision_and_weights_stay_in_fp32(
    precision: str, dtype: torch.dtype
) -> None:
    engine = SingleEngine(make_case(SMALL_CNN, precision=precision), CPU, ())
    seen: list[torch.dtype] = []
    for module in engine.module.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    loss = engine.step(((torch.randn(4, 1, 28, 28), torch.arange(4)),))
    assert seen == [dtype] * 3
    assert loss.dtype == torch.float32
    assert all(parameter.dtype == torch.float32 for parameter in engine.module.parameters())


def test_nothing_is_cast_outside_a_step() -> None:
    SingleEngine(make_case(precision="bf16"), CPU, ()).step(((torch.randn(4, 16), torch.arange(4)),))
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_tf32_is_used_where_the_case_says_so_and_nowhere_else(precision: str) -> None:
    set_precision_flags(precision)
    allowed = (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
    assert allowed == (precision == "tf32",) * 2


# --- memory format -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("memory_format", "expected", "other"),
    [
        ("channels_last", torch.channels_last, torch.contiguous_format),
        ("contiguous", torch.contiguous_format, torch.channels_last),
    ],
)
@pytest.mark.parametrize(
    "source",
    [
        {"data": "device"},
        {"data": "host"},
        {"data": "loader", "num_loader_workers": 0},
        {"data": "folder", "num_generated_images": 4, "num_loader_workers": 0},
    ],
    ids=lambda source: source["data"],
)
def test_the_layout_reaches_the_convolutions_input_weight_and_output(
    tmp_path: Path,
    memory_format: str,
    expected: torch.memory_format,
    other: torch.memory_format,
    source: dict[str, Any],
) -> None:
    name = write_model(
        tmp_path,
        """
        def make():
            return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 5))
        """,
    )
    case = make_case(IMAGES, source, model=f"{name}:make", memory_format=memory_format)
    task = make_task(tmp_path, case)
    engine = SingleEngine(case, CPU, (str(tmp_path),))
    seen: list[torch.Tensor] = []

    def look(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        seen.extend((inputs[0], module.weight, output))

    for module in engine.module.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(look)
    ((inputs, targets),) = next(make_batches(task, CPU))
    engine.forward(*engine.to_device(inputs, targets))
    assert len(seen) == 6
    for tensor in seen:
        assert tensor.is_contiguous(memory_format=expected)
        assert not tensor.is_contiguous(memory_format=other)


# --- what cannot be done -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (make_case(world_size=2), "strategy single trains on one device, not on 2"),
        (
            make_case(strategy="ddp", compile=True),
            "torch.compile is offered with strategy single",
        ),
        (make_case(precision="tf32"), "tf32 needs an NVIDIA GPU of compute capability 8.0 or later"),
        (make_case(precision="fp16"), "fp16 training on a CPU: torch has no fast convolution"),
        (make_case(memory_format="channels_last"), "channels_last needs samples of three dimensions"),
    ],
)
def test_what_a_cpu_cannot_do_is_unsupported_with_the_reason(case: Case, reason: str) -> None:
    with pytest.raises(UnsupportedCase, match=reason):
        check_supported(case, CPU)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_a_cpu_can_do_is_supported(precision: str) -> None:
    check_supported(make_case(SMALL_CNN, precision=precision, memory_format="channels_last"), CPU)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_an_old_gpu_lacks_the_newer_precisions(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    with pytest.raises(UnsupportedCase, match=f"{precision} needs compute capability 8.0 .* has 7.5"):
        check_supported(make_case(precision=precision), CUDA)
    check_supported(make_case(precision="fp16"), CUDA)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_a_newer_gpu_has_all_precisions(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    check_supported(make_case(precision=precision), CUDA)


def test_compiling_without_a_compiler_is_unsupported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnsupportedCase, match="needs a compiler, and none of"):
        check_supported(make_case(compile=True), CPU)


# --- compiling ---------------------------------------------------------------------------------------------


def test_a_compiled_step_computes_the_same() -> None:
    batch = ((torch.randn(4, 16), torch.arange(4)),)
    plain, compiled = (SingleEngine(make_case(compile=compile_), CPU, ()) for compile_ in (False, True))
    for _ in range(2):
        torch.testing.assert_close(plain.step(batch), compiled.step(batch))
    from torch._dynamo.utils import counters

    assert counters["stats"]["unique_graphs"] > 0  # it was compiled indeed
    torch.compiler.reset()
    counters.clear()
