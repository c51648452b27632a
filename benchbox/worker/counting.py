"""Exact FLOPs and least bytes of one step, class by class, seen below autograd where operators are called."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from benchbox.schema import OperatorClass
from benchbox.worker.operators import classify

_WRITES_ONLY = frozenset(("fill_", "zero_", "copy_", "normal_", "uniform_", "bernoulli_", "random_"))
_MOVES_NOTHING = ("empty", "new_empty", "_local_scalar_dense", "resize_", "set_", "is_", "record_stream")
_COUNTED: frozenset[OperatorClass] = frozenset(("matmul", "convolution"))


class StepCounter(TorchDispatchMode):
    """While it is on, adds up what every operator must do; ``flops`` and ``least_bytes`` by class.

    FLOPs are two for each multiply-add of a matrix product or convolution, by the formulas of torch's own
    ``torch.utils.flop_counter``; other classes have no exact count and stay out of ``flops``. The least bytes
    of an operator are each of its inputs read once and each of its outputs written once: what a machine with
    a perfect cache for one operator, and none between two, would move.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops: dict[OperatorClass, int] = {}
        self.least_bytes: dict[OperatorClass, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator and count it."""
        if any(kind.__name__ == "DTensor" for kind in types):
            return NotImplemented  # let it become operators on this rank's own part, which come here too
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        if func.is_view or name.startswith(_MOVES_NOTHING):
            return result
        operator_class = classify(str(func.overloadpacket).replace(".", "::", 1)) or "other"
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None and operator_class in _COUNTED:
            more = int(formula(*args, **kwargs, out_val=result))
            self.flops[operator_class] = self.flops.get(operator_class, 0) + more
        moved = _moved_bytes(func, name, args, kwargs, result)
        self.least_bytes[operator_class] = self.least_bytes.get(operator_class, 0) + moved
        return result


def _moved_bytes(func: Any, name: str, args: Any, kwargs: dict[str, Any], result: Any) -> int:
    reads: list[Tensor] = []
    writes: list[Tensor] = []
    for place, argument in enumerate(func._schema.arguments):  # noqa: SLF001 - torch has no public name
        value = args[place] if place < len(args) else kwargs.get(argument.name)
        tensors = list(_tensors(value))
        written = argument.alias_info is not None and argument.alias_info.is_write
        # The fused optimizers may write the gradients, but do so only to take a loss scale out.
        if written and not (name.startswith("_fused_") and argument.name == "grads"):
            writes += tensors
        if not (written and name in _WRITES_ONLY):
            reads += tensors
    known = {id(tensor) for tensor in writes}
    writes += [tensor for tensor in _tensors(result) if id(tensor) not in known]
    return _size(reads) + _size(writes)


def _size(tensors: Iterable[Tensor]) -> int:
    """Each tensor once; along an expanded dimension there is only one element."""
    distinct = {id(tensor): tensor for tensor in tensors if tensor.layout == torch.strided}
    return sum(
        t.element_size() * math.prod(n for n, stride in zip(t.shape, t.stride(), strict=True) if stride)
        for t in distinct.values()
    )


def _tensors(value: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor))
