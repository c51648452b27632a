"""Verdicts for people: under the terminal's table, in Markdown, as columns, and in full for one case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchbox.analyze.gathered import gather
from benchbox.analyze.roofline import Place, places, rates
from benchbox.report.markdown_table import pipe_table
from benchbox.report.text import clean, duration, escape_markdown, indented_json, memory, percent, significant
from benchbox.schema import (
    CaseResult,
    Ceilings,
    Diagnosis,
    Evidence,
    Interval,
    Report,
    Suggestion,
    Trial,
)

CSV_COLUMNS = (
    "bottleneck",
    "bottleneck_sureness",
    "next_step",
    "suggested_axis",
    "suggested_value",
    "predicted_speedup_low",
    "predicted_speedup_high",
)
_MOST_EVIDENCE = 4


def csv_fields(result: CaseResult) -> dict[str, object]:
    """The verdict as columns; empty where there is none."""
    found = result.diagnosis
    if found is None:
        return {}
    suggestion = found.suggestion
    predicted = suggestion.predicted_speedup if suggestion else None
    values = (
        found.bottleneck,
        found.sureness,
        found.next_step,
        suggestion.axis if suggestion else None,
        suggestion.value if suggestion else None,
        predicted.low if predicted else None,
        predicted.high if predicted else None,
    )
    return dict(zip(CSV_COLUMNS, values, strict=True))


def verdict_lines(report: Report, labels: Mapping[str, str]) -> list[str]:
    """One line a case that has a verdict: ``LABEL: optimizer (likely), 62 % …; next: …``."""
    lines = []
    for result in report.cases:
        found = result.diagnosis
        if found is None or (found.bottleneck == "unknown" and found.next_step is None):
            continue
        leading = f", {evidence_text(found.evidence[0])}" if found.evidence else ""
        step = f"; next: {step_text(found)}" if found.next_step else ""
        lines.append(f"{labels[result.case.case_id]}: {verdict_text(found)}{leading}{step}")
    return [clean(line, 400) for line in lines]


def markdown_section(report: Report, labels: Mapping[str, str]) -> list[str]:
    """Each case's verdict as a table, and what the machine reached. A case that shows nothing is left out."""
    rows = [
        [
            labels[result.case.case_id],
            verdict_text(found),
            "; ".join(evidence_text(one) for one in found.evidence[:_MOST_EVIDENCE]) or None,
            found.next_step,
            speedup_text(found.suggestion),
        ]
        for result in report.cases
        if (found := result.diagnosis) is not None and (found.evidence or result.outcome == "ok")
    ]
    if not rows:
        return []
    titles = ["case", "bottleneck", "because", "next step", "should bring"]
    lines = ["## What is in the way", "", *pipe_table(titles, rows, num_text_columns=5)]
    if (took := passes_line(report)) is not None:
        lines += ["", took]
    return [*lines, *(["", *_ceilings_table(report.ceilings)] if report.ceilings else [])]


def passes_line(report: Report) -> str | None:
    """What the passes behind the verdicts took, beside the steps that were measured.

    ``None`` where no attempt says.
    """
    attempts = [attempt for result in report.cases for attempt in result.attempts if attempt.ranks]
    known = [a for a in attempts if any(rank.evidence_passes_s is not None for rank in a.ranks)]
    measured_s = sum(max(sum(rank.step_time_ns) for rank in attempt.ranks) for attempt in attempts) / 1e9
    if not known or not measured_s:
        return None
    passes_s = sum(max(rank.evidence_passes_s or 0.0 for rank in attempt.ranks) for attempt in known)
    share = percent(100 * passes_s / measured_s)
    probes = f"; probes took {duration(1e9 * report.ceilings.probe_s)}" if report.ceilings else ""
    return (
        f"The passes behind these verdicts took {duration(1e9 * passes_s)}, {share} of the "
        f"{duration(1e9 * measured_s)} of measured steps{probes}."
    )


def roofline_section(report: Report, labels: Mapping[str, str]) -> list[str]:
    """Each operator class of each profiled step: its share, its place on the roofline, what it reached."""
    rows: list[list[str | None]] = []
    for result in report.cases:
        for place, time_ns, num_calls in class_places(report, result):
            rows.append(
                [
                    labels[result.case.case_id],
                    place.operator_class,
                    percent(100 * place.share),
                    duration(time_ns),
                    str(num_calls),
                    None if place.intensity is None else significant(place.intensity),
                    None if place.ridge is None else significant(place.ridge),
                    "by nothing here" if place.bound == "neither" else _bound_by(place),
                    None if place.reached is None else percent(100 * place.reached),
                ]
            )
    if not rows:
        return []
    titles = [
        "case",
        "operators",
        "share",
        "time",
        "calls",
        "FLOP/byte",
        "ridge",
        "bound by",
        "of that ceiling",
    ]
    return [
        "## Where a step's time goes",
        "",
        "One step under the profiler, in a pass of its own: shares are what to read. Bytes are the least",
        "that each operator must move; more than 100 % of a bandwidth is a cache at work.",
        "",
        *pipe_table(titles, rows, num_text_columns=2),
    ]


def class_places(report: Report, result: CaseResult) -> Sequence[tuple[Place, int, int]]:
    """The roofline places of a case, each with its time in ns and its calls; empty without a profile."""
    gathered = gather(result)
    if gathered is None or gathered.profile is None:
        return ()
    operators = {operator.operator_class: operator for operator in gathered.profile.operators}
    reachable = rates(result.case.precision, report.ceilings, report.hardware_profile)
    return [
        (place, operators[place.operator_class].time_ns, operators[place.operator_class].num_calls)
        for place in places(gathered.profile, reachable)
    ]


def full_text(report: Report, result: CaseResult, label: str) -> str:
    """All of one case's verdict as lines of plain text."""
    found = result.diagnosis
    if found is None:
        return clean(f"{label}: no verdict")
    lines = [f"{label}: {verdict_text(found)}"]
    lines += [f"  {evidence_text(one)}" for one in found.evidence]
    if found.next_step:
        lines.append(f"  next: {step_text(found)}")
    lines += [f"  · {line}" for line in class_lines(report, result)]
    return "\n".join(
        clean(line, 400) if not line.startswith(" ") else f"  {clean(line, 400)}" for line in lines
    )


def class_lines(report: Report, result: CaseResult) -> list[str]:
    """``matmul: 15.0 %, 2.61 ms, bound by arithmetic, 44.1 % of its ceiling``, each class a line."""
    lines = []
    for place, time_ns, _ in class_places(report, result):
        reached = "" if place.reached is None else f", {percent(100 * place.reached)} of its ceiling"
        bound = "" if (by := _bound_by(place)) is None else f", bound by {by}"
        if place.bound == "neither":
            bound = ", no ceiling explains it"
        lines.append(
            f"{place.operator_class}: {percent(100 * place.share)}, {duration(time_ns)}{bound}{reached}"
        )
    return lines


def _bound_by(place: Place) -> str | None:
    """``None`` for collectives: the wire or a wait for another rank bounds them, no ceiling of this kind."""
    return None if place.operator_class == "communication" else place.bound


def trial_text(trial: Trial, label: str) -> str:
    """What trying the suggestion gave."""
    suggestion = trial.suggestion
    what = f"{label} with {suggestion.axis} = {_value(suggestion)}"
    if trial.speedup is None:
        rate = trial.suggested_samples_per_second
        figure = "no figure" if rate is None else f"{significant(rate)} samples/s"
        return clean(f"{what}: {figure}, {trial.reason or 'nothing was measured'}", 400)
    measured = f"{significant(trial.speedup)} times the rate"
    if trial.speedup_interval is not None:
        measured += f" ({_times(trial.speedup_interval)}, {trial.num_pairs} pairs)"
    predicted = "nothing was predicted"
    if suggestion.predicted_speedup is not None:
        verdict = {
            True: "as predicted",
            False: "not as predicted",
            None: "too noisy to say whether as predicted",
        }[trial.as_predicted]
        predicted = f"{verdict}: {_times(suggestion.predicted_speedup)}"
    return clean(f"{what}: {measured}; {predicted}", 400)


def as_json(results: Sequence[CaseResult], trial: Trial | None) -> str:
    """``{"cases": [{"case_id", "diagnosis"}], "trial"}``; ``trial`` is null where nothing was tried."""
    cases = [{"case_id": r.case.case_id, "diagnosis": r.diagnosis} for r in results]
    return indented_json({"cases": cases, "trial": trial})


def evidence_text(evidence: Evidence) -> str:
    """``62.1 % of operator time is optimizer``, ``step …: 14.2 ms``."""
    value, unit = evidence.value, evidence.unit
    if unit == "%":
        shown = percent(value)
        return f"{shown} {evidence.what}" if evidence.what.startswith("of ") else f"{evidence.what}: {shown}"
    by_unit = {"ns": duration, "bytes": memory}
    shown = by_unit[unit](value) if unit in by_unit else f"{significant(value)} {unit}".strip()
    return f"{evidence.what}: {shown}"


def speedup_text(suggestion: Suggestion | None) -> str | None:
    """``1.3 to 1.9 times the rate``."""
    if suggestion is None or suggestion.predicted_speedup is None:
        return None
    return f"{_times(suggestion.predicted_speedup)} the rate"


def _times(interval: Interval) -> str:
    """``1.3 to 1.9 times``; of an interval that says next to nothing no more than that."""
    low = "under 0.01" if interval.low < 0.01 else significant(interval.low)
    high = "over 999" if interval.high > 999 else significant(interval.high)
    return f"{low} to {high} times"


def verdict_text(found: Diagnosis) -> str:
    """``optimizer (likely)``."""
    return f"{found.bottleneck} ({found.sureness})"


def step_text(found: Diagnosis) -> str:
    """The next step, which there must be, with what it should bring."""
    promised = speedup_text(found.suggestion)
    return f"{found.next_step} ({promised})" if promised else str(found.next_step)


def _value(suggestion: Suggestion) -> str:
    value = suggestion.value
    return str(value).lower() if isinstance(value, bool) else str(value)


def _ceilings_table(ceilings: Ceilings) -> list[str]:
    rows: list[list[str | None]] = [
        [
            one.precision,
            None if one.matmul_tflops is None else significant(one.matmul_tflops),
            None if one.convolution_tflops is None else significant(one.convolution_tflops),
        ]
        for one in ceilings.precisions
    ]
    copies = [
        f"{name} {significant(rate / 1e9)} GB/s"
        for name, rate in (
            ("device copy", ceilings.device_copy_bytes_per_s),
            ("host to device", ceilings.host_to_device_bytes_per_s),
        )
        if rate is not None
    ]
    copies += [
        f"all-reduce of {one.world_size} {significant(one.bytes_per_s / 1e9)} GB/s"
        for one in ceilings.all_reduce
    ]
    lines = ["What probes reached on this machine at the start of the run:", ""]
    lines += pipe_table(["precision", "matrix product, TFLOP/s", "convolution, TFLOP/s"], rows)
    return [*lines, "", escape_markdown("; ".join(copies))] if copies else lines
