"""What the telemetry samples of a case's attempts say, over all samples, devices and attempts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

from benchbox.schema import SLOWING_REASONS_MASK, AttemptResult
from benchbox.stats import mean

T = TypeVar("T")


class SampleSummary(NamedTuple):
    """``None`` where no device told."""

    device_memory_used_bytes: int | None
    utilization_gpu_pct: float | None
    utilization_memory_pct: float | None
    power_w: float | None
    throttled_samples_pct: float | None
    foreign_process_seen: bool | None


def summarize_samples(attempts: Sequence[AttemptResult]) -> SampleSummary:
    """Means over samples; memory is the largest reading of any device."""
    devices = [device for attempt in attempts for device in attempt.devices]
    throttled = [bool(r & SLOWING_REASONS_MASK) for r in _known(d.throttle_reasons for d in devices)]
    foreign = _known(d.num_foreign_processes for d in devices)
    return SampleSummary(
        device_memory_used_bytes=max(_known(d.memory_used_bytes for d in devices), default=None),
        utilization_gpu_pct=_mean(_known(d.utilization_gpu_pct for d in devices)),
        utilization_memory_pct=_mean(_known(d.utilization_memory_pct for d in devices)),
        power_w=_mean(_known(d.power_w for d in devices)),
        throttled_samples_pct=100 * sum(throttled) / len(throttled) if throttled else None,
        foreign_process_seen=max(foreign) > 0 if foreign else None,
    )


def _known(columns: Iterable[Sequence[T | None] | None]) -> list[T]:
    return [value for column in columns if column is not None for value in column if value is not None]


def _mean(values: Sequence[float]) -> float | None:
    return mean(values) if values else None
