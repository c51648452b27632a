"""GPU memory that others measured, against what the tracer and the simulated allocator make of their steps.

Milabench (https://github.com/mila-iqia/milabench, MIT licence, config/scaling/H100.yaml at faf39234e7ff)
gives the memory in use on an H100 of 80 GB while it trained, as the driver tells it: what torch has reserved,
and beside it a part that no batch size changes, which is the context, the libraries' kernels, and what the
driver keeps for itself. So where the simulation is right, published less simulated is one number. Batches
that filled the device (81,559 MiB) are left out: there the allocator gives back what it holds, and asks anew.

python -m tests.worker.published_memory
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from benchbox.worker.device_memory import MIB, surroundings
from benchbox.worker.gpu_kernels import gpu_kernels
from benchbox.worker.live_storages import LiveStorages
from benchbox.worker.step_memory import TRACED_BATCH_SIZES, allocator_after, step_memory
from benchbox.worker.step_trace import StepTrace, sorted_ends, without_data
from tests.worker.published_models import NUM_TOKENS, VOCABULARY, bert, resnet50

NUM_STEPS = 3
TrainStep = Callable[[], Tensor]


class Published(NamedTuple):
    """Peaks of one workload by batch size, in MiB, and how to take a step of it."""

    what: str
    make_model: Callable[[], nn.Module]
    prepare: Callable[[nn.Module, int], TrainStep]
    """From the model and the batch size; the step gives its loss."""
    peak_mib: dict[int, int]


def _resnet_from_loader(model: nn.Module, batch_size: int) -> TrainStep:
    """The loader's batch reaches the device in halves; gradients are dropped before the forward pass."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def step() -> Tensor:
        inputs = torch.empty(batch_size, 3, 224, 224, dtype=torch.float16)
        targets = torch.empty(batch_size, dtype=torch.int64)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.float16):
            loss = functional.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        return loss

    return step


def _bert(model: nn.Module, batch_size: int, *, low: bool) -> TrainStep:
    """Gradients are never dropped, but added to. What the model gives lives to the end of the step."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, foreach=True)

    def step() -> Tensor:
        tokens, words = (torch.empty(batch_size, NUM_TOKENS, dtype=torch.int64) for _ in range(2))
        with torch.autocast("cpu", torch.float16) if low else contextlib.nullcontext():
            logits = model(tokens)
        # As a GPU's autocast does it: logarithms in halves, which the loss then has in fp32.
        told = logits.view(-1, VOCABULARY).log_softmax(1).float()
        loss = functional.nll_loss(told, words.view(-1))
        del told
        loss.backward()
        optimizer.step()
        return loss

    return step


PUBLISHED = (
    Published(
        "ResNet-50, autocast to fp16, SGD",
        resnet50,
        _resnet_from_loader,
        {
            1: 1607,
            128: 7669,
            248: 13327,
            264: 14147,
            272: 14579,
            512: 25839,
            608: 30491,
            1248: 60845,
            1560: 75693,
        },
    ),
    Published(
        "BERT base, 512 tokens, fp32, Adam",
        bert,
        lambda model, batch_size: _bert(model, batch_size, low=False),
        {
            1: 3915,
            16: 12343,
            24: 16231,
            40: 25887,
            48: 30679,
            64: 40341,
            80: 50003,
            96: 59649,
            128: 78959,
        },
    ),
    Published(
        "BERT base, 512 tokens, autocast to fp16, Adam",
        bert,
        lambda model, batch_size: _bert(model, batch_size, low=True),
        {1: 3885, 16: 9895, 24: 12421, 40: 19399, 48: 22889, 64: 29845, 104: 47353, 136: 61365},
    ),
)


def simulated_mib(published: Published) -> Iterator[tuple[int, int, int]]:
    """Batch size, allocated peak and reserved bytes in MiB, all from traces at two small batch sizes."""
    first, second = (_trace(published, batch_size) for batch_size in TRACED_BATCH_SIZES)
    memory = step_memory(first, second)
    assert memory is not None
    workspaces = surroundings(is_gpu=True, compute_capability="9.0").workspaces
    for batch_size in published.peak_mib:
        allocator = allocator_after(memory.trace, memory.sizes(batch_size), workspaces)
        yield batch_size, allocator.peak_allocated_bytes // MIB, allocator.reserved_bytes // MIB


def line(published: Published, batch_size: int, allocated: int, reserved: int) -> str:
    """What is printed of one batch size, all but it in MiB."""
    peak = published.peak_mib[batch_size]
    return (
        f"{batch_size:6}  published {peak:6,}  reserved {reserved:6,}  allocated {allocated:6,}  "
        f"beside what is reserved {peak - reserved:5,} MiB"
    )


def _trace(published: Published, batch_size: int) -> StepTrace:
    with torch.device("meta"):
        model = published.make_model()
    with FakeTensorMode():
        without_data(model)
        live = LiveStorages()
        for tensor in (*model.parameters(), *model.buffers()):
            live.number(tensor)
        train_step = published.prepare(model, batch_size)
        step_from = 0
        with live, gpu_kernels():
            for _ in range(NUM_STEPS):
                step_from = len(live.events)
                loss = train_step()  # kept until the next step gives its own
        events, sizes = tuple(live.events), tuple(live.sizes)
        del loss
    return StepTrace(
        events=sorted_ends(events, step_from),
        sizes=sizes,
        kinds=("temporary",) * len(sizes),
        saved=(),
        step_from=step_from,
        has_convolutions=False,
    )


def main() -> None:
    """Print a line for each published peak."""
    for published in PUBLISHED:
        sys.stdout.write(f"{published.what}\n")
        for simulated in simulated_mib(published):
            sys.stdout.write(f"{line(published, *simulated)}\n")


if __name__ == "__main__":
    main()
