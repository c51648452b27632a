"""The rules of torch's caching allocator, and what must hold whatever is asked of it."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from benchbox.worker.caching_allocator import Block, CachingAllocator, rounded

MIB = 1 << 20


def test_sizes_are_rounded_to_512_bytes() -> None:
    assert [rounded(size) for size in (0, 1, 512, 513)] == [512, 512, 512, 1024]


def test_segments_have_2_mib_20_mib_or_their_own_size() -> None:
    for size, reserved in (
        (1, 2 * MIB),
        (MIB, 2 * MIB),
        (MIB + 1, 20 * MIB),
        (10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB),
        (11 * MIB, 12 * MIB),
    ):
        allocator = CachingAllocator()
        allocator.take(size)
        assert allocator.reserved_bytes == reserved


def test_the_rest_of_a_large_block_is_split_off_only_above_a_mebibyte() -> None:
    allocator = CachingAllocator()
    allocator.take(11 * MIB)  # of 12: the rest is too small to be of use
    assert allocator.allocated_bytes == 12 * MIB
    allocator = CachingAllocator()
    allocator.take(5 * MIB)
    assert allocator.allocated_bytes == 5 * MIB
    allocator.take(14 * MIB + 512)  # of the 15 that were left: what remains is too small again
    assert (allocator.allocated_bytes, allocator.reserved_bytes) == (20 * MIB, 20 * MIB)


def test_the_smallest_block_that_is_large_enough_is_taken() -> None:
    allocator = CachingAllocator()
    large, small = allocator.take(40 * MIB), allocator.take(20 * MIB)
    keep = allocator.take(30 * MIB)
    allocator.give_back(large)
    allocator.give_back(small)
    assert allocator.take(16 * MIB) is small
    assert allocator.reserved_bytes == 90 * MIB
    assert not keep.is_free


def test_what_lies_free_in_two_pieces_cannot_serve_a_larger_request() -> None:
    allocator = CachingAllocator()
    pieces = [allocator.take(12 * MIB), allocator.take(12 * MIB)]
    for piece in pieces:
        allocator.give_back(piece)
    allocator.take(24 * MIB)
    assert (allocator.allocated_bytes, allocator.reserved_bytes) == (24 * MIB, 48 * MIB)


def test_the_peak_counts_from_its_reset() -> None:
    allocator = CachingAllocator()
    allocator.give_back(allocator.take(8 * MIB))
    assert allocator.peak_allocated_bytes == 8 * MIB
    allocator.reset_peak()
    allocator.take(2 * MIB)
    assert allocator.peak_allocated_bytes == 2 * MIB


@given(st.lists(st.tuples(st.integers(1, 40 * MIB), st.integers(0, 7)), max_size=60))
def test_blocks_neither_overlap_nor_get_lost(requests: list[tuple[int, int]]) -> None:
    allocator = CachingAllocator()
    held: list[Block] = []
    for size, place in requests:
        if place < len(held):
            allocator.give_back(held.pop(place))
        block = allocator.take(size)
        assert block.size >= size
        held.append(block)
        spans = sorted((b.address, b.address + b.size) for b in held)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
        assert allocator.allocated_bytes == sum(b.size for b in held) <= allocator.reserved_bytes
        assert allocator.peak_allocated_bytes >= allocator.allocated_bytes
    reserved = allocator.reserved_bytes
    for block in held:
        allocator.give_back(block)
    assert (allocator.allocated_bytes, allocator.reserved_bytes) == (0, reserved)
    for size, _ in requests:  # the same again, one at a time: whole segments have joined and serve each
        allocator.give_back(allocator.take(size))
    assert allocator.reserved_bytes == reserved
