from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from benchbox.schema import Case
from benchbox.worker.flops import count_flops
from benchbox.worker.models import StagedModel, UnsupportedCase, build_model
from tests.worker.tasks import IMAGES, REFERENCE_CNN, SMALL_CNN, make_case, write_forward, write_model

REFERENCE_FORWARD, REFERENCE_STEP = 2_305_480_192, 6_746_115_072


def on_meta(case: Case) -> nn.Module:
    with torch.device("meta"):
        return build_model(case, ())


def gradients(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> list[torch.Tensor]:
    torch.manual_seed(5)  # for dropout
    model.zero_grad()
    functional.cross_entropy(model(inputs), targets).backward()
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


# --- the reference workloads are exactly these -------------------------------------------------------------


@pytest.mark.parametrize(("base", "num_parameters"), [(REFERENCE_CNN, 191_692_136), (SMALL_CNN, 693_962)])
def test_models_have_their_number_of_parameters(base: dict[str, Any], num_parameters: int) -> None:
    model = on_meta(make_case(base))
    assert sum(parameter.numel() for parameter in model.parameters()) == num_parameters
    assert count_flops(make_case(base), ()).num_parameters == num_parameters


def test_nearly_all_of_the_reference_models_parameters_are_in_one_layer() -> None:
    largest = max(parameter.numel() for parameter in on_meta(make_case(REFERENCE_CNN)).parameters())
    assert largest / 191_692_136 == pytest.approx(0.997, abs=5e-4)


@pytest.mark.parametrize(("base", "shape"), [(REFERENCE_CNN, (2, 1000)), (SMALL_CNN, (2, 10))])
def test_models_turn_samples_into_logits(base: dict[str, Any], shape: tuple[int, int]) -> None:
    case = make_case(base)
    assert on_meta(case)(torch.empty(2, *case.input_shape, device="meta")).shape == shape


def test_the_reference_models_forward_pass_has_its_flops() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    model = on_meta(make_case(REFERENCE_CNN))
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, 224, 224, device="meta"))
    assert counter.get_total_flops() == REFERENCE_FORWARD


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_reference_models_training_step_has_its_flops(batch_size: int, accumulation: int) -> None:
    flops = count_flops(
        make_case(REFERENCE_CNN, per_device_batch_size=batch_size, gradient_accumulation_steps=accumulation),
        (),
    )
    assert flops.model_flops_per_step == REFERENCE_STEP * batch_size * accumulation
    assert flops.hardware_flops_per_step == flops.model_flops_per_step


def test_checkpointing_adds_one_forward_pass_of_all_but_the_last_layer_to_the_hardwares_flops() -> None:
    flops = count_flops(
        make_case(REFERENCE_CNN, per_device_batch_size=1, gradient_checkpointing=True, precision="bf16"), ()
    )
    assert flops.model_flops_per_step == REFERENCE_STEP
    last_layer = 2 * 512 * 1000
    assert flops.hardware_flops_per_step == REFERENCE_STEP + REFERENCE_FORWARD - last_layer


def test_the_mlps_flops_follow_from_its_sizes() -> None:
    inputs, hidden, classes, batch = 20, 30, 7, 5
    flops = count_flops(
        make_case(
            input_shape=(inputs,), hidden_size=hidden, num_classes=classes, per_device_batch_size=batch
        ),
        (),
    )
    assert flops.num_parameters == inputs * hidden + hidden + hidden * classes + classes
    forward = 2 * batch * (inputs * hidden + hidden * classes)
    weight_gradients, hidden_gradient = forward, 2 * batch * hidden * classes
    assert flops.model_flops_per_step == forward + weight_gradients + hidden_gradient


def test_the_mlp_is_two_layers_with_a_relu_between() -> None:
    model = build_model(make_case(), ())
    w1, b1, w2, b2 = model.parameters()
    x = torch.randn(3, 16)
    torch.testing.assert_close(model(x), (x @ w1.T + b1).clamp(min=0) @ w2.T + b2)


# --- weights and checkpointing -----------------------------------------------------------------------------


@pytest.mark.parametrize("base", [{}, SMALL_CNN])
def test_weights_follow_from_the_seed(base: dict[str, Any]) -> None:
    first, again, other = (build_model(make_case(base, seed=seed), ()) for seed in (3, 3, 4))
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


def test_weights_do_not_depend_on_how_they_are_trained() -> None:
    plain = build_model(make_case(SMALL_CNN), ())
    other = build_model(make_case(SMALL_CNN, precision="bf16", gradient_checkpointing=True, compile=True), ())
    for a, b in zip(plain.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_models_come_in_training_mode() -> None:
    assert all(module.training for module in on_meta(make_case(REFERENCE_CNN)).modules())


def test_checkpointing_gives_the_same_gradients() -> None:
    x, y = torch.randn(4, 1, 28, 28), torch.arange(4)
    plain = gradients(build_model(make_case(SMALL_CNN), ()), x, y)
    checkpointed = gradients(build_model(make_case(SMALL_CNN, gradient_checkpointing=True), ()), x, y)
    assert len(plain) == 6
    for a, b in zip(plain, checkpointed, strict=True):
        torch.testing.assert_close(a, b)


def test_checkpointing_repeats_dropouts_mask() -> None:
    model = StagedModel(nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Dropout(0.5)), nn.Linear(64, 4))
    x, y = torch.randn(8, 16), torch.arange(8) % 4
    plain = gradients(model, x, y)
    plain = [gradient.clone() for gradient in plain]
    model.gradient_checkpointing_enable()
    for a, b in zip(plain, gradients(model, x, y), strict=True):
        torch.testing.assert_close(a, b)


def test_checkpointing_keeps_fewer_activations() -> None:
    def saved_bytes(checkpointing: bool) -> int:
        model = build_model(make_case(SMALL_CNN, gradient_checkpointing=checkpointing), ())
        sizes: list[int] = []

        def count(tensor: torch.Tensor) -> torch.Tensor:
            sizes.append(tensor.numel() * tensor.element_size())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            model(torch.randn(4, 1, 28, 28))
        return sum(sizes)

    assert saved_bytes(checkpointing=True) < saved_bytes(checkpointing=False) / 2


# --- models of one's own -----------------------------------------------------------------------------------


def test_a_factory_of_ones_own_is_imported_and_seeded(tmp_path: Path) -> None:
    model = write_forward(tmp_path, "")
    case = make_case(IMAGES, model=model)
    first, again = (build_model(case, (str(tmp_path),)) for _ in range(2))
    assert type(first).__name__ == "Own"
    assert first.training
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_factory_may_live_inside_a_package(tmp_path: Path) -> None:
    package = tmp_path / "own_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    name = write_model(package, "def make(): return nn.Linear(16, 4)")
    model = build_model(make_case(model=f"own_package.{name}:make"), (str(tmp_path),))
    assert isinstance(model, nn.Linear)


def test_folders_to_import_from_are_searched_last(tmp_path: Path) -> None:
    (tmp_path / "colorsys.py").write_text("raise RuntimeError('shadows the standard library')")
    with pytest.raises(AttributeError, match="make"):
        build_model(make_case(model="colorsys:make"), (str(tmp_path),))


@pytest.mark.parametrize(
    ("body", "error", "text"),
    [
        ("def make(): return 3", TypeError, r":make returned int, not a torch\.nn\.Module"),
        ("def make(): return nn.Linear", TypeError, r":make returned type, not a"),
        ("def other(): pass", AttributeError, "has no attribute 'make'"),
        ("def make(size): pass", TypeError, "missing 1 required positional argument: 'size'"),
    ],
)
def test_a_factory_that_makes_no_module_is_refused(
    tmp_path: Path, body: str, error: type[Exception], text: str
) -> None:
    name = write_model(tmp_path, body)
    with pytest.raises(error, match=text):
        build_model(make_case(model=f"{name}:make"), (str(tmp_path),))


def test_a_module_that_is_not_there_is_named() -> None:
    with pytest.raises(ModuleNotFoundError, match="own_nowhere"):
        build_model(make_case(model="own_nowhere:make"), ())


def test_a_factory_that_is_not_there_is_named_with_the_file_that_was_imported() -> None:
    case = make_case(IMAGES, model="json:two_layers")
    text = r"^module 'json' \(.*json/__init__.py\) has no attribute 'two_layers'$"
    with pytest.raises(AttributeError, match=text):
        build_model(case, ())


def test_checkpointing_is_switched_on_through_the_models_own_method(tmp_path: Path) -> None:
    name = write_model(
        tmp_path,
        """
        class Own(nn.Linear):
            def __init__(self): super().__init__(16, 4)
            def gradient_checkpointing_enable(self): self.on = True
        """,
    )
    model: Any = build_model(make_case(model=f"{name}:Own", gradient_checkpointing=True), (str(tmp_path),))
    assert model.on


def test_a_model_that_cannot_checkpoint_is_unsupported(tmp_path: Path) -> None:
    model = write_forward(tmp_path, "")
    with pytest.raises(UnsupportedCase, match=r"has no method gradient_checkpointing_enable\(\)"):
        build_model(make_case(IMAGES, model=model, gradient_checkpointing=True), (str(tmp_path),))
