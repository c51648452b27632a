"""All that a page says of one case."""

from __future__ import annotations

from typing import NamedTuple

from benchbox.analyze.ranks import longest_steps
from benchbox.report import sentences
from benchbox.report.diagnosis import class_lines
from benchbox.report.facts import loss_check, outcome_word, phase_times, stop_reasons, warmup_ends
from benchbox.report.figures import interval_text
from benchbox.report.html import shapes
from benchbox.report.html.answer import bottleneck_sentence, evidence_texts, next_step
from benchbox.report.plots.memory import (
    MEASURED,
    estimated_parts,
    fields_of,
    foretold_text,
    measured_bytes,
    stack,
)
from benchbox.report.plots.roofline import known_roofs, step_point
from benchbox.report.text import UNKNOWN, clean, duration, ends_text, memory, percent, rate_text, significant
from benchbox.schema import CaseResult, CaseSummary, Report

MAX_STDERR_LINES = 20


class MemoryView(NamedTuple):
    """Estimated parts as boxes up to the estimated peak, measured peaks as marks, both as rows."""

    boxes: tuple[shapes.Box, ...]
    interval: shapes.Box | None
    """Of the estimated peak, which is where the boxes end."""
    marks: tuple[shapes.Box, ...]
    rows: tuple[tuple[str, str, str], ...]
    """What, estimated, measured."""


class Detail(NamedTuple):
    """One case. Texts are cleaned, not escaped."""

    label: str
    outcome: str
    reason: str | None
    rate: str | None
    facts: tuple[tuple[str, str], ...]
    bottleneck: str | None
    evidence: tuple[str, ...]
    next_step: str | None
    hints: tuple[str, ...]
    histogram: shapes.Histogram | None
    telemetry: shapes.Telemetry | None
    phases: tuple[list[shapes.Box], list[shapes.PhaseRow]] | None
    memory: MemoryView | None
    roofline: shapes.RooflineDot | None
    operators: tuple[str, ...]
    """Where a profiled step's time goes, a line for each class of operators."""
    stderr: str | None


def detail(report: Report, result: CaseResult, label: str, max_points: int) -> Detail:
    """A telemetry strip has at most ``max_points``."""
    summary, diagnosis, timed = result.summary, result.diagnosis, phase_times(result)
    point = step_point(result, label)
    return Detail(
        label=label,
        outcome=outcome_word(result),
        reason=None if result.outcome == "ok" else sentences.reason_text(result),
        rate=_rate(summary),
        facts=tuple(_facts(result)),
        bottleneck=bottleneck_sentence(diagnosis) if diagnosis else None,
        evidence=evidence_texts(diagnosis) if diagnosis else (),
        next_step=next_step(diagnosis),
        hints=tuple(clean(hint) for hint in result.hints),
        histogram=_histogram(result),
        telemetry=shapes.telemetry(result, max_points) if summary else None,
        phases=shapes.phase_boxes(timed) if timed else None,
        memory=_memory(result, report.environment.device),
        roofline=shapes.roofline_dot(point, known_roofs(report, [result])) if point else None,
        operators=tuple(map(clean, class_lines(report, result))),
        stderr=_stderr(result),
    )


def _rate(summary: CaseSummary | None) -> str | None:
    if summary is None:
        return None
    interval = interval_text(summary)
    rate = f"{rate_text(summary.samples_per_second, summary.samples_per_second_interval)} samples/s"
    return rate if interval is None else f"{rate} {interval}"


def _facts(result: CaseResult) -> list[tuple[str, str]]:
    facts = [
        ("case id", clean(result.case.case_id, 40)),
        ("global batch", f"{result.case.global_batch_size:,}"),
    ]
    if result.summary is not None:
        facts += _summary_facts(result, result.summary)
    check = loss_check(result)
    if check is not None:
        agrees = {True: "agrees with fp32", False: "does not agree with fp32", None: "unknown"}
        facts.append(("loss", agrees[check.agrees_with_fp32]))
    return facts


def _summary_facts(result: CaseResult, summary: CaseSummary) -> list[tuple[str, str]]:
    attempts = "1 attempt" if summary.num_attempts == 1 else f"{summary.num_attempts} attempts"
    steps = f"{summary.num_measured_steps:,} in {attempts}"
    facts = [("measured steps", steps)]
    ends = ends_text(summary.samples_per_second, summary.samples_per_second_interval)
    if ends is not None:
        facts.append(("95 % interval", f"{ends} samples/s"))
    warmup, stop = ", ".join(warmup_ends(result.attempts)), ", ".join(stop_reasons(result.attempts))
    facts += [("warm-up ended", warmup)] if warmup else []
    facts += [("measuring stopped", stop)] if stop else []
    if summary.achieved_tflops is not None:
        facts.append(("model TFLOP/s of a device", significant(summary.achieved_tflops)))
    if summary.cpu_user_pct is not None and summary.cpu_kernel_pct is not None:
        used = f"{summary.cpu_user_pct:.0f} % user, {summary.cpu_kernel_pct:.0f} % kernel"
        facts.append(("worker's processor time", used))
    if summary.rank_spread_pct is not None:
        facts.append(("ranks apart", percent(summary.rank_spread_pct)))
    if summary.straggler_ranks:
        facts.append(("stragglers", f"rank {', '.join(map(str, summary.straggler_ranks))}"))
    if summary.overhead_s is not None:
        facts.append(("overhead of an attempt", duration(summary.overhead_s * 1e9)))
    return facts


def _histogram(result: CaseResult) -> shapes.Histogram | None:
    if result.summary is None:
        return None
    measured = [attempt for attempt in result.attempts if attempt.outcome == "ok" and attempt.ranks]
    times = [time_ns for attempt in measured for time_ns in longest_steps(attempt).step_time_ns]
    return shapes.histogram(times, result.summary.step_time_p50_ns, result.summary.step_time_p95_ns)


def _memory(result: CaseResult, device: str) -> MemoryView | None:
    estimate, measured = result.memory_estimate, measured_bytes(result, device)
    if estimate is None and not measured:
        return None
    peak = estimate.peak_device_interval_bytes if estimate else None
    whole = max(
        [estimate.peak_device_bytes if estimate else 0, peak.high if peak else 0, *measured.values(), 1]
    )
    scale, x, boxes, rows = shapes.WIDTH / (1.04 * whole), 0.0, [], []
    for name, size in stack(estimate).segments if estimate else ():
        boxes.append(shapes.Box(x, size * scale, name.replace(" ", "-")))
        x += size * scale
    if estimate is not None:
        rows += [(name, size, UNKNOWN) for name, size in estimated_parts(estimate)]
    marks = []
    for name, field, _, _ in MEASURED:
        if field in fields_of(device) and (estimate is not None or field in measured):
            seen = measured.get(field)
            marks += [] if seen is None else [shapes.Box(seen * scale, 0, name)]
            foretold = UNKNOWN if estimate is None else foretold_text(estimate, field)
            rows.append((name, foretold, UNKNOWN if seen is None else memory(seen)))
    interval = shapes.Box(peak.low * scale, (peak.high - peak.low) * scale) if peak else None
    return MemoryView(tuple(boxes), interval, tuple(marks), tuple(rows))


def _stderr(result: CaseResult) -> str | None:
    tail = next((attempt.stderr_tail for attempt in result.attempts if attempt.stderr_tail), None)
    if not tail:
        return None
    lines = tail.splitlines()[-MAX_STDERR_LINES:]
    return "\n".join(" " * min(len(line) - len(line.lstrip(" ")), 40) + clean(line, 200) for line in lines)
