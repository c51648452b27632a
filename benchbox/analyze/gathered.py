"""What a case's attempts know about where its time goes, in one place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from benchbox.analyze.ranks import best_all_reduce
from benchbox.schema import (
    AttemptResult,
    BatchSplit,
    Case,
    CaseResult,
    Communication,
    InputAblation,
    MemoryEstimate,
    PhaseTimes,
    ProfiledStep,
    RankResult,
)
from benchbox.stats import mean

_ACTIVITIES = (
    ("the multiprocessors work", "sm_activity_pct"),
    ("the tensor pipe works", "tensor_activity_pct"),
    ("the memory works", "dram_activity_pct"),
)


class Gathered(NamedTuple):
    """Of the ``ok`` attempts of one case; ``None`` where no rank knows."""

    case: Case
    step_ns: float
    """The mean measured step of the slowest rank, over attempts."""
    ranks: Sequence[RankResult]
    phases: PhaseTimes | None
    profile: ProfiledStep | None
    split: BatchSplit | None
    ablation: InputAblation | None
    communication: Communication | None
    num_parameters: int | None
    estimate: MemoryEstimate | None
    all_reduce_bytes_per_s: float | None
    """What all-reduces among the case's own ranks reached."""
    busy_pct: float | None = None
    """Share of the measured time in which some kernel ran, by the driver."""
    activity_pct: tuple[tuple[str, float], ...] = ()
    """Share of it in which parts of the device worked, by its GPM counters; those that were read."""


def gather(result: CaseResult) -> Gathered | None:
    """``None`` where no step was measured."""
    measured = [a for a in result.attempts if a.outcome == "ok" and any(sum(r.step_time_ns) for r in a.ranks)]
    if not measured:
        return None
    ranks = [rank for attempt in measured for rank in attempt.ranks]
    steps = [max(mean(r.step_time_ns) for r in a.ranks if r.step_time_ns) for a in measured]
    flops = next((rank.flops for rank in ranks if rank.flops), None)
    return Gathered(
        case=result.case,
        step_ns=mean(steps),
        ranks=ranks,
        phases=next((rank.phases for rank in ranks if rank.phases), None),
        profile=next((rank.profile for rank in ranks if rank.profile), None),
        split=next((rank.batch_split for rank in ranks if rank.batch_split), None),
        ablation=next((rank.input_ablation for rank in ranks if rank.input_ablation), None),
        communication=next((rank.communication for rank in ranks if rank.communication), None),
        num_parameters=flops.num_parameters if flops else None,
        estimate=result.memory_estimate,
        all_reduce_bytes_per_s=best_all_reduce(measured),
        busy_pct=_mean_sample(measured, "utilization_gpu_pct"),
        activity_pct=tuple(
            (name, pct) for name, field in _ACTIVITIES if (pct := _mean_sample(measured, field)) is not None
        ),
    )


def _mean_sample(measured: Sequence[AttemptResult], field: str) -> float | None:
    samples = [
        pct
        for attempt in measured
        for device in attempt.devices
        for pct in getattr(device, field) or ()
        if pct is not None
    ]
    return mean(samples) if samples else None


def others_pct(gathered: Gathered) -> float | None:
    """Percent of all processors' time that processes outside of the case took while its steps were measured,
    the most in any attempt; ``None`` where nobody looked."""
    usages = [rank.host_usage for rank in gathered.ranks if rank.host_usage is not None]
    return max((u.other_cpu_pct for u in usages if u.other_cpu_pct is not None), default=None)
