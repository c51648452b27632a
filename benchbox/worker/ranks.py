"""The processes that train one case together: where each stands, and how they agree between windows.

Training's own collectives go over NCCL on GPUs and gloo on a CPU. What the loop has to agree on goes over a
gloo group beside it, whose calls wait on the host and put nothing into a GPU's queue.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import TypeVar

import msgspec
import torch
import torch.distributed as dist

T = TypeVar("T")

# Longer than any attempt may last: the controller ends what hangs, and says so.
_TIMEOUT = datetime.timedelta(days=7)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Which of the ranks this process is."""

    rank: int = 0
    local_rank: int = 0
    node: int = 0
    world_size: int = 1


class Ranks:
    """One process's view of its group. A group of one agrees with itself at no cost."""

    def __init__(self, place: Place, control: dist.ProcessGroup | None) -> None:
        self.place = place
        self.world_size = place.world_size
        self._control = control

    def agree(self, value: int) -> int:
        """Wait for all ranks, and return rank 0's value."""
        if self._control is None:
            return value
        told = torch.tensor(value if self.place.rank == 0 else 0, dtype=torch.int64)
        dist.all_reduce(told, group=self._control)
        return int(told)

    def agree_on(self, choice: T | None, choices: Sequence[T]) -> T | None:
        """As :meth:`agree`, for one of ``choices`` or ``None``."""
        if self._control is None:
            return choice
        number = self.agree(0 if choice is None else 1 + choices.index(choice))
        return None if number == 0 else choices[number - 1]

    def wait(self) -> None:
        """Wait until all ranks have come here."""
        self.agree(0)

    def mean(self, values: list[float]) -> list[float]:
        """The mean of each value over ranks; not finite where one rank's is not."""
        if self._control is None:
            return values
        told = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(told, group=self._control)
        return [total / self.world_size for total in told.tolist()]

    def tell(self, value: T) -> T:
        """Wait for rank 0, and return its value."""
        if self._control is None:
            return value
        told = [value]
        dist.broadcast_object_list(told, src=0, group=self._control)
        return told[0]


ALONE = Ranks(Place(), None)


def join(place: Place, device: torch.device) -> Ranks:
    """Meet the other ranks; the environment says where, as torchrun has set it.

    A group of one is opened as well: DDP, FSDP and DeepSpeed need it.
    """
    if device.type == "cuda":
        dist.init_process_group("nccl", timeout=_TIMEOUT, device_id=device)
    else:
        dist.init_process_group("gloo", timeout=_TIMEOUT)
    several = place.world_size > 1
    control = dist.new_group(backend="gloo", timeout=_TIMEOUT) if several else None
    return Ranks(place, control)
