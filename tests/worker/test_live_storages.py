"""Which storages are seen to begin and to end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint

from benchbox.worker.live_storages import LiveStorages

NUM = 1000


def largest_together(live: LiveStorages) -> int:
    alive = most = 0
    for event in live.events:
        alive += live.sizes[event] if event >= 0 else -live.sizes[~event]
        most = max(most, alive)
    return most // (4 * NUM)


def test_a_storage_begins_once_and_ends_once_whatever_views_it_has() -> None:
    with LiveStorages() as live:
        whole = torch.ones(NUM)
        part = whole[: NUM // 2].view(2, -1)
        del whole
        assert live.events == [0]
        del part
    assert live.events == [0, ~0]
    assert live.sizes == [4 * NUM]


def three_uses(x: Tensor) -> Tensor:
    middle = x * 2
    return middle.exp() + middle.sin() + middle.cos()


def residual(x: Tensor) -> Tensor:
    middle = x * 2
    total = middle + middle.tanh()
    return total + total.tanh()


def a_part_and_the_whole(x: Tensor) -> Tensor:
    middle = x * 2
    return torch.cat([middle, middle.exp(), middle[:10]]) ** 2


def transposed(x: Tensor) -> Tensor:
    middle = (x * 2).view(20, 50)
    return middle.t().exp().t() + middle


def twice_the_same(x: Tensor) -> Tensor:
    middle = x * 2
    return (middle + middle) ** 2


def a_leaf(x: Tensor) -> Tensor:
    return x.exp() + x.sin()


class _TimesThree(torch.autograd.Function):
    """Its gradient is of use to somebody else, too."""

    kept: Tensor

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x * 3

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        _TimesThree.kept = gradients[0] * 3
        return _TimesThree.kept


def kept_by_somebody_else(x: Tensor) -> Tensor:
    middle = x * 2
    return middle * 5 + _TimesThree.apply(middle)  # the gradient of the latter comes first


def recomputed(x: Tensor) -> Tensor:
    def block(x: Tensor) -> Tensor:
        return ((x * 2) + (x * 3)).tanh() + x

    return checkpoint(block, x, use_reentrant=False, preserve_rng_state=False)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "function",
    [
        three_uses,
        residual,
        a_part_and_the_whole,
        transposed,
        twice_the_same,
        a_leaf,
        kept_by_somebody_else,
        recomputed,
    ],
)
def test_a_backward_pass_has_the_storages_that_torch_allocates_unwatched(
    function: Callable[[Tensor], Tensor],
) -> None:
    x = torch.ones(NUM, requires_grad=True)
    loss = function(x).sum()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        torch.autograd.backward(loss)
    assert profiled.profiler is not None
    events = profiled.profiler.kineto_results.events()
    allocated = [e.nbytes() for e in events if e.name() == "[memory]" and e.nbytes() >= 4 * NUM]

    x.grad = None
    with LiveStorages() as live:
        loss = function(x).sum()
        before = len(live.sizes)
        torch.autograd.backward(loss)
    assert sorted(size for size in live.sizes[before:] if size >= 4 * NUM) == sorted(allocated) != []


def test_a_sum_that_ends_before_its_parts_has_a_storage_of_its_own() -> None:
    """A weight of two parameters: from the second micro-batch on, what joins its gradient ends first."""
    base, delta = (torch.ones(NUM, requires_grad=True) for _ in range(2))
    with LiveStorages() as live:
        for _ in range(3):
            torch.autograd.backward((base * 2 * (base + delta.view(-1))).sum())
    begun: set[int] = set()
    for event in live.events:
        if event >= 0:
            begun.add(event)
        else:
            begun.remove(~event)
    assert len(begun) <= 4


def test_sums_outside_a_backward_pass_are_as_they_are() -> None:
    with LiveStorages() as live, torch.no_grad():
        total = torch.ones(NUM)
        total = total + torch.ones(NUM)
    assert len(live.sizes) == 3
    assert largest_together(live) == 3
