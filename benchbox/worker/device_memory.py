"""What a device takes beside a step's tensors. Guesses say so."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

MIB = 1 << 20


class Between(NamedTuple):
    """A figure with bounds."""

    low: int
    middle: int
    high: int


class Surroundings(NamedTuple):
    """What stands on the device around a step."""

    context: Between
    workspaces: tuple[int, ...]
    """Taken from torch's allocator and kept: cuBLAS's, one for the thread of the forward pass and one for
    that of the backward pass."""
    is_gpu: bool


def surroundings(*, is_gpu: bool, compute_capability: str | None) -> Surroundings:
    """Of a GPU of this generation (``9.0``), or of this process where the device is a CPU."""
    if not is_gpu:
        resident = _resident_bytes()
        # Guesses: libraries that a worker loads and threads that it starts at its first step.
        return Surroundings(Between(resident, resident + 70 * MIB, resident + 300 * MIB), (), is_gpu=False)
    is_hopper_or_later = (major_of(compute_capability) or 0) >= 9
    if is_hopper_or_later:
        # On an H100, published peaks less what the allocator reserves are 1,177 to 1,297 MiB, see
        # docs/memory.md, and 328 to 551 of them are the driver's own. A guess for what comes after Hopper.
        context = Between(450 * MIB, 750 * MIB, 1000 * MIB)
    else:
        # A guess: with lazy loading, contexts of 250 to 700 MiB are reported.
        context = Between(250 * MIB, 450 * MIB, 900 * MIB)
    # aten/src/ATen/cuda/CublasHandlePool.cpp: 2 x 4096 + 8 x 16 KiB; from Hopper on 8 x 4096 KiB.
    workspace = 32 * MIB if is_hopper_or_later else (2 * 4096 + 8 * 16) << 10
    return Surroundings(context, (workspace, workspace), is_gpu=True)


def major_of(compute_capability: str | None) -> int | None:
    """9 of ``9.0``; ``None`` where it is not known and where it is another vendor's (``gfx90a``)."""
    major = (compute_capability or "").partition(".")[0]
    return int(major) if major.isascii() and major.isdigit() else None


def _resident_bytes() -> int:
    """Of this process, which has loaded what a worker loads."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0
