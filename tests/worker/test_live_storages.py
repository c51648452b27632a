"""Which storages are seen to begin and to end."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

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


def test_the_gradients_of_a_tensor_used_twice_are_added_in_place_as_autograd_does_it_unwatched() -> None:
    x = torch.ones(NUM, requires_grad=True)
    with LiveStorages() as live:
        middle = x * 2
        loss = (middle.exp() + middle.sin()).sum()
        del middle
        before = len(live.sizes)
        torch.autograd.backward(loss)
    # The gradients of the loss and of exp; a cosine and the gradient of sin, which is added to that of exp;
    # and that of the product.
    assert len(live.sizes) - before == 1 + 3 + 1
    assert live.number(x.grad) == len(live.sizes) - 1  # type: ignore[arg-type]
    assert torch.equal(x.grad, 2 * (torch.exp(2 * x) + torch.cos(2 * x)))  # type: ignore[arg-type]


class _TimesThree(torch.autograd.Function):
    """Its gradient is of use to somebody else, too, where ``kept`` is a list."""

    kept: list[Tensor] | None = None

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x * 3

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0] * 3
        if _TimesThree.kept is not None:
            _TimesThree.kept.append(gradient)
        return gradient


@pytest.mark.parametrize("is_kept", [False, True])
def test_a_sum_has_a_storage_of_its_own_where_its_first_part_is_still_of_use(
    is_kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_TimesThree, "kept", [] if is_kept else None)
    x = torch.ones(NUM, requires_grad=True)
    with LiveStorages() as live:
        middle = x * 2
        # The later one's gradient comes first.
        loss = (middle * 5 + _TimesThree.apply(middle)).sum()
        before = len(live.sizes)
        torch.autograd.backward(loss)
    # the gradients of the loss and of both products, their sum if it has its own, and that of x
    assert len(live.sizes) - before == (5 if is_kept else 4)


def test_sums_outside_a_backward_pass_are_as_they_are() -> None:
    with LiveStorages() as live, torch.no_grad():
        total = torch.ones(NUM)
        total = total + torch.ones(NUM)
    assert len(live.sizes) == 3
    assert largest_together(live) == 3
