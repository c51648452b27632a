"""The reference workloads, and the door to the user's own model."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from benchbox.schema import Case


class UnsupportedCase(Exception):  # noqa: N818 - a verdict on the case, not an error of the program
    """This combination cannot run on this hardware or with this torch; the text is the reason."""


class StagedModel(nn.Sequential):
    """Stages run one after another; with checkpointing each but the last recomputes its activations."""

    gradient_checkpointing = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Samples of the case's input shape to logits, one row a sample."""
        *inner, last = self
        for stage in inner:
            if self.gradient_checkpointing and self.training:
                x = checkpoint(stage, x, use_reentrant=False)
            else:
                x = stage(x)
        return last(x)  # type: ignore[no-any-return]

    def gradient_checkpointing_enable(self) -> None:
        """Recompute inner activations in the backward pass."""
        self.gradient_checkpointing = True


def reference_cnn() -> nn.Module:
    """(N, 3, 224, 224) to (N, 1000): 191,692,136 parameters, almost all of them in one layer.

    No padding, so the images shrink 224, 222, 111, 109, 54 and the flattened vector has 128·54·54 numbers.
    """
    return StagedModel(
        nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(64, 128, 3), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Flatten(), nn.Linear(128 * 54 * 54, 512), nn.ReLU(), nn.Dropout(0.5)),
        nn.Linear(512, 1000),
    )


def small_cnn() -> nn.Module:
    """(N, 1, 28, 28) to (N, 10): 693,962 parameters."""
    return StagedModel(
        nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Flatten(), nn.Linear(32 * 13 * 13, 128), nn.ReLU()),
        nn.Linear(128, 10),
    )


def mlp(num_inputs: int, hidden_size: int, num_classes: int) -> nn.Module:
    """(N, num_inputs) to (N, num_classes): W2·ReLU(W1·x + b1) + b2; the softmax is in the loss."""
    return StagedModel(
        nn.Sequential(nn.Linear(num_inputs, hidden_size), nn.ReLU()),
        nn.Linear(hidden_size, num_classes),
    )


def build_model(case: Case, import_dirs: Iterable[str]) -> nn.Module:
    """The case's model in fp32 on torch's default device, in training mode, its weights from the seed.

    Raises:
        UnsupportedCase: checkpointing is asked of a model that offers no way to switch it on.
        AttributeError: the user's module has no such factory.
        TypeError: the user's factory returned something that is no module.
    """
    torch.manual_seed(case.seed)
    match case.model:
        case "reference-cnn":
            model = reference_cnn()
        case "small-cnn":
            model = small_cnn()
        case "mlp":
            assert case.hidden_size is not None
            model = mlp(case.input_shape[0], case.hidden_size, case.num_classes)
        case _:
            model = _import_model(case.model, import_dirs)
    if case.gradient_checkpointing:
        enable = getattr(model, "gradient_checkpointing_enable", None)
        if not callable(enable):
            raise UnsupportedCase(f"{case.model} has no method gradient_checkpointing_enable()")
        enable()
    return model.train()


def num_parameters(model: nn.Module) -> int:
    """All numbers of the weights, frozen ones too, before a strategy splits them up."""
    return sum(parameter.numel() for parameter in model.parameters())


def num_trained(model: nn.Module) -> int:
    """Numbers that training changes, before a strategy splits them up."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _import_model(spec: str, import_dirs: Iterable[str]) -> nn.Module:
    sys.path.extend(folder for folder in import_dirs if folder not in sys.path)
    module_name, _, attribute = spec.partition(":")
    module = importlib.import_module(module_name)
    factory = getattr(module, attribute, None)
    if factory is None:
        # Installed modules come before the user's folder: the file tells that it was another one.
        where = getattr(module, "__file__", None) or "built in"
        raise AttributeError(f"module {module_name!r} ({where}) has no attribute {attribute!r}")
    model = factory()
    if not isinstance(model, nn.Module):
        raise TypeError(f"{spec} returned {type(model).__name__}, not a torch.nn.Module")
    return model
