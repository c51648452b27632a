"""Comparisons on a page: in lines where the reports stand there too, else with a table of their own."""

from __future__ import annotations

from typing import NamedTuple

from benchbox.report import comparison_text as words
from benchbox.report.html.side_by_side import Mark, changed_figures, mark
from benchbox.report.plots.plot import listing
from benchbox.report.text import UNKNOWN, clean
from benchbox.schema.comparison import CaseComparison, Comparison


class Verdicts(NamedTuple):
    """One comparison in a sentence, and what the reports differ in."""

    heading: str
    sentence: str
    notes: tuple[str, ...]


class ComparedRow(NamedTuple):
    """One case. The ratio is of throughput."""

    label: str
    verdict: Mark
    base: str
    new: str
    ratio: str
    interval: str
    others: tuple[Mark, ...]
    reason: str


class ComparisonView(NamedTuple):
    """All of a comparison, what became worse first."""

    verdicts: Verdicts
    rows: tuple[ComparedRow, ...]


def verdicts(comparison: Comparison) -> Verdicts:
    """In the words that ``benchbox compare`` uses."""
    forbidden = words.way_out(comparison)
    notes = tuple(map(clean, words.difference_notes(comparison)))
    sentence = words.counts_sentence(comparison)
    if forbidden:
        sentence += f". No verdict, unless that is the point: benchbox compare {forbidden}"
    return Verdicts(words.heading(comparison), f"{sentence}.", notes)


def comparison_view(comparison: Comparison) -> ComparisonView:
    """A row a case, and the names of the cases that only one report has."""
    labels = words.labels_of(comparison)
    found = verdicts(comparison)
    lone = [
        f"{word}: {listing([labels[case.case_id] for case in cases], 12)}"
        for word, cases in (("added", comparison.added), ("missing", comparison.missing))
        if cases
    ]
    rows = tuple(_row(case, labels[case.case.case_id]) for case in words.worst_first(comparison.cases))
    notes = (*lone, *found.notes, words.rule_sentence(comparison))
    return ComparisonView(found._replace(notes=notes), rows)


def _row(case: CaseComparison, label: str) -> ComparedRow:
    rate = next((metric for metric in case.metrics if metric.metric == "samples_per_second"), None)
    return ComparedRow(
        label=label,
        verdict=mark(case.verdict),
        base=UNKNOWN if rate is None else words.value_text(rate.metric, rate.base),
        new=UNKNOWN if rate is None else words.value_text(rate.metric, rate.new),
        ratio=UNKNOWN if rate is None else words.ratio_text(rate),
        interval=UNKNOWN if rate is None else words.interval_text(rate),
        others=changed_figures(case.metrics),
        reason=clean(case.reason or ""),
    )
