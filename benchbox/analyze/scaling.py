"""How cases with several devices do against one device in the same report."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from benchbox.schema import Case, CaseResult, CaseSummary, Interval, Scaling


def scaling_of(results: Sequence[CaseResult]) -> list[Scaling | None]:
    """The efficiency of each case of a report; ``None`` with one device, and where a case has no figures.

    Weak scaling holds each device's batch and accumulation and lets the global batch grow; strong scaling
    holds the global batch. Both set the global rate over the world size against the rate of a case that is
    equal in everything else and runs on one device: with strategy ``single`` where that was measured, else
    with the same strategy. Where several one-device cases make the same global batch, the one with as many
    accumulation steps counts, else the one with the fewest.
    """
    on_one_device: dict[Case, list[CaseResult]] = defaultdict(list)
    for result in results:
        if result.case.world_size == 1 and result.summary and result.summary.samples_per_second > 0:
            on_one_device[_family(result.case)].append(result)
    return [_scaling(result, on_one_device.get(_family(result.case), ())) for result in results]


def _family(case: Case) -> Case:
    """What cases have in common that differ in placement and batch only."""
    return replace(
        case,
        case_id="",
        strategy="single",
        world_size=1,
        per_device_batch_size=1,
        gradient_accumulation_steps=1,
    )


def _scaling(result: CaseResult, on_one_device: Sequence[CaseResult]) -> Scaling | None:
    if result.case.world_size == 1 or result.summary is None:
        return None
    weak = _baseline(result.case, on_one_device, _same_device_batch)
    strong = _baseline(result.case, on_one_device, _same_global_batch)
    return Scaling(
        weak_efficiency=_efficiency(result, weak),
        weak_efficiency_interval=_interval(result, weak),
        weak_baseline_case_id=weak.case.case_id if weak else None,
        strong_efficiency=_efficiency(result, strong),
        strong_efficiency_interval=_interval(result, strong),
        strong_baseline_case_id=strong.case.case_id if strong else None,
    )


def _same_device_batch(case: Case, other: Case) -> bool:
    return (case.per_device_batch_size, case.gradient_accumulation_steps) == (
        other.per_device_batch_size,
        other.gradient_accumulation_steps,
    )


def _same_global_batch(case: Case, other: Case) -> bool:
    return case.global_batch_size == other.global_batch_size


def _baseline(
    case: Case, on_one_device: Sequence[CaseResult], same_batch: Callable[[Case, Case], bool]
) -> CaseResult | None:
    fitting = [
        result
        for result in on_one_device
        if result.case.strategy in ("single", case.strategy) and same_batch(case, result.case)
    ]
    return min(fitting, key=lambda result: _preference(case, result.case), default=None)


def _preference(case: Case, baseline: Case) -> tuple[bool, bool, int]:
    """The least one is preferred."""
    accumulation = baseline.gradient_accumulation_steps
    return (
        baseline.strategy != "single",
        accumulation != case.gradient_accumulation_steps,
        accumulation,
    )


def _efficiency(result: CaseResult, baseline: CaseResult | None) -> float | None:
    if baseline is None or result.summary is None or baseline.summary is None:
        return None
    return result.summary.samples_per_second / (result.case.world_size * baseline.summary.samples_per_second)


def _interval(result: CaseResult, baseline: CaseResult | None) -> Interval | None:
    """Both rates' intervals, symmetrical on the log scale, add as independent ones do: by their squares."""
    efficiency = _efficiency(result, baseline)
    if efficiency is None or baseline is None:
        return None
    own, other = _log_half_width(result.summary), _log_half_width(baseline.summary)
    if own is None or other is None:
        return None
    stretch = math.exp(math.hypot(own, other))
    return Interval(low=efficiency / stretch, high=efficiency * stretch)


def _log_half_width(summary: CaseSummary | None) -> float | None:
    interval = summary.samples_per_second_interval if summary else None
    if interval is None or interval.low <= 0:
        return None
    half_width = math.log(interval.high / interval.low) / 2
    return half_width if half_width <= 20 else None  # a factor of e^20 tells nothing
