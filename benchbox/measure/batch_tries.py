"""What one attempt says of its batch size."""

from __future__ import annotations

from collections.abc import Sequence

from benchbox.schema import AttemptResult, BatchTry, Case, DeviceFacts


def summarize_try(case: Case, attempt: AttemptResult) -> BatchTry:
    """What one attempt says of its batch size."""
    # One that is invalid has trained as well: so few steps cannot tell whether the loss falls.
    timed = attempt.outcome in ("ok", "invalid") and bool(attempt.ranks)
    steps = [sum(rank.step_time_ns) / len(rank.step_time_ns) for rank in attempt.ranks if rank.step_time_ns]
    slowest_ns = max(steps) if timed and steps else None
    memory = [rank.memory for rank in attempt.ranks if rank.memory is not None]
    used = [value for device in attempt.devices for value in device.memory_used_bytes or ()]
    return BatchTry(
        per_device_batch_size=case.per_device_batch_size,
        outcome=attempt.outcome,
        reason=attempt.reason,
        samples_per_second=None if slowest_ns is None else case.global_batch_size / (slowest_ns / 1e9),
        step_time_ns=None if slowest_ns is None else round(slowest_ns),
        peak_memory_allocated_bytes=_most([m.peak_memory_allocated_bytes for m in memory]),
        peak_memory_reserved_bytes=_most([m.peak_memory_reserved_bytes for m in memory]),
        device_memory_used_bytes=_most(used),
        peak_host_rss_bytes=_most([m.peak_host_rss_bytes for m in memory]),
        duration_s=attempt.duration_s,
    )


def fragmentation_pct(tried: BatchTry) -> float | None:
    """Of the memory that torch has reserved, the share in no tensor at the peak; ``None`` on a CPU."""
    reserved, allocated = tried.peak_memory_reserved_bytes, tried.peak_memory_allocated_bytes
    if not reserved or allocated is None:
        return None
    return 100 * max(0, reserved - allocated) / reserved


def headroom_bytes(
    tried: BatchTry, devices: Sequence[DeviceFacts], memory_limit_bytes: int | None
) -> int | None:
    """What is left at the peak: of the smallest device, or of the limit on a CPU; ``None``: unknown."""
    if memory_limit_bytes is not None:
        rss = tried.peak_host_rss_bytes
        return None if rss is None else memory_limit_bytes - rss
    totals = [device.memory_total_bytes for device in devices if device.memory_total_bytes is not None]
    peak = tried.device_memory_used_bytes or tried.peak_memory_reserved_bytes
    return None if not totals or peak is None else min(totals) - peak


def _most(values: Sequence[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)
