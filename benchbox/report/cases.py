"""The cases of a suite, before any is run."""

from __future__ import annotations

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from benchbox.report.text import case_labels
from benchbox.schema import Suite


def case_table(suite: Suite) -> Group:
    """One row a case with its id, which stays the same wherever in the suite it stands."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("case_id", no_wrap=True)
    table.add_column("data", no_wrap=True)
    table.add_column("global\nbatch", justify="right")
    table.add_column("case", overflow="fold")
    labels = case_labels(suite.cases)
    for case in suite.cases:
        table.add_row(case.case_id, case.data, str(case.global_batch_size), Text(labels[case.case_id]))
    measure = suite.measure
    cases, times = _count(len(suite.cases), "case"), _count(measure.repetitions, "repetition")
    return Group(table, Text(f"{cases}, {times} each, at most {measure.max_seconds:g} s long"))


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
