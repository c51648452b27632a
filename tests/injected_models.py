"""Models whose bottleneck is known, for the table of injected causes; tests copy this file beside a suite."""

from __future__ import annotations

import torch
from torch import nn


class Elementwise(nn.Module):
    """Reads and writes activations far larger than a cache, and computes next to nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.last = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x * self.scale
        for _ in range(6):
            x = torch.relu(x)
        return self.last(x[:, :16])


def quick_images() -> nn.Module:
    """Next to no work for a small image: whatever feeds it is what takes the time."""
    return nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 10))


def wide_layers() -> nn.Module:
    """Four square layers: with few samples, gradients are most of what there is to do and to send."""
    return nn.Sequential(*(nn.Linear(1024, 1024) for _ in range(4)), nn.Linear(1024, 10))
