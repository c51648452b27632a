"""The models of suites/ci.toml, slower by ``SLOWED_PCT`` percent of a step."""

from __future__ import annotations

import time

import torch
from torch import nn

from benchbox.worker.models import small_cnn

SLOWED_PCT = 0.0


class Slowed(nn.Module):
    """Waits in each forward pass for a share of what the step before took without waiting."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.began_s = 0.0
        self.waited_s = 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        now = time.perf_counter()
        step_s = now - self.began_s - self.waited_s
        self.began_s = now
        self.waited_s = 0.0
        if step_s < 10:  # not before the first one
            until = now + SLOWED_PCT / 100 * step_s
            while time.perf_counter() < until:
                pass
            self.waited_s = time.perf_counter() - now
        result: torch.Tensor = self.inner(x)
        return result


def cnn() -> nn.Module:
    return Slowed(small_cnn())


def mlp() -> nn.Module:
    return Slowed(nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 10)))
