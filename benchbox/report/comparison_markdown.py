"""A comparison as Markdown, and for GitHub Actions as a step's summary with annotations."""

from __future__ import annotations

from collections.abc import Sequence

from benchbox.report import comparison_text as words
from benchbox.report.markdown_table import pipe_table
from benchbox.report.text import UNKNOWN, clean, escape_markdown
from benchbox.schema.comparison import CaseComparison, Comparison

MAX_ROWS = 1000
MAX_SUMMARY_BYTES = 1 << 20
"""Of what one step adds to GitHub's summary."""
MAX_ANNOTATIONS = 10
"""GitHub shows ten errors and ten warnings a step."""


def render_comparison_markdown(comparison: Comparison, max_rows: int = MAX_ROWS) -> str:
    """The whole comparison, but for cases beyond ``max_rows``; what became worse stands first."""
    labels = words.labels_of(comparison)
    ordered = words.worst_first(comparison.cases)
    lines = [f"## {escape_markdown(words.heading(comparison))}", ""]
    lines += [escape_markdown(words.counts_sentence(comparison)), ""]
    if ordered:
        lines += [*_table(ordered[:max_rows], labels), ""]
    if len(ordered) > max_rows:
        lines += [f"{len(ordered) - max_rows} more cases are left out.", ""]
    reasons = [case for case in ordered[:max_rows] if case.reason]
    notes = [f"{case.verdict}: {labels[case.case.case_id]}: {clean(case.reason or '')}" for case in reasons]
    notes += [
        f"{labels[case.case.case_id]}: {words.regression_sentence(case)}"
        for case in ordered[:max_rows]
        if words.is_worse_elsewhere(case)
    ]
    notes += [f"inconclusive: {line}" for line in words.not_compared(comparison)]
    notes += [f"added: {labels[case.case_id]}" for case in comparison.added[:max_rows]]
    notes += [f"missing: {labels[case.case_id]}" for case in comparison.missing[:max_rows]]
    notes += words.difference_notes(comparison)
    lines += [f"- {escape_markdown(note)}" for note in notes]
    if words.way_out(comparison):
        lines += [
            "",
            escape_markdown(f"Not comparable, unless that is the point: {words.way_out(comparison)}"),
        ]
    lines += ["", escape_markdown(words.rule_sentence(comparison)), ""]
    return "\n".join(lines)


def github_summary(comparisons: Sequence[Comparison]) -> str:
    """All comparisons, with as many cases of each as GitHub takes: of a larger summary it shows nothing."""
    max_rows = MAX_ROWS
    while True:
        text = "\n".join([render_comparison_markdown(comparison, max_rows) for comparison in comparisons])
        if len(text.encode()) <= MAX_SUMMARY_BYTES or max_rows == 1:
            return text
        max_rows //= 2


def github_annotations(comparison: Comparison) -> list[str]:
    """GitHub's workflow commands: an error for what became worse or cannot be compared, a warning for
    what cannot be told."""
    labels = words.labels_of(comparison)
    worse = [case for case in comparison.cases if case.is_worse()]
    lines = [
        _command("error", labels[case.case.case_id], words.regression_sentence(case))
        for case in worse[:MAX_ANNOTATIONS]
    ]
    if words.way_out(comparison):
        fields = "; ".join(words.difference_text(d) for d in words.forbidding(comparison))
        lines.append(_command("error", "not comparable", fields))
    if not comparison.cases:
        lines.append(_command("error", "not comparable", words.counts_sentence(comparison)))
    if comparison.cases and comparison.missing:
        told = ", ".join(labels[case.case_id] for case in comparison.missing)
        number = f"{len(comparison.missing)} of the base report's cases"
        lines.append(_command("warning", f"missing: {number}", f"not in the new report: {told}"))
    unclear = [case for case in comparison.cases if case.is_undecided() and not case.is_worse()]
    lines += [
        _command("warning", labels[case.case.case_id], words.undecided_sentence(case))
        for case in unclear[:MAX_ANNOTATIONS]
    ]
    return lines


def _command(kind: str, title: str, message: str) -> str:
    return f"::{kind} title={_escape_property(f'benchbox: {title}')}::{_escape(clean(message))}"


def _escape(text: str) -> str:
    """As the runner undoes it (actions/toolkit, ``command.ts``)."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape(clean(text)).replace(":", "%3A").replace(",", "%2C")


def _table(cases: Sequence[CaseComparison], labels: dict[str, str]) -> list[str]:
    extra = words.other_metrics(cases)
    titles = ["case", "verdict", "base samples/s", "new samples/s", "ratio", "interval"]
    rows = []
    for case in cases:
        figures = {metric.metric: metric for metric in case.metrics}
        rate = figures.get("samples_per_second")
        row: list[str | None] = [labels[case.case.case_id], case.verdict, None, None, None, None]
        if rate is not None:
            row[2:] = [
                words.value_text(rate.metric, rate.base),
                words.value_text(rate.metric, rate.new),
                words.ratio_text(rate),
                words.interval_text(rate),
            ]
        row += [words.change_text(figures[m]) if m in figures else UNKNOWN for m in extra]
        rows.append(row)
    return pipe_table([*titles, *(words.METRIC_NAMES[m] for m in extra)], rows, num_text_columns=2)
