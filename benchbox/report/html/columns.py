"""The columns of the table of cases: what is shown, what is sorted by, and what a figure means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchbox.report.figures import interval_text
from benchbox.report.text import (
    duration,
    energy,
    half_width_pct,
    if_known,
    memory,
    percent,
    rate_text,
    significant,
)
from benchbox.schema import CaseResult, Report


class Column(NamedTuple):
    """One figure of a case."""

    title: str
    meaning: str
    value: Callable[[CaseResult], float | None]
    text: Callable[[CaseResult], str | None]


class Cell(NamedTuple):
    """A figure as text, and as the number that sorting goes by; both ``None`` where it is unknown."""

    text: str | None
    value: float | None


def known_columns(results: Sequence[CaseResult]) -> list[Column]:
    """The columns in which at least one case has a figure."""
    return [column for column in COLUMNS if any(column.value(result) is not None for result in results)]


def unknown_columns(reports: Sequence[Report]) -> list[str]:
    """The titles of those in which no case has a figure though it could: ranks' where there are several, a
    GPU's memory where there is one. Empty where nothing was measured."""
    results = [result for report in reports for result in report.cases]
    if not any(result.summary for result in results):
        return []
    left_out = {column.title for column in COLUMNS} - {column.title for column in known_columns(results)}
    if all(result.case.world_size == 1 for result in results):
        left_out -= {"comm", "weak eff", "strong eff"}
    if all(report.environment.device == "cpu" for report in reports):
        left_out -= {"peak alloc", "reserved", "on device"}
    return [column.title for column in COLUMNS if column.title in left_out]


def cell(column: Column, result: CaseResult) -> Cell:
    """One cell."""
    value = column.value(result)
    return Cell(None, None) if value is None else Cell(column.text(result), value)


def _figure(
    title: str, meaning: str, value: Callable[[CaseResult], float | None], show: Callable[[float], str]
) -> Column:
    """A column whose text rests on its value alone."""
    return Column(title, meaning, value, lambda result: if_known(value(result), show))


def _summary(name: str, factor: float = 1.0) -> Callable[[CaseResult], float | None]:
    def value(result: CaseResult) -> float | None:
        found: float | None = getattr(result.summary, name, None)
        return None if found is None else found * factor

    return value


def _scaling(name: str) -> Callable[[CaseResult], float | None]:
    def value(result: CaseResult) -> float | None:
        found: float | None = getattr(result.scaling, name, None)
        return None if found is None else 100 * found

    return value


def _rate(result: CaseResult) -> str | None:
    summary = result.summary
    return rate_text(summary.samples_per_second, summary.samples_per_second_interval) if summary else None


def _half_width(result: CaseResult) -> float | None:
    interval = result.summary.samples_per_second_interval if result.summary else None
    return None if interval is None else half_width_pct(interval)


COLUMNS = (
    Column(
        "samples/s",
        "Samples trained per second over all measured steps, of all devices together; the geometric mean of "
        "the attempts.",
        _summary("samples_per_second"),
        _rate,
    ),
    Column(
        "95 %",
        "Half of the 95 % interval of samples/s. It knows nothing of other machines or other days.",
        _half_width,
        lambda result: interval_text(result.summary),
    ),
    _figure(
        "MFU",
        "The model's own FLOPs over time, as a share of the vendor's dense peak of the case's precision.",
        _summary("mfu", 100),
        percent,
    ),
    _figure(
        "of reached",
        "The same against the matrix product that a probe reached on this device.",
        _summary("ceiling_fraction", 100),
        percent,
    ),
    _figure("step p50", "The median step.", _summary("step_time_p50_ns"), duration),
    _figure("step p95", "19 of 20 steps are shorter.", _summary("step_time_p95_ns"), duration),
    _figure(
        "peak alloc",
        "The most that tensors held at once, by torch's account; less than the device must have free.",
        _summary("peak_memory_allocated_bytes"),
        memory,
    ),
    _figure(
        "reserved",
        "What torch's allocator took from the device at its peak, with its reserve.",
        _summary("peak_memory_reserved_bytes"),
        memory,
    ),
    _figure(
        "on device",
        "The driver's largest reading, of the whole device: other processes and the context are in it.",
        _summary("device_memory_used_bytes"),
        memory,
    ),
    _figure(
        "GPU util",
        "Share of time in which some kernel ran. It shows idleness, never efficiency.",
        _summary("utilization_gpu_pct"),
        percent,
    ),
    _figure("power", "Mean of one device.", _summary("power_w"), lambda v: f"{significant(v)} W"),
    _figure(
        "J/sample",
        "Energy of the devices alone, per sample; the host's is not in it.",
        _summary("joules_per_sample"),
        energy,
    ),
    _figure(
        "comm",
        "Share of a step by which collectives make it longer; what overlaps with arithmetic is not in it.",
        _summary("communication_share", 100),
        percent,
    ),
    _figure(
        "weak eff",
        "Rate over that of one device with the same batch for each device, times the number of devices.",
        _scaling("weak_efficiency"),
        percent,
    ),
    _figure(
        "strong eff",
        "The same against one device with the same global batch.",
        _scaling("strong_efficiency"),
        percent,
    ),
    _figure(
        "peak RSS",
        "The worker's largest memory on the host since its start, building the model included.",
        _summary("peak_host_rss_bytes"),
        memory,
    ),
)
