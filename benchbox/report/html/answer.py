"""The top of a page: the best configuration, how near the ceiling it is, what holds it back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from benchbox.report.diagnosis import evidence_text, step_text, verdict_text
from benchbox.report.facts import device_name, phase_times
from benchbox.report.plots.phases import PHASES, phase_shares
from benchbox.report.text import (
    case_labels,
    clean,
    duration,
    energy,
    memory,
    percent,
    plus_minus,
    rate_text,
    significant,
)
from benchbox.schema import Case, CaseResult, CaseSummary, Diagnosis, Report

BOTTLENECKS = {
    "compute": "the device's arithmetic",
    "memory-bandwidth": "the device's memory bandwidth",
    "optimizer": "the optimizer's update of the weights",
    "input": "waiting for input",
    "host-launch": "the host launches kernels more slowly than they run",
    "host-memory": "the host's memory",
    "communication": "communication between devices",
    "memory-capacity": "the size of the device's memory",
    "power-or-thermal": "power or heat hold the clocks back",
    "mixed": "several things at once",
}


class Meter(NamedTuple):
    """A share of something: 1.0 is all of it."""

    label: str
    short: str
    share: float
    text: str


class Best(NamedTuple):
    """The quickest configuration of one workload."""

    workload: str
    label: str
    place: int
    """Of its case in the report."""
    rate: str
    interval: str | None
    num_cases: int


class Answer(NamedTuple):
    """One report in a few lines. Texts are cleaned, not escaped."""

    device: str
    best: Best | None
    """``None`` where no case ended ``ok``."""
    others: tuple[Best, ...]
    """The best of each other workload, whose samples are others and cannot be compared."""
    meters: tuple[Meter, ...]
    no_ceiling: str | None
    """Why there is no meter."""
    bottleneck: str
    evidence: tuple[str, ...]
    next_step: str | None
    facts: tuple[tuple[str, str], ...]


def answer(report: Report) -> Answer:
    """The workload with the most cases answers; the first of the suite, where several have."""
    labels = case_labels([result.case for result in report.cases])
    workloads: dict[object, list[tuple[int, CaseResult]]] = {}
    for place, result in enumerate(report.cases):
        workloads.setdefault(_workload(result.case), []).append((place, result))
    found = [best for group in workloads.values() if (best := _best(group, labels))]
    first = max(found, key=lambda best: best.num_cases, default=None)
    winner = report.cases[first.place] if first else None
    summary = winner.summary if winner else None
    meters = _meters(summary)
    return Answer(
        device=clean(device_name(report.environment), 80),
        best=first,
        others=tuple(best for best in found if best is not first),
        meters=meters,
        no_ceiling=None if meters or winner is None else _no_ceiling(report, winner),
        bottleneck=_bottleneck(winner) if winner else _without_winner(report),
        evidence=evidence_texts(winner.diagnosis) if winner and winner.diagnosis else (),
        next_step=next_step(winner.diagnosis) if winner else None,
        facts=_facts(report, summary),
    )


def _workload(case: Case) -> object:
    return (case.model, case.input_shape, case.num_classes, case.hidden_size)


def _best(group: Sequence[tuple[int, CaseResult]], labels: dict[str, str]) -> Best | None:
    measured = [
        (result.summary.samples_per_second, -place, result)
        for place, result in group
        if result.summary and result.outcome == "ok"
    ]
    if not measured:
        return None
    rate, negative_place, result = max(measured, key=lambda one: one[:2])
    interval = result.summary.samples_per_second_interval if result.summary else None
    return Best(
        workload=clean(result.case.model, 60),
        label=labels[result.case.case_id],
        place=-negative_place,
        rate=rate_text(rate, interval),
        interval=None if interval is None else plus_minus(interval),
        num_cases=len(group),
    )


def _meters(summary: CaseSummary | None) -> tuple[Meter, ...]:
    meters = []
    if summary and summary.mfu is not None and summary.mfu_peak_tflops is not None:
        peak = f"{significant(summary.mfu_peak_tflops)} TFLOP/s, dense {summary.mfu_peak_precision or ''}"
        label = f"of the vendor's peak ({clean(peak)})"
        meters.append(Meter(label, "of the vendor's peak", summary.mfu, percent(100 * summary.mfu)))
    if summary and summary.ceiling_fraction is not None and summary.ceiling_tflops is not None:
        label = f"of what matrix products reached here ({significant(summary.ceiling_tflops)} TFLOP/s)"
        share = summary.ceiling_fraction
        meters.append(Meter(label, "of reached here", share, percent(100 * share)))
    return tuple(meters)


def _no_ceiling(report: Report, winner: CaseResult) -> str:
    unknown = "How near it is to the ceiling is unknown"
    if winner.summary is None or winner.summary.achieved_tflops is None:
        return f"{unknown}: its FLOPs were not counted."
    if report.ceilings is None and report.hardware_profile is None:
        return (
            f"{unknown}: this run did not probe what the device reaches, and no hardware profile matches it. "
            "benchbox hw init measures one."
        )
    precision = winner.case.precision
    return f"{unknown}: neither a probe of this run nor a hardware profile has a rate in {precision}."


def _without_winner(report: Report) -> str:
    if any(result.summary for result in report.cases):
        return "No case of this report ended ok; the table has the figures of those that were not finished."
    return "No case of this report has a figure."


def _bottleneck(result: CaseResult) -> str:
    if result.diagnosis is not None:
        return bottleneck_sentence(result.diagnosis)
    phases = phase_times(result)
    if phases is None:
        return "What holds it back was not diagnosed in this report."
    share, name = max(zip(phase_shares(phases), (name for name, _, _ in PHASES), strict=True))
    largest = f"The largest phase of its step is {name} ({100 * share:.0f} %)"
    return f"{largest}; what holds it back was not diagnosed in this report."


def bottleneck_sentence(diagnosis: Diagnosis) -> str:
    """The verdict as ``benchbox diagnose`` words it, and what it means."""
    what = BOTTLENECKS.get(diagnosis.bottleneck)
    if what is None:
        return f"{verdict_text(diagnosis)}: what holds it back could not be told from what was measured."
    return f"Held back by {verdict_text(diagnosis)}: {what}."


def evidence_texts(diagnosis: Diagnosis) -> tuple[str, ...]:
    """The figures behind the verdict, in the words of ``benchbox diagnose``."""
    return tuple(clean(evidence_text(one)) for one in diagnosis.evidence)


def next_step(diagnosis: Diagnosis | None) -> str | None:
    """What to change, and what that should bring; ``None`` where nothing is suggested."""
    if diagnosis is None or diagnosis.next_step is None:
        return None
    return clean(step_text(diagnosis))


def _facts(report: Report, summary: CaseSummary | None) -> tuple[tuple[str, str], ...]:
    num_ok = sum(result.outcome == "ok" for result in report.cases)
    facts = [("cases ok", f"{num_ok} of {len(report.cases)}")]
    if summary is None:
        return tuple(facts)
    facts.append(("median step", duration(summary.step_time_p50_ns)))
    used = summary.peak_memory_allocated_bytes or summary.peak_memory_reserved_bytes
    if used is not None:
        facts.append(("peak memory", _of_total(used, report)))
    elif summary.peak_host_rss_bytes is not None:
        facts.append(("peak host memory", memory(summary.peak_host_rss_bytes)))
    if summary.power_w is not None:
        facts.append(("power", f"{significant(summary.power_w)} W"))
    if summary.joules_per_sample is not None:
        facts.append(("energy a sample", energy(summary.joules_per_sample)))
    return tuple(facts)


def _of_total(used: int, report: Report) -> str:
    totals = {device.memory_total_bytes for device in report.environment.devices}
    total = totals.pop() if len(totals) == 1 else None
    return memory(used) if total is None else f"{memory(used)} of {memory(total)}"
