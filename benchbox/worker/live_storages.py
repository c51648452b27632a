"""Which storages live when: every operator's outputs are watched, and each storage's end is noted."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveStorages(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Numbers storages in the order in which they first appear, on real and on fake tensors alike.

    ``events`` holds ``i`` where storage i begins and ``~i`` where it ends; ``sizes`` holds bytes. Views share
    their base's storage and empty storages do not count. What a kernel takes and gives back inside itself is
    not seen.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.events: list[int] = []
        self.sizes: list[int] = []
        self.operators: set[str] = set()
        self._numbers: dict[int, int] = {}

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
        self.events.append(~self._numbers.pop(key))

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run the operator and watch what it gives."""
        out = func(*args, **(kwargs or {}))
        self.operators.add(func.__name__.partition(".")[0])
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self.number(leaf)
        return out
