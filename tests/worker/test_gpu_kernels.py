"""That what stands in for a GPU's kernels gives what the functions give, and keeps no matrix of weights."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

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
def test_attention_gives_what_it_gives_without_and_no_matrix_where_a_gpu_has_none(
    shape: tuple[int, ...], width: int, value_width: int, dtype: torch.dtype, autocast: bool, is_masked: bool
) -> None:
    with FakeTensorMode():
        mask = torch.empty(NUM_TOKENS, NUM_TOKENS, dtype=torch.bool) if is_masked else None
        given = (*operands(shape, width, value_width, dtype), mask, 0.1, not is_masked)
        expected, has_matrix = attention(*given, autocast=autocast, scale=0.5)
        assert has_matrix
        with gpu_kernels():
            found, has_matrix = attention(*given, autocast=autocast, scale=0.5)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    is_known = shape == BATCH_AND_HEADS and width == value_width and not is_masked
    assert has_matrix == (not is_known or dtype == torch.float64)


def test_grouped_queries_are_left_to_the_cpus_way() -> None:
    with FakeTensorMode(), gpu_kernels():
        query = torch.empty(2, 6, NUM_TOKENS, 32, requires_grad=True)
        key, value = (torch.empty(2, 3, NUM_TOKENS, 32, requires_grad=True) for _ in range(2))
        out, has_matrix = attention(query, key, value, dropout_p=0.1, enable_gqa=True, autocast=False)
    assert out.shape == query.shape
    assert has_matrix


def test_the_functions_are_torchs_own_again_afterwards() -> None:
    before = functional.dropout, functional.scaled_dot_product_attention
    with gpu_kernels():
        assert (functional.dropout, functional.scaled_dot_product_attention) != before
    assert (functional.dropout, functional.scaled_dot_product_attention) == before
