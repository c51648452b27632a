"""Operators that keep other tensors on a GPU than on a CPU, as a GPU has them, for tensors of the CPU.

Put in their place in torch's dispatcher, so that they are found however a model came by the function, when
checkpointing recomputes, and after autocast has cast what goes in.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.library import Library

_LOW_DTYPES = (torch.bfloat16, torch.float16)
_LARGEST_FLASH_HEAD = 256


@contextlib.contextmanager
def gpu_kernels() -> Iterator[None]:
    """Dropout whose mask has one byte an element, and attention by the kernel that a GPU would choose."""
    library = Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    for name, kernel in (("dropout", _dropout), ("scaled_dot_product_attention", _attention)):
        library.impl(name, kernel, "AutogradCPU")  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        library._destroy()  # type: ignore[no-untyped-call]  # noqa: SLF001 - takes the kernels out again


def _dropout(tensor: Tensor, p: float, train: bool) -> Tensor:
    return torch.native_dropout(tensor, p, train)[0] if train and p > 0 else tensor


def _attention(
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
    """Flash, memory-efficient, or the one that makes a matrix of weights: the first that takes what is given.

    By ``aten/src/ATen/native/transformers/cuda/sdp_utils.cpp``.
    """
    ops, cuda = torch.ops.aten, torch.backends.cuda
    alike = query.dim() == 4 and len({query.dtype, key.dtype, value.dtype}) == 1
    alike = alike and query.shape[0] == key.shape[0] and key.shape[:3] == value.shape[:3]
    alike = alike and query.shape[-1] == key.shape[-1]
    has_equal_heads = alike and query.shape[1] == key.shape[1]
    is_flash = alike and (has_equal_heads or enable_gqa) and attn_mask is None
    is_flash = is_flash and query.dtype in _LOW_DTYPES
    is_flash = is_flash and query.shape[-1] == value.shape[-1] <= _LARGEST_FLASH_HEAD
    if is_flash and cuda.flash_sdp_enabled():  # type: ignore[no-untyped-call]
        kernel = ops._scaled_dot_product_flash_attention  # noqa: SLF001
        return kernel(query, key, value, dropout_p, is_causal, scale=scale)[0]  # type: ignore[no-any-return]
    is_efficient = has_equal_heads and query.dtype in (torch.float32, *_LOW_DTYPES)
    if is_efficient and cuda.mem_efficient_sdp_enabled():  # type: ignore[no-untyped-call]
        bias = None if attn_mask is None else _bias(attn_mask, query, key)
        kernel = ops._scaled_dot_product_efficient_attention  # noqa: SLF001
        given = kernel(query, key, value, bias, query.requires_grad, dropout_p, is_causal, scale=scale)
    else:
        kernel = ops._scaled_dot_product_attention_math  # noqa: SLF001
        more = {"scale": scale, "enable_gqa": enable_gqa}
        given = kernel(query, key, value, attn_mask, dropout_p, is_causal, None, **more)
    return given[0]  # type: ignore[no-any-return]


def _bias(mask: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """The mask as what is added to the products, seen by every sample and head."""
    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, -torch.inf)
    return mask.expand(*query.shape[:3], key.shape[2])
