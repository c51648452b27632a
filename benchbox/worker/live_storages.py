"""Which storages live when: every operator's outputs are watched, and each storage's end is noted."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Sum(NamedTuple):
    """The newest storage, which holds the sum of the storage ``first`` and another."""

    key: int
    number: int
    first: int


class LiveStorages(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Numbers storages in the order in which they first appear, on real and on fake tensors alike.

    ``events`` holds ``i`` where storage i begins and ``~i`` where it ends; ``sizes`` holds bytes. Views share
    their base's storage and empty storages do not count. What a kernel takes and gives back inside itself is
    not seen.

    Where a tensor is used twice, autograd adds its second gradient to the first, in place. It does not while
    a mode like this one watches (``can_accumulate_inplace`` in torch/csrc/autograd/input_buffer.cpp), so such
    a sum is counted as the storage that it would have been made in. So is a sum of a user's own backward pass
    whose first part is of no more use.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.events: list[int] = []
        self.sizes: list[int] = []
        self.operators: set[str] = set()
        self._numbers: dict[int, int] = {}
        self._sum: _Sum | None = None

    def number(self, tensor: Tensor) -> int | None:
        """The number of the tensor's storage, which begins now if it is new; ``None`` for an empty one."""
        storage = tensor.untyped_storage()
        key = storage._cdata  # noqa: SLF001 - as torch's own StorageWeakRef tells storages apart
        if key not in self._numbers:
            if not storage.nbytes():
                return None
            self._numbers[key] = number = len(self.sizes)
            self.sizes.append(storage.nbytes())
            self.events.append(number)
            weakref.finalize(storage, self._end, key).atexit = False
        return self._numbers[key]

    def _end(self, key: int) -> None:
        number = self._numbers.pop(key)
        made = self._sum
        if made is not None and number in (made.first, made.number):
            self._sum = None
            if number == made.first and self._is_newest(made.number):
                # Nothing was done since, so autograd held the last reference: the sum was made in its place.
                self._numbers[made.key] = number
                self.events.remove(made.number)
                self.sizes.pop()
                return
        self.events.append(~number)

    def _is_newest(self, number: int) -> bool:
        return number == len(self.sizes) - 1

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run the operator and watch what it gives."""
        self._sum = None
        out = func(*args, **(kwargs or {}))
        self.operators.add(func.__name__.partition(".")[0])
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self.number(leaf)
        if func is torch.ops.aten.add.Tensor and _autograd_adds():
            self._note_sum(args[0], args[1], out)
        return out

    def _note_sum(self, first: Tensor, second: Tensor, total: Tensor) -> None:
        first_number, number = self.number(first), self.number(total)
        if first_number is None or number is None or not self._is_newest(number):
            return
        # One tensor twice is not the last reference to it.
        if self.sizes[number] == self.sizes[first_number] and self.number(second) != first_number:
            key = total.untyped_storage()._cdata  # noqa: SLF001
            self._sum = _Sum(key, number, first_number)


def _autograd_adds() -> bool:
    """Whether a backward pass is under way and nothing is recomputed in it: then gradients are wanted."""
    return torch._C._current_autograd_node() is not None and not torch.is_grad_enabled()  # noqa: SLF001
