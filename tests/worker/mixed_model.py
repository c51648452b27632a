"""A model with all that a strategy may treat in another way: frozen stages, a batch norm's buffers, and
dropout in a layer of its own and inside attention."""

from __future__ import annotations

from typing import Any

from torch import nn

MIXED: dict[str, Any] = {
    "model": "tests.worker.mixed_model:make",
    "input_shape": (256,),
    "num_classes": 10,
    "hidden_size": None,
}
NUM_FROZEN = 256 * 512 + 512 + 512 * 256 + 256
NUM_TRAINED = (512 * 512 + 512) + 2 * 512 + (16 * 48 + 48 + 3 * (16 * 16 + 16) + 4 * 16) + (256 * 10 + 10)


def make() -> nn.Module:
    """(N, 256) to (N, 10)."""
    return nn.Sequential(
        _frozen(nn.Linear(256, 512)),
        nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Dropout(0.5)),
        _frozen(nn.Linear(512, 256)),
        nn.Sequential(
            nn.Unflatten(1, (16, 16)),
            nn.TransformerEncoderLayer(16, 2, 16, dropout=0.1, batch_first=True),
            nn.Flatten(),
        ),
        nn.Linear(256, 10),
    )


def _frozen(layer: nn.Module) -> nn.Module:
    return layer.requires_grad_(False)
