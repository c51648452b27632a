"""Which figures of a case the tables show, in which order and in which words."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from benchbox.report.text import (
    duration,
    energy,
    if_known,
    memory,
    percent,
    plus_minus,
    rate_text,
    share,
    significant,
)
from benchbox.schema import CaseResult, CaseSummary, Report


class Figure(NamedTuple):
    """One figure: its heading, its name in a sentence, and its text for a case, ``None`` if unknown."""

    title: str
    name: str
    text: Callable[[CaseResult], str | None]


Group = tuple[Figure, ...]
"""Figures that belong together; a narrow table stacks them in one column."""


def known_groups(report: Report) -> tuple[list[Group], list[str]]:
    """The groups with the figures that at least one case knows, and the names of those that none does."""
    groups, unknown = [], []
    for group in _groups(report):
        known = tuple(f for f in group if any(f.text(result) is not None for result in report.cases))
        unknown += [figure.name for figure in group if figure not in known]
        if known:
            groups.append(known)
    return groups, unknown if any(result.summary for result in report.cases) else []


def rests_on_steps(report: Report) -> bool:
    """Whether some interval is marked with a star, which needs an explanation."""
    return any(case.summary and case.summary.interval_basis == "steps" for case in report.cases)


def interval_text(summary: CaseSummary | None) -> str | None:
    """``± 0.42 %``, with a star where it rests on the steps of one attempt."""
    if summary is None or summary.samples_per_second_interval is None:
        return None
    star = "*" if summary.interval_basis == "steps" else ""
    return plus_minus(summary.samples_per_second_interval) + star


STAR = "* over the steps of a single attempt: variation from run to run is not in it"
RANKS = (
    "comm. is the part of a step by which collectives make it longer; eff. is the rate of a device against "
    "one device alone, with the same batch for each device (weak) or the same global batch (strong)"
)
RANKS_OF_A_CPU = (
    "ranks on a CPU share its processors: their efficiency says what sharing costs, not how devices scale"
)


def _groups(report: Report) -> list[Group]:
    groups = [_THROUGHPUT, _STEP, _HOST_MEMORY if report.environment.device == "cpu" else _DEVICE_MEMORY]
    if any(result.case.world_size > 1 for result in report.cases):
        groups.append(_RANKS)
    return [*groups, _POWER, _ARITHMETIC]


def _of_summary(title: str, name: str, text: Callable[[CaseSummary], str | None]) -> Figure:
    return Figure(title, name, lambda result: text(result.summary) if result.summary else None)


def _peak(summary: CaseSummary) -> str | None:
    if summary.mfu_peak_tflops is None:
        return None
    return f"{significant(summary.mfu_peak_tflops)} {summary.mfu_peak_precision or ''}".rstrip()


_THROUGHPUT = (
    _of_summary(
        "samples/s", "samples/s", lambda s: rate_text(s.samples_per_second, s.samples_per_second_interval)
    ),
    _of_summary("95 %", "its 95 % interval", interval_text),
)
_STEP = (
    _of_summary("step p50", "median step time", lambda s: duration(s.step_time_p50_ns)),
    _of_summary("step p95", "95th percentile of step time", lambda s: duration(s.step_time_p95_ns)),
)
_HOST_MEMORY = (_of_summary("peak RSS", "host memory", lambda s: if_known(s.peak_host_rss_bytes, memory)),)
_DEVICE_MEMORY = (
    _of_summary("peak alloc", "allocated memory", lambda s: if_known(s.peak_memory_allocated_bytes, memory)),
    _of_summary("reserved", "reserved memory", lambda s: if_known(s.peak_memory_reserved_bytes, memory)),
    _of_summary(
        "on device", "memory used on the device", lambda s: if_known(s.device_memory_used_bytes, memory)
    ),
)
_RANKS = (
    _of_summary("comm.", "communication share", lambda s: share(s.communication_share)),
    Figure(
        "weak eff.",
        "weak scaling efficiency",
        lambda result: share(result.scaling.weak_efficiency) if result.scaling else None,
    ),
    Figure(
        "strong eff.",
        "strong scaling efficiency",
        lambda result: share(result.scaling.strong_efficiency) if result.scaling else None,
    ),
)
_POWER = (
    _of_summary("GPU util", "GPU utilization", lambda s: if_known(s.utilization_gpu_pct, percent)),
    _of_summary("power", "power", lambda s: None if s.power_w is None else f"{significant(s.power_w)} W"),
    _of_summary("J/sample", "energy per sample", lambda s: if_known(s.joules_per_sample, energy)),
)
_ARITHMETIC = (
    _of_summary("MFU", "MFU", lambda s: share(s.mfu)),
    _of_summary("of TFLOP/s", "the peak that MFU is against", _peak),
    _of_summary("of reached", "share of the rate reached here", lambda s: share(s.ceiling_fraction)),
)
