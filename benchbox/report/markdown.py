"""A report as Markdown: the summary that stands beside ``report.json``. No data becomes markup."""

from __future__ import annotations

from benchbox.report import diagnosis, figures, sentences
from benchbox.report.environment_rows import environment_rows
from benchbox.report.estimates import comparison_section
from benchbox.report.facts import (
    first_and_last_loss,
    flop_counts,
    loss_check,
    major_page_faults,
    outcome_word,
    phase_times,
    seconds_until_ready,
    stop_reasons,
    warmup_ends,
)
from benchbox.report.hints import report_hints
from benchbox.report.markdown_table import pipe_table
from benchbox.report.plots.phases import PHASES, phase_cells
from benchbox.report.ranks import rank_sections
from benchbox.report.text import (
    UNKNOWN,
    case_labels,
    clean,
    ends_text,
    escape_markdown,
    memory,
    significant,
)
from benchbox.schema import CaseResult, LossCheck, Report

MAX_STDERR_LINES = 20


def render_markdown(report: Report) -> str:
    """The whole summary, ending in a line feed."""
    labels = case_labels([result.case for result in report.cases])
    sections = [
        _opening(report),
        _hints(report, labels),
        _results(report, labels),
        diagnosis.markdown_section(report, labels),
        _failures(report, labels),
        *rank_sections(report, labels),
        _phases(report, labels),
        comparison_section(report),
        diagnosis.roofline_section(report, labels),
        _arithmetic(report, labels),
        _losses(report, labels),
        _procedure(report, labels),
        _environment(report),
    ]
    return "\n".join(line for section in sections if section for line in (*section, ""))


def _opening(report: Report) -> list[str]:
    repetitions = report.suite.measure.repetitions
    times = "repetition" if repetitions == 1 else "repetitions"
    version = escape_markdown(report.benchbox_version)
    measured = f"Measured {escape_markdown(report.created_at)} with benchbox {version}"
    return [
        f"# {escape_markdown(sentences.heading(report))}",
        "",
        f"{measured}, {repetitions} {times} of each case, each in a process of its own.",
    ]


def _hints(report: Report, labels: dict[str, str]) -> list[str]:
    hints = [*report_hints(report), *sentences.case_hints(report, labels)]
    return (
        ["## Before you trust a figure", "", *(f"* {escape_markdown(hint)}" for hint in hints)]
        if hints
        else []
    )


def _results(report: Report, labels: dict[str, str]) -> list[str]:
    groups, unknown = figures.known_groups(report)
    columns = [figure for group in groups for figure in group]
    rows = []
    for result in report.cases:
        summary = result.summary
        rows.append(
            [
                labels[result.case.case_id],
                outcome_word(result),
                *(column.text(result) for column in columns),
                ends_text(summary.samples_per_second, summary.samples_per_second_interval)
                if summary
                else None,
            ]
        )
    titles = [column.title for column in columns]
    return [
        "## Results",
        "",
        *pipe_table(["case", "outcome", *titles, "95 % interval"], rows, num_text_columns=2),
        *(line for note in sentences.table_notes(report, unknown) for line in ("", escape_markdown(note))),
    ]


def _failures(report: Report, labels: dict[str, str]) -> list[str]:
    failed = sentences.failed_cases(report)
    if not failed:
        return []
    lines = ["## Cases that are not ok", ""]
    for result in failed:
        label = escape_markdown(labels[result.case.case_id])
        lines.append(
            f"* **{outcome_word(result)}**, {label}: {escape_markdown(sentences.reason_text(result))}"
        )
        tail = next((attempt.stderr_tail for attempt in result.attempts if attempt.stderr_tail), None)
        if tail:
            # An indented block cannot be left by anything that stands in it, as a fence can.
            last_lines = [clean_line(line) for line in tail.splitlines()[-MAX_STDERR_LINES:]]
            lines += ["", *(f"      {line}" for line in last_lines), ""]
    return lines if lines[-1] else lines[:-1]


def clean_line(line: str) -> str:
    """A line of program output, with its indentation."""
    indent = len(line) - len(line.lstrip(" "))
    return " " * min(indent, 40) + clean(line, 200)


def _phases(report: Report, labels: dict[str, str]) -> list[str]:
    rows = []
    for result in report.cases:
        phases = phase_times(result)
        if phases is not None:
            cells = phase_cells(phases) if phases.whole_ns else [UNKNOWN] * len(PHASES)
            rows.append([labels[result.case.case_id], *cells])
    if not rows:
        return []
    return [
        "## Phases of a step",
        "",
        "Medians of a pass of their own, and their share of its step. Phases that else overlap add up",
        "to more than a measured step.",
        "",
        *pipe_table(["case", *(name for name, _, _ in PHASES)], rows),
    ]


def _arithmetic(report: Report, labels: dict[str, str]) -> list[str]:
    rows: list[list[str | None]] = []
    for result in report.cases:
        flops, summary = flop_counts(result), result.summary
        if flops is not None:
            rows.append(
                [
                    labels[result.case.case_id],
                    f"{flops.num_parameters:,}",
                    significant(flops.model_flops_per_step / 1e9, 4),
                    significant(flops.hardware_flops_per_step / 1e9, 4),
                    None
                    if summary is None or summary.achieved_tflops is None
                    else significant(summary.achieved_tflops),
                ]
            )
    if not rows:
        return []
    titles = ["case", "parameters", "model GFLOP", "with recomputation", "model TFLOP/s"]
    return [
        "## Arithmetic of a step",
        "",
        "Counted exactly, for one device. Rates and MFU rest on the model's own, without what gradient",
        "checkpointing computes again.",
        "",
        *pipe_table(titles, rows),
    ]


def _losses(report: Report, labels: dict[str, str]) -> list[str]:
    rows = []
    for result in report.cases:
        check = loss_check(result)
        if check is not None:
            verdict = {True: "agrees", False: "does not agree", None: "unknown"}[check.agrees_with_fp32]
            rows.append(
                [
                    labels[result.case.case_id],
                    verdict,
                    check.reason,
                    check.digest,
                    _trajectory(check),
                    _furthest(check),
                    f"{100 * check.tolerance_rel:g} %",
                    _while_measured(result),
                ]
            )
    if not rows:
        return []
    titles = ["case", "verdict", "reason", "digest", "losses", "furthest apart", "allowed", "while measured"]
    return [
        "## Losses against fp32",
        "",
        "A fresh seeded model, dropout off, against plain fp32 on the same batches. The last column is the",
        "run that was measured, from its first warm-up step to its last measured one. Equal digests stand",
        "for losses that are equal to five digits.",
        "",
        *pipe_table(titles, rows, num_text_columns=4),
    ]


def _trajectory(check: LossCheck) -> str:
    return " ".join("NaN" if loss is None else significant(loss, 5) for loss in check.losses[:8])


def _while_measured(result: CaseResult) -> str | None:
    """Of the first attempt."""
    first, last = first_and_last_loss(result)
    return None if first is None or last is None else f"{significant(first, 4)} to {significant(last, 4)}"


def _furthest(check: LossCheck) -> str | None:
    pairs = zip(check.losses, check.reference_losses or (), strict=False)
    apart = [abs(loss - other) / abs(other) for loss, other in pairs if loss is not None and other]
    return f"{100 * max(apart):.2g} %" if apart else None


def _procedure(report: Report, labels: dict[str, str]) -> list[str]:
    rows = [[labels[result.case.case_id], *_how(result)] for result in report.cases if result.summary]
    cost = sentences.telemetry_cost_line(report.telemetry_cost, report.suite.measure, labels)
    lines = ["## How it was measured", ""]
    if rows:
        titles = [
            "case",
            "warm-up ended",
            "measuring stopped",
            "attempts",
            "steps",
            "warm-up steps",
            "overhead",
            "of it until ready",
            "major page faults",
        ]
        lines += [*pipe_table(titles, rows, num_text_columns=3), ""]
    lines.append(escape_markdown(cost))
    if report.controller_peak_rss_bytes is not None:
        lines += ["", f"The controller took {memory(report.controller_peak_rss_bytes)} at its peak."]
    return lines


def _how(result: CaseResult) -> list[str | None]:
    summary = result.summary
    assert summary is not None
    warmup_steps = [len(rank.warmup_step_time_ns) for a in result.attempts for rank in a.ranks]
    faults = major_page_faults(result.attempts)
    fewest, most = min(warmup_steps, default=0), max(warmup_steps, default=0)
    return [
        ", ".join(warmup_ends(result.attempts)) or None,
        ", ".join(stop_reasons(result.attempts)) or None,
        str(summary.num_attempts),
        f"{summary.num_measured_steps:,}",
        f"{fewest}" if fewest == most else f"{fewest} to {most}",
        _seconds(summary.overhead_s),
        _seconds(seconds_until_ready(result.attempts)),
        None if faults is None else f"{faults:,}",
    ]


def _seconds(value: float | None) -> str | None:
    return None if value is None else f"{significant(value)} s"


def _environment(report: Report) -> list[str]:
    return [
        "## Environment",
        "",
        *pipe_table(["what", "value"], environment_rows(report), num_text_columns=2),
    ]
