"""The loops that a careful person would write by hand for several ranks: DDP, and ZeRO by DeepSpeed.

Nothing of benchbox is in them. They run where :mod:`ranks_side_by_side` has opened the process group.
"""

from collections.abc import Callable

import deepspeed
import torch
import torch.distributed as dist
from hand_written import build, timed  # beside this file
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

Train = Callable[[int], list[int]]


def prepare(strategy: str, name: str, batch: int) -> Train:
    """A wrapped model with its data and optimizer; a function that trains so many steps and times each."""
    torch.manual_seed(0)
    model, shape, num_classes, learning_rate = build(name)
    torch.manual_seed(1 + dist.get_rank())
    inputs, targets = torch.randn(batch, *shape), torch.randint(num_classes, (batch,))
    if strategy == "ddp":
        ddp = DistributedDataParallel(model)
        optimizer = torch.optim.Adam(ddp.parameters(), lr=learning_rate, fused=True)

        def step() -> None:
            functional.cross_entropy(ddp(inputs), targets).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        return lambda num_steps: timed(step, num_steps)

    engine = deepspeed.initialize(
        model=model,
        optimizer=torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True),
        config={
            "train_micro_batch_size_per_gpu": batch,
            "gradient_clipping": 0.0,
            "steps_per_print": 2**40,
            "zero_allow_untested_optimizer": True,
            "zero_optimization": {"stage": int(strategy.removeprefix("zero"))},
        },
    )[0]

    def step_engine() -> None:
        engine.backward(functional.cross_entropy(engine(inputs), targets))
        engine.step()

    return lambda num_steps: timed(step_engine, num_steps)
