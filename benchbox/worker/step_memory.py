"""Memory of a step for any batch size, from traces at a few.

The order in which storages begin and end does not depend on the batch size, and each one's bytes are a fixed
part and a part for each sample. So two traces give all batch sizes exactly, and a third says whether that
holds for this model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchbox.worker.caching_allocator import Block, CachingAllocator, rounded
from benchbox.worker.step_trace import Kind, StepTrace

TRACED_BATCH_SIZES = (2, 3)


@dataclass(frozen=True)
class StepMemory:
    """A step whose storages' bytes are ``fixed + per_sample * batch_size``."""

    trace: StepTrace
    fixed: tuple[int, ...]
    per_sample: tuple[int, ...]

    def sizes(self, batch_size: int) -> list[int]:
        """Bytes of each storage."""
        return [f + s * batch_size for f, s in zip(self.fixed, self.per_sample, strict=True)]


def step_memory(first: StepTrace, second: StepTrace) -> StepMemory | None:
    """From traces at :data:`TRACED_BATCH_SIZES`; ``None`` where what is done depends on the batch size."""
    if not _same_course(first, second):
        return None
    at, step = TRACED_BATCH_SIZES[0], TRACED_BATCH_SIZES[1] - TRACED_BATCH_SIZES[0]
    per_sample = [(b - a) // step for a, b in zip(first.sizes, second.sizes, strict=True)]
    fixed = [a - at * s for a, s in zip(first.sizes, per_sample, strict=True)]
    return StepMemory(first, tuple(fixed), tuple(per_sample))


def holds(memory: StepMemory, trace: StepTrace, batch_size: int) -> bool:
    """Whether ``memory`` foretells ``trace``, which was made at ``batch_size``, to the byte."""
    return _same_course(memory.trace, trace) and memory.sizes(batch_size) == list(trace.sizes)


def constant(trace: StepTrace) -> StepMemory:
    """Good for the batch size of ``trace`` alone."""
    return StepMemory(trace, trace.sizes, (0,) * len(trace.sizes))


def _same_course(a: StepTrace, b: StepTrace) -> bool:
    return (a.events, a.kinds, a.saved, a.step_from) == (b.events, b.kinds, b.saved, b.step_from)


def peak_of(kinds: Sequence[Kind], trace: StepTrace, sizes: Sequence[int]) -> int:
    """The most bytes that storages of ``kinds`` take together at any time of the second step."""
    return _peak(trace, [size if kind in kinds else 0 for size, kind in zip(sizes, trace.kinds, strict=True)])


def bytes_alive_at_peak(trace: StepTrace, sizes: Sequence[int], *, is_rounded: bool) -> int:
    """The most bytes alive at any time of the second step, but for those that lie elsewhere.

    ``is_rounded``: as torch's allocator for GPUs rounds each storage.
    """
    counted = [rounded(size) for size in sizes] if is_rounded else sizes
    return _peak(
        trace,
        [0 if kind == "elsewhere" else size for size, kind in zip(counted, trace.kinds, strict=True)],
    )


def _peak(trace: StepTrace, counts: Sequence[int]) -> int:
    live = peak = 0
    for place, event in enumerate(trace.events):
        live += counts[event] if event >= 0 else -counts[~event]
        if place >= trace.step_from:
            peak = max(peak, live)
    return peak


def allocator_after(trace: StepTrace, sizes: Sequence[int], workspaces: Sequence[int]) -> CachingAllocator:
    """The allocator after both steps, its peak that of the second; ``workspaces`` are taken first."""
    allocator = CachingAllocator()
    for workspace in workspaces:
        allocator.take(workspace)
    blocks: dict[int, Block] = {}
    for place, event in enumerate(trace.events):
        if place == trace.step_from:
            allocator.reset_peak()
        if event < 0:
            block = blocks.pop(~event, None)
            if block is not None:
                allocator.give_back(block)
        elif trace.kinds[event] != "elsewhere":
            blocks[event] = allocator.take(sizes[event])
    return allocator
