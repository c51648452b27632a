"""Comparisons for machines: JSON, CSV and JUnit's XML."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

from benchbox.report import comparison_text as words
from benchbox.report.text import case_label, clean, csv_cell, indented_json
from benchbox.schema import SCHEMA_VERSION
from benchbox.schema.comparison import CaseComparison, Comparison

_COLUMNS = (
    "base",
    "new",
    "case_id",
    "case",
    "verdict",
    "base_outcome",
    "new_outcome",
    "metric",
    "metric_verdict",
    "base_value",
    "new_value",
    "ratio",
    "ratio_low",
    "ratio_high",
    "p_value",
    "num_base_attempts",
    "num_new_attempts",
    "reason",
)


def render_comparison_json(comparisons: Sequence[Comparison]) -> str:
    """``{"schema_version": …, "comparisons": [...]}``, one for each new report, fields as in the schema."""
    return indented_json({"schema_version": SCHEMA_VERSION, "comparisons": comparisons})


def render_comparison_csv(comparisons: Sequence[Comparison]) -> str:
    """A row for each case and figure; one without figures for a case that has none, is added or missing."""
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, fieldnames=_COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    for comparison in comparisons:
        labels = words.labels_of(comparison)
        rows = [row for case in comparison.cases for row in _rows(case)]
        rows += [{"case_id": case.case_id, "verdict": "added"} for case in comparison.added]
        rows += [{"case_id": case.case_id, "verdict": "missing"} for case in comparison.missing]
        for row in rows:
            row |= {"base": comparison.base.name, "new": comparison.new.name}
            row["case"] = labels[str(row["case_id"])]
            writer.writerow({name: csv_cell(value) for name, value in row.items()})
    return buffer.getvalue()


def _rows(case: CaseComparison) -> list[dict[str, object]]:
    common: dict[str, object] = {
        "case_id": case.case.case_id,
        "verdict": case.verdict,
        "base_outcome": case.base_outcome,
        "new_outcome": case.new_outcome,
        "reason": case.reason,
    }
    rows = []
    for metric in case.metrics:
        interval = metric.ratio_interval
        rows.append(
            common
            | {
                "metric": metric.metric,
                "metric_verdict": metric.verdict,
                "base_value": metric.base,
                "new_value": metric.new,
                "ratio": metric.ratio,
                "ratio_low": interval.low if interval else None,
                "ratio_high": interval.high if interval else None,
                "p_value": metric.p_value,
                "num_base_attempts": metric.num_base_attempts,
                "num_new_attempts": metric.num_new_attempts,
                "reason": metric.reason or case.reason,
            }
        )
    return rows or [common]


def render_comparison_junit(comparisons: Sequence[Comparison], *, strict: bool) -> str:
    """A suite for each new report, a test for each case: a failure for what became worse, skipped where
    nothing can be told (with ``strict`` an error). Without a case in common a lone error says so."""
    suites = [_suite(comparison, strict=strict) for comparison in comparisons]
    return "\n".join(['<?xml version="1.0" encoding="UTF-8"?>', "<testsuites>", *suites, "</testsuites>", ""])


def _suite(comparison: Comparison, *, strict: bool) -> str:
    labels = words.labels_of(comparison)
    tests = [
        _test(case, f"{case_label(case.case)} #{case.case.case_id}", strict=strict)
        for case in comparison.cases
    ]
    if not tests:
        tests = [("error", _element("cases", "error", words.counts_sentence(comparison)))]
    ends = [end for end, _ in tests]
    name = clean(f"benchbox compare: {comparison.new.name}")
    numbers = {"tests": len(tests)} | {f"{end}s": ends.count(end) for end in ("failure", "error")}
    numbers["skipped"] = ends.count("skipped")
    counts = " ".join(f'{word}="{number}"' for word, number in numbers.items())
    head = f"<testsuite name={quoteattr(name)} {counts}>"
    told = [f"differs: {words.difference_text(difference)}" for difference in comparison.differences]
    told += [f"missing: {labels[case.case_id]}" for case in comparison.missing]
    told += [f"added: {labels[case.case_id]}" for case in comparison.added]
    told.append(words.rule_sentence(comparison))
    out = f"<system-out>{escape(chr(10).join(map(clean, told)))}</system-out>"
    return "\n".join([head, *(text for _, text in tests), out, "</testsuite>"])


def _test(case: CaseComparison, name: str, *, strict: bool) -> tuple[str, str]:
    """How it ended, and its element."""
    if case.is_worse():
        return "failure", _element(name, "failure", words.regression_sentence(case))
    if case.verdict == "not-comparable":
        return "error", _element(name, "error", f"not-comparable: {case.reason or ''}")
    if case.verdict == "inconclusive" or (strict and case.is_undecided()):
        end = "error" if strict else "skipped"
        return end, _element(name, end, words.undecided_sentence(case))
    return "passed", f"{_opening(name)}/>"


def _element(name: str, end: str, message: str) -> str:
    return f"{_opening(name)}><{end} message={quoteattr(clean(message))}/></testcase>"


def _opening(name: str) -> str:
    return f'<testcase classname="benchbox.compare" name={quoteattr(clean(name))}'
