"""What torch's caching allocator would make of a sequence of requests: its account, without a device.

The rules and constants are those of c10/cuda/CUDACachingAllocator.cpp and c10/core/CachingDeviceAllocator.h
with default settings and one stream: sizes are rounded to 512 bytes; requests of up to 1 MiB share segments
of 2 MiB, those below 10 MiB share segments of 20 MiB, larger ones get a segment of their own in steps of
2 MiB; the smallest free block that is large enough is taken, and split unless too little would remain.
"""

from __future__ import annotations

import bisect

_ROUNDING = 512
_LARGEST_SMALL = 1 << 20
_SMALL_SEGMENT = 2 << 20
_LARGE_SEGMENT = 20 << 20
_OWN_SEGMENT_FROM = 10 << 20
_SEGMENT_ROUNDING = 2 << 20


def rounded(num_bytes: int) -> int:
    """``num_bytes`` as the allocator counts it."""
    return max(1, -(-num_bytes // _ROUNDING)) * _ROUNDING


class Block:
    """A stretch of a segment, in use or free."""

    __slots__ = ("address", "after", "before", "is_free", "is_small", "size")

    def __init__(self, address: int, size: int, *, is_small: bool) -> None:
        self.address = address
        self.size = size
        self.is_small = is_small
        self.is_free = True
        self.before: Block | None = None
        self.after: Block | None = None


class CachingAllocator:
    """Bytes in use, bytes reserved from the driver, and the peak of the bytes in use."""

    def __init__(self) -> None:
        self.allocated_bytes = 0
        self.reserved_bytes = 0
        self.peak_allocated_bytes = 0
        self._free: dict[bool, list[tuple[int, int, Block]]] = {True: [], False: []}

    def reset_peak(self) -> None:
        """Count the peak from here."""
        self.peak_allocated_bytes = self.allocated_bytes

    def take(self, num_bytes: int) -> Block:
        """Serve a request."""
        size = rounded(num_bytes)
        block = self._best_free(size) or self._new_segment(size)
        left = block.size - size
        if left >= _ROUNDING if block.is_small else left > _LARGEST_SMALL:
            self._split(block, size)
        block.is_free = False
        self.allocated_bytes += block.size
        self.peak_allocated_bytes = max(self.peak_allocated_bytes, self.allocated_bytes)
        return block

    def give_back(self, block: Block) -> None:
        """Free a block and join it with free neighbours."""
        self.allocated_bytes -= block.size
        block.is_free = True
        if block.before is not None and block.before.is_free:
            block = self._joined(block.before, block)
        if block.after is not None and block.after.is_free:
            block = self._joined(block, block.after)
        self._put(block)

    def _best_free(self, size: int) -> Block | None:
        free = self._free[size <= _LARGEST_SMALL]
        place = bisect.bisect_left(free, (size, -1))
        return free.pop(place)[2] if place < len(free) else None

    def _new_segment(self, size: int) -> Block:
        if size <= _LARGEST_SMALL:
            segment = _SMALL_SEGMENT
        elif size < _OWN_SEGMENT_FROM:
            segment = _LARGE_SEGMENT
        else:
            segment = -(-size // _SEGMENT_ROUNDING) * _SEGMENT_ROUNDING
        block = Block(self.reserved_bytes, segment, is_small=size <= _LARGEST_SMALL)
        self.reserved_bytes += segment
        return block

    def _split(self, block: Block, size: int) -> None:
        rest = Block(block.address + size, block.size - size, is_small=block.is_small)
        rest.before, rest.after, block.after = block, block.after, rest
        if rest.after is not None:
            rest.after.before = rest
        block.size = size
        self._put(rest)

    def _joined(self, left: Block, right: Block) -> Block:
        for block in (left, right):
            self._remove(block)
        left.size += right.size
        left.after = right.after
        if left.after is not None:
            left.after.before = left
        return left

    def _put(self, block: Block) -> None:
        bisect.insort(self._free[block.is_small], (block.size, block.address, block))

    def _remove(self, block: Block) -> None:
        free = self._free[block.is_small]
        place = bisect.bisect_left(free, (block.size, block.address))
        if place < len(free) and free[place][2] is block:
            del free[place]
