"""What an exception says of a case: its outcome, and one line for the report."""

from __future__ import annotations

import torch

from benchbox.plan.tomlfile import clipped
from benchbox.schema import ANOTHER_RANK_ENDED, Outcome

MAX_REASON_CHARACTERS = 500

# Texts by which libraries say that memory ran out without torch's own error type.
_OOM_TEXTS = (
    "can't allocate memory",
    "Storage size calculation overflowed",  # more bytes than 63 bits can count
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
)
# What this machine or this torch cannot do. torch.compile wraps errors and keeps their text.
_UNSUPPORTED_TEXTS = (
    "InvalidCxxCompiler",
    "TritonMissing",
    "GPUTooOldForTriton",
    "Failed to find C compiler",
    "Python.h: No such file",
    "no kernel image is available",
)


# What gloo, NCCL and torch's key-value store say when the process at the other end is gone.
_LOST_PEER_TEXTS = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Connection refused",
    "Broken pipe",
    "Connection was likely closed",
    "remote process exited or there was a network error",
)
# NCCL's first line says only that something went wrong; what it was stands behind this one.
_NCCL_CAUSE = "Last error:"


def classify(error: BaseException, *, has_peers: bool = False) -> tuple[Outcome, str]:
    """The outcome that an exception stands for, and one printable line that says why.

    Where this process ``has_peers`` and fails because one of them is gone, the line says so first: the cause
    is to be looked for there.
    """
    text = clipped(_one_line(error), MAX_REASON_CHARACTERS)
    if has_peers and any(part in _message(error) for part in _LOST_PEER_TEXTS):
        return "crashed", clipped(f"{ANOTHER_RANK_ENDED}: {text}", MAX_REASON_CHARACTERS)
    if is_out_of_memory(error):
        return "oom", text
    if any(part in _message(error) or part in text for part in _UNSUPPORTED_TEXTS):
        return "unsupported", text
    return "crashed", text


def is_out_of_memory(error: BaseException) -> bool:
    """Whether host or device memory ran out."""
    message = _message(error)
    return (
        isinstance(error, (torch.OutOfMemoryError, MemoryError))
        or any(text in message for text in _OOM_TEXTS)
        # NCCL takes its buffers beside torch's allocator: "Cuda failure 2 'out of memory'".
        or ("Cuda failure" in message and "'out of memory'" in message)
    )


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - the user's own exception class may fail at anything
        return "its message cannot be shown"


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in _message(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if "in DataLoader worker process" in lines[0]:
        return lines[-1]  # the text is the whole traceback of the loader's process, which ends with its error
    text = f"{type(error).__name__}: {lines[0]}"
    if _NCCL_CAUSE in lines[:-1]:
        text += f": {lines[lines.index(_NCCL_CAUSE) + 1]}"
    return text
