"""The loop that a careful person would write by hand, with nothing of benchbox in it.

Usage: python hand_written.py MODEL BATCH WARMUP STEPS [FILE]: writes the step times in nanoseconds as JSON.
"""

import json
import sys
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional


def build(name: str) -> tuple[nn.Module, tuple[int, ...], int, float]:
    """The model, the shape of a sample, the number of classes and the learning rate.

    In stages as the worker's models are: DeepSpeed's stage 3 takes time around every module, so that without
    them the loops would not train the same.
    """
    if name == "reference-cnn":
        stages = [
            nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
            nn.Sequential(nn.Conv2d(64, 128, 3), nn.ReLU(), nn.MaxPool2d(2)),
            nn.Sequential(nn.Flatten(), nn.Linear(128 * 54 * 54, 512), nn.ReLU(), nn.Dropout(0.5)),
            nn.Linear(512, 1000),
        ]
        return nn.Sequential(*stages), (3, 224, 224), 1000, 1e-5
    if name == "small-cnn":
        stages = [
            nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),
            nn.Sequential(nn.Flatten(), nn.Linear(32 * 13 * 13, 128), nn.ReLU()),
            nn.Linear(128, 10),
        ]
        return nn.Sequential(*stages), (1, 28, 28), 10, 1e-3
    stages = [nn.Sequential(nn.Linear(784, 512), nn.ReLU()), nn.Linear(512, 10)]
    return nn.Sequential(*stages), (784,), 10, 1e-3


def prepare(name: str, batch: int) -> Callable[[int], list[int]]:
    """A model with its data and its optimizer; a function that trains so many steps and times each."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    torch.set_flush_denormal(True)  # one batch for ever leaves tiny numbers in Adam's state
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = False
    with device:
        model, shape, num_classes, learning_rate = build(name)
    inputs = torch.randn(batch, *shape).to(device)
    targets = torch.randint(num_classes, (batch,)).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)

    def step() -> None:
        functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def train(num_steps: int) -> list[int]:
        if device.type == "cuda":
            events = [torch.cuda.Event(enable_timing=True) for _ in range(num_steps + 1)]
            events[0].record()
            for number in range(num_steps):
                step()
                events[number + 1].record()
            torch.cuda.synchronize()
            return [round(events[i].elapsed_time(events[i + 1]) * 1e6) for i in range(num_steps)]
        return timed(step, num_steps)

    return train


def timed(step: Callable[[], None], num_steps: int) -> list[int]:
    """What each step took, in ns; on a CPU a step is finished when the call returns."""
    at_ns = [0] * (num_steps + 1)
    at_ns[0] = time.perf_counter_ns()
    for number in range(num_steps):
        step()
        at_ns[number + 1] = time.perf_counter_ns()
    return [at_ns[i + 1] - at_ns[i] for i in range(num_steps)]


def main() -> None:
    """Train on one synthetic batch and print what each step took."""
    name, batch, num_warmup, num_steps = sys.argv[1], *map(int, sys.argv[2:5])
    train = prepare(name, batch)
    train(num_warmup)
    print(json.dumps(train(num_steps)))


if __name__ == "__main__":
    main()
