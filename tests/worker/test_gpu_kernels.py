"""That what stands in for a GPU's kernels gives what the functions give, and keeps no matrix of weights."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchbox.worker.gpu_kernels import gpu_kernels
from benchbox.worker.live_storages import LiveStorages

NUM_TOKENS = 4096
BATCH_AND_HEADS = (2, 3)


def operands(shape: tuple[int, ...], width: int, value_width: int, dtype: torch.dtype) -> list[Tensor]:
    return [
        torch.empty(*shape, NUM_TOKENS, size, dtype=dtype, requires_grad=True)
        for size in (width, width, value_width)
    ]


def attention(*given: Any, autocast: bool, **named: Any) -> tuple[Tensor, bool]:
    """What it gives, and whether a matrix of weights for each head was made on the way."""
    low = torch.autocast("cpu", torch.bfloat16) if autocast else contextlib.nullcontext()
    with LiveStorages() as live, low:
        out = functional.scaled_dot_product_attention(*given, **named)
    return out, max(live.sizes) >= 2 * 6 * NUM_TOKENS**2


@pytest.mark.parametrize("shape", [BATCH_AND_HEADS, (6,), (1, 2, 3)])
@pytest.mark.parametrize(("width", "value_width"), [(32, 32), (320, 320), (32, 64)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("is_masked", [False, True])
@pytest.mark.parametrize("dropout_p", [0.0, 0.1])
def test_attention_gives_what_it_gives_without_and_no_matrix_where_a_gpu_has_none(
    shape: tuple[int, ...],
    width: int,
    value_width: int,
    dtype: torch.dtype,
    autocast: bool,
    is_masked: bool,
    dropout_p: float,
) -> None:
    with FakeTensorMode():
        mask = torch.empty(1, NUM_TOKENS, dtype=torch.bool) if is_masked else None
        given = (*operands(shape, width, value_width, dtype), mask, dropout_p, not is_masked)
        expected, _ = attention(*given, autocast=autocast, scale=0.5)
        with gpu_kernels():
            found, has_matrix = attention(*given, autocast=autocast, scale=0.5)
        torch.autograd.backward(found.sum())
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    assert has_matrix == (shape != BATCH_AND_HEADS or dtype == torch.float64)


@pytest.mark.parametrize(("dtype", "has"), [(torch.float32, True), (torch.bfloat16, False)])
def test_only_flash_attention_takes_grouped_queries(dtype: torch.dtype, has: bool) -> None:
    with FakeTensorMode(), gpu_kernels():
        query = torch.empty(2, 6, NUM_TOKENS, 32, requires_grad=True, dtype=dtype)
        key, value = (torch.empty(2, 3, NUM_TOKENS, 32, requires_grad=True, dtype=dtype) for _ in range(2))
        out, has_matrix = attention(query, key, value, dropout_p=0.1, enable_gqa=True, autocast=False)
        torch.autograd.backward(out.sum())
    assert out.shape == query.shape
    assert has_matrix == has


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_that_forbids_a_kernel_does_not_get_it(dtype: torch.dtype) -> None:
    with FakeTensorMode(), gpu_kernels(), sdpa_kernel(SDPBackend.MATH):
        given = operands(BATCH_AND_HEADS, 32, 32, dtype)
        assert attention(*given, dropout_p=0.1, autocast=False)[1]


@pytest.mark.parametrize("function", [functional.dropout, torch.dropout, torch.nn.Dropout.forward])
def test_dropout_has_a_mask_of_bytes_however_a_model_comes_by_it(function: Callable[..., Tensor]) -> None:
    layer = torch.nn.Dropout(0.5)
    with FakeTensorMode(), gpu_kernels(), LiveStorages() as live:
        x = torch.empty(NUM_TOKENS, requires_grad=True)
        out = function(layer, x) if function is torch.nn.Dropout.forward else function(x, 0.5, True)
        num_seen = len(live.sizes)
        same = functional.dropout(out, 0.0), functional.dropout(out, 0.5, training=False)
        assert len(live.sizes) == num_seen
    assert sorted(live.sizes) == [NUM_TOKENS, 4 * NUM_TOKENS, 4 * NUM_TOKENS]
    assert all(tensor is out for tensor in same)


def test_the_operators_are_torchs_own_again_afterwards() -> None:
    with gpu_kernels():
        pass
    x = torch.ones(NUM_TOKENS, requires_grad=True)
    with LiveStorages() as live:
        functional.dropout(x, 0.5)
    assert NUM_TOKENS not in live.sizes
