"""A report as a table in the terminal: stacked into 80 columns, one line a case where there is room."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from benchbox.report import diagnosis, figures, sentences
from benchbox.report.estimates import comparison_line
from benchbox.report.facts import outcome_word
from benchbox.report.figures import Figure
from benchbox.report.hints import report_hints
from benchbox.report.sparkline import telemetry_lines
from benchbox.report.text import UNKNOWN, case_labels
from benchbox.schema import CaseResult, Report

WIDE_LABEL = 28
"""Room for labels at which a case still gets one line; longer ones wrap."""
MIN_LABEL = 14
"""Room without which figures are put below each other, so that no case loses its name."""

_STYLES = {
    "ok": "green",
    "oom": "red",
    "unsupported": "yellow",
    "timeout": "red",
    "crashed": "bold red",
    "invalid": "bold red",
    "not finished": "dim",
}


def terminal_view(report: Report, width: int) -> RenderableType:
    """What to print into a terminal of ``width`` columns. Data never becomes markup."""
    labels = case_labels([case.case for case in report.cases])
    groups, unknown = figures.known_groups(report)
    notes = sentences.table_notes(report, unknown)
    memory_line = comparison_line(report)
    closing = (
        *(() if memory_line is None else (memory_line,)),
        sentences.telemetry_cost_line(report.telemetry_cost, report.suite.measure, labels),
        sentences.environment_line(report.environment),
    )
    blocks: list[list[RenderableType]] = [
        [Text(sentences.heading(report), style="bold")],
        [_table(report, groups, labels, width), *(Text(note, style="dim") for note in notes)],
        [Text.assemble(("verdict  ", "magenta"), line) for line in diagnosis.verdict_lines(report, labels)],
        [Text(line, style="dim") for line in telemetry_lines(report, width)],
        [_failure(case, labels[case.case.case_id]) for case in sentences.failed_cases(report)],
        [
            Text.assemble(("hint  ", "cyan"), hint)
            for hint in (*report_hints(report), *sentences.case_hints(report, labels))
        ],
        [Text(line, style="dim") for line in closing],
    ]
    return Group(*(part for block in blocks if block for part in (*block, Text(""))))


def _table(report: Report, groups: list[figures.Group], labels: dict[str, str], width: int) -> Table:
    one_line = [(figure,) for group in groups for figure in group]
    outcome_width = max((len(outcome_word(case)) for case in report.cases), default=0)
    label_width = max((cell_len(label) for label in labels.values()), default=0)

    def fits(columns: Sequence[Sequence[Figure]], label: int) -> bool:
        return _width(report, columns) + label + outcome_width + 2 <= width

    columns: Sequence[Sequence[Figure]] = one_line
    if not fits(one_line, min(label_width, WIDE_LABEL)):
        columns = groups
        while len(columns) > 1 and not fits(columns, MIN_LABEL):
            columns = _stacked(columns)
    num_lines = max(map(len, columns), default=1)
    table = Table(
        box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, leading=int(num_lines > 1)
    )
    table.add_column("case" + "\n" * (num_lines - 1), overflow="fold")
    for column in columns:
        titles = [figure.title for figure in column]
        # Headings fill as many lines as cells can have, so that each stands at its figures' height.
        titles += [""] * (num_lines - len(titles))
        table.add_column(Text("\n".join(titles)), justify="right", no_wrap=True)
    table.add_column("outcome" + "\n" * (num_lines - 1), no_wrap=True)
    for case in report.cases:
        word = outcome_word(case)
        table.add_row(
            Text(labels[case.case.case_id]),
            *(Text(_cell(case, column)) for column in columns),
            Text(word, style=_STYLES[word]),
        )
    return table


def _stacked(columns: Sequence[Sequence[Figure]]) -> list[Sequence[Figure]]:
    """One column fewer: the two neighbours that make the lowest stack stand below each other."""
    place = min(range(len(columns) - 1), key=lambda at: len(columns[at]) + len(columns[at + 1]))
    return [*columns[:place], (*columns[place], *columns[place + 1]), *columns[place + 2 :]]


def _cell(case: CaseResult, column: Sequence[Figure]) -> str:
    if case.summary is None:
        return UNKNOWN
    return "\n".join(figure.text(case) or UNKNOWN for figure in column)


def _width(report: Report, columns: Sequence[Sequence[Figure]]) -> int:
    """Of the figures' columns, with the gaps between them."""
    total = 0
    for column in columns:
        cells = [figure.title for figure in column]
        cells += [line for case in report.cases for line in _cell(case, column).split("\n")]
        total += max(map(cell_len, cells)) + 2
    return total


def _failure(case: CaseResult, label: str) -> Text:
    word = outcome_word(case)
    return Text.assemble((word, _STYLES[word]), f"  {label}: {sentences.reason_text(case)}")
