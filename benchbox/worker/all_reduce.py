"""What an all-reduce among a case's own ranks reaches: the ceiling that its communication is held against."""

from __future__ import annotations

import torch
import torch.distributed as dist

from benchbox.schema import AllReduceRate
from benchbox.worker.clock import StepClock, make_clock
from benchbox.worker.ranks import Ranks

# About DDP's own bucket of 25 MiB; a GPU's links are filled by larger ones only.
BUCKET_BYTES = {"cpu": (256 << 10, 4 << 20, 25 << 20), "cuda": (4 << 20, 25 << 20, 100 << 20, 400 << 20)}
_GROUP_S = 0.03  # a group of calls takes about this long, so that neither launching nor the clock is measured
_NUM_GROUPS = 3
_MAX_CALLS = 500
_NO_LARGER_AFTER_S = 0.25  # on a slow wire: a larger bucket would take longer than it tells


def time_all_reduce(device: torch.device, ranks: Ranks) -> tuple[AllReduceRate, ...]:
    """The best of a few groups of all-reduces in fp32 for each bucket size, over training's own backend.

    All ranks make the same calls: rank 0 decides how many, and whether a larger bucket is worth its time.
    The rate is that of a ring's bus, so it stands beside the bytes that a strategy must send: 2 (W - 1) / W
    times the bucket, over the time (NVIDIA, nccl-tests, doc/PERFORMANCE.md).

    Raises:
        RuntimeError: no memory for a bucket, or another rank is gone.
    """
    share_sent = 2 * (ranks.world_size - 1) / ranks.world_size
    rates = []
    for num_bytes in BUCKET_BYTES[device.type]:
        bucket = torch.zeros(num_bytes // 4, device=device)  # sums of zeros never overflow
        call_ns = _best_call_ns(bucket, ranks)
        rates.append(AllReduceRate(num_bytes=num_bytes, bytes_per_s=share_sent * num_bytes / call_ns * 1e9))
        if ranks.agree(round(call_ns)) > _NO_LARGER_AFTER_S * 1e9:
            break
    return tuple(rates)


def _best_call_ns(bucket: torch.Tensor, ranks: Ranks) -> float:
    clock = make_clock(bucket.device, 1)
    _call_ns(bucket, clock, ranks, 1)  # connections are opened by the first
    num_calls = ranks.agree(min(_MAX_CALLS, 1 + round(_GROUP_S * 1e9 / _call_ns(bucket, clock, ranks, 1))))
    return min(_call_ns(bucket, clock, ranks, num_calls) for _ in range(_NUM_GROUPS))


def _call_ns(bucket: torch.Tensor, clock: StepClock, ranks: Ranks, num_calls: int) -> float:
    """The mean of so many calls in a row, which ranks begin together."""
    ranks.wait()
    clock.start()
    for _ in range(num_calls):
        dist.all_reduce(bucket)
    clock.mark(0)
    return max(clock.read_ns(1)[0], 1) / num_calls
