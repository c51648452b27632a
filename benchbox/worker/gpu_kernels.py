"""Functions that keep other tensors on a GPU than on a CPU, as a GPU has them, for fake tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

_LOW_DTYPES = (torch.bfloat16, torch.float16)
_LARGEST_FLASH_HEAD = 256


@contextlib.contextmanager
def gpu_kernels() -> Iterator[None]:
    """Dropout whose mask has one byte an element, and attention that keeps no matrix of weights.

    Attention without dropout keeps none on a CPU either. With dropout and a mask, or operands of unlike
    shapes, the CPU's way stays, which may take more than a GPU's.

    Put in place of the functions, because recomputation in the backward pass must find them as well, and
    modes that watch functions are off there.
    """
    dropout_of_cpu, attention_of_cpu = functional.dropout, functional.scaled_dot_product_attention

    def dropout(
        input: Tensor,  # noqa: A002 - torch's name
        p: float = 0.5,
        training: bool = True,
        inplace: bool = False,
    ) -> Tensor:
        if not training or inplace or not 0 < p < 1:
            return dropout_of_cpu(input, p, training, inplace)
        return torch.native_dropout(input, p, True)[0]

    def attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        out = None
        if attn_mask is None and 0 < dropout_p < 1:
            out = _attention_with_dropout(query, key, value, dropout_p, is_causal, scale)
        if out is None:
            out = attention_of_cpu(
                query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
            )
        return out

    functional.dropout = dropout
    functional.scaled_dot_product_attention = attention  # type: ignore[assignment]
    try:
        yield
    finally:
        functional.dropout = dropout_of_cpu
        functional.scaled_dot_product_attention = attention_of_cpu


def _attention_with_dropout(
    query: Tensor, key: Tensor, value: Tensor, dropout_p: float, is_causal: bool, scale: float | None
) -> Tensor | None:
    """By the kernel that a GPU would take; ``None`` where that is not known here."""
    if query.dim() != 4 or key.shape != value.shape:
        return None
    if query.shape[:2] != key.shape[:2] or query.shape[-1] != key.shape[-1]:
        return None
    if not {query.dtype, key.dtype, value.dtype} <= {torch.float32, *_LOW_DTYPES}:
        return None
    if torch.is_autocast_enabled("cpu"):
        low = torch.get_autocast_dtype("cpu")
        query, key, value = query.to(low), key.to(low), value.to(low)
    if not query.dtype == key.dtype == value.dtype:
        return None
    if query.dtype in _LOW_DTYPES and query.shape[-1] <= _LARGEST_FLASH_HEAD:
        flash = torch.ops.aten._scaled_dot_product_flash_attention  # noqa: SLF001
        return flash(query, key, value, dropout_p, is_causal, scale=scale)[0]  # type: ignore[no-any-return]
    efficient = torch.ops.aten._scaled_dot_product_efficient_attention  # noqa: SLF001
    given = efficient(query, key, value, None, True, dropout_p, is_causal, scale=scale)
    return given[0]  # type: ignore[no-any-return]
