"""Which figures of a case the tables show, in which order and in which words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchbox.report.text import duration, energy, memory, percent, plus_minus, significant
from benchbox.schema import CaseSummary, Report


class Figure(NamedTuple):
    """One figure: its heading, its name in a sentence, and its text for a case, ``None`` if unknown."""

    title: str
    name: str
    text: Callable[[CaseSummary], str | None]


Group = tuple[Figure, ...]
"""Figures that belong together; a narrow table stacks them in one column."""


def known_groups(report: Report) -> tuple[list[Group], list[str]]:
    """The groups with the figures that at least one case knows, and the names of those that none does."""
    summaries = [case.summary for case in report.cases if case.summary]
    groups, unknown = [], []
    for group in _groups(report.environment.device):
        known = tuple(f for f in group if any(f.text(summary) is not None for summary in summaries))
        unknown += [figure.name for figure in group if figure not in known]
        if known:
            groups.append(known)
    return groups, unknown if summaries else []


def rests_on_steps(report: Report) -> bool:
    """Whether some interval is marked with a star, which needs an explanation."""
    return any(case.summary and case.summary.interval_basis == "steps" for case in report.cases)


STAR = "* over the steps of a single attempt: variation from run to run is not in it"


def _groups(device: str) -> Sequence[Group]:
    host_memory = (Figure("peak RSS", "host memory", lambda s: _or_none(memory, s.peak_host_rss_bytes)),)
    device_memory = (
        Figure("peak alloc", "allocated memory", lambda s: _or_none(memory, s.peak_memory_allocated_bytes)),
        Figure("reserved", "reserved memory", lambda s: _or_none(memory, s.peak_memory_reserved_bytes)),
        Figure(
            "on device", "memory used on the device", lambda s: _or_none(memory, s.device_memory_used_bytes)
        ),
    )
    return (
        (
            Figure("samples/s", "samples/s", lambda s: significant(s.samples_per_second, 4)),
            Figure("95 %", "its 95 % interval", _interval),
        ),
        (
            Figure("step p50", "median step time", lambda s: duration(s.step_time_p50_ns)),
            Figure("step p95", "95th percentile of step time", lambda s: duration(s.step_time_p95_ns)),
        ),
        host_memory if device == "cpu" else device_memory,
        (
            Figure("GPU util", "GPU utilization", lambda s: _or_none(percent, s.utilization_gpu_pct)),
            Figure("power", "power", lambda s: None if s.power_w is None else f"{significant(s.power_w)} W"),
            Figure("J/sample", "energy per sample", lambda s: _or_none(energy, s.joules_per_sample)),
        ),
        (
            Figure("MFU", "MFU", lambda s: None if s.mfu is None else percent(100 * s.mfu)),
            Figure("of TFLOP/s", "the peak that MFU is against", _peak),
            Figure(
                "of reached",
                "share of the rate reached here",
                lambda s: None if s.ceiling_fraction is None else percent(100 * s.ceiling_fraction),
            ),
        ),
    )


def _interval(summary: CaseSummary) -> str | None:
    if summary.samples_per_second_interval is None:
        return None
    star = "*" if summary.interval_basis == "steps" else ""
    return plus_minus(summary.samples_per_second_interval) + star


def _peak(summary: CaseSummary) -> str | None:
    if summary.mfu_peak_tflops is None:
        return None
    return f"{significant(summary.mfu_peak_tflops)} {summary.mfu_peak_precision or ''}".rstrip()


def _or_none(show: Callable[[float], str], value: float | None) -> str | None:
    return None if value is None else show(value)
