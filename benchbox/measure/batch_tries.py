"""What one attempt says of its batch size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from benchbox.schema import AttemptResult, BatchTry, Case, DeviceFacts, Interval, RankResult, WorkerMemory
from benchbox.stats import mean, mean_interval

N = TypeVar("N", int, float)


def summarize_try(case: Case, attempt: AttemptResult) -> BatchTry:
    """What one attempt says of its batch size."""
    # One that is invalid has trained as well: so few steps cannot tell whether the loss falls.
    timed = attempt.outcome in ("ok", "invalid") and bool(attempt.ranks)
    stepped = [rank for rank in attempt.ranks if rank.step_time_ns] if timed else []
    slowest = max(stepped, key=lambda rank: mean(rank.step_time_ns), default=None)
    slowest_ns = None if slowest is None else mean(slowest.step_time_ns)
    memory = [rank.memory for rank in attempt.ranks if rank.memory is not None]
    used = [value for device in attempt.devices for value in device.memory_used_bytes or ()]
    return BatchTry(
        per_device_batch_size=case.per_device_batch_size,
        outcome=attempt.outcome,
        reason=attempt.reason,
        samples_per_second=None if slowest_ns is None else case.global_batch_size / (slowest_ns / 1e9),
        samples_per_second_interval=None if slowest is None else _rates(case, slowest),
        step_time_ns=None if slowest_ns is None else round(slowest_ns),
        peak_memory_allocated_bytes=_most([m.peak_memory_allocated_bytes for m in memory]),
        peak_memory_reserved_bytes=_most([m.peak_memory_reserved_bytes for m in memory]),
        device_memory_used_bytes=_most(used),
        peak_host_rss_bytes=_most([m.peak_host_rss_bytes for m in memory]),
        fragmentation_pct=_most([_fragmentation_pct(m) for m in memory]),
        memory_limit_used_pct=_limit_used_pct(memory),
        duration_s=attempt.duration_s,
    )


def _rates(case: Case, rank: RankResult) -> Interval | None:
    """Of samples a second by the rank's mean step; ``None`` where its steps are too few to tell."""
    low_ns, high_ns = mean_interval(rank.step_time_ns)
    if low_ns <= 0:
        return None
    return Interval(low=case.global_batch_size / high_ns * 1e9, high=case.global_batch_size / low_ns * 1e9)


def _fragmentation_pct(memory: WorkerMemory) -> float | None:
    """Of the memory that one rank's torch has reserved, the share in no tensor at the peak."""
    reserved, allocated = memory.peak_memory_reserved_bytes, memory.peak_memory_allocated_bytes
    if not reserved or allocated is None:
        return None
    return 100 * max(0, reserved - allocated) / reserved


def headroom_bytes(
    tried: BatchTry, devices: Sequence[DeviceFacts], memory_limit_bytes: int | None, *, keeps_freed: bool
) -> int | None:
    """What is left at the peak: of the smallest device, or of the limit on a CPU; ``None``: unknown.

    The kernel keeps no high-water mark of private memory. What there is at the end is the peak only where the
    host's allocator ``keeps_freed`` memory.
    """
    if memory_limit_bytes is not None:
        used_pct = tried.memory_limit_used_pct if keeps_freed else None
        return None if used_pct is None else round(memory_limit_bytes * (1 - used_pct / 100))
    totals = [device.memory_total_bytes for device in devices if device.memory_total_bytes is not None]
    peak = tried.device_memory_used_bytes or tried.peak_memory_reserved_bytes
    return None if not totals or peak is None else min(totals) - peak


def _limit_used_pct(memory: Sequence[WorkerMemory]) -> float | None:
    """Of private memory, by the rank that came closest; ``None`` where one came closer to another limit."""
    if not memory or any(m.tightest_limit != "RLIMIT_DATA" for m in memory):
        return None
    return _most([m.tightest_limit_used_pct for m in memory])


def _most(values: Sequence[N | None]) -> N | None:
    return max((value for value in values if value is not None), default=None)
