"""The course of cases in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from benchbox.analyze.history import LEAST_REPORTS
from benchbox.report.sparkline import sparkline
from benchbox.report.text import case_labels, clean, significant
from benchbox.schema.history import CaseHistory, FirstFailure, History, LeftOut

_LEVEL = "▄"
SPARK_WIDTH = 40
TOO_FEW = "A change of level cannot be told from fewer than four reports"


def history_view(history: History) -> RenderableType:
    """A line a case: first and last throughput, its course, and the reports at which the level changed."""
    labels = case_labels(
        [*(case.case for case in history.cases), *(never.case for never in history.never_ok)]
    )
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("case", overflow="fold")
    table.add_column("reports", justify="right")
    table.add_column("samples/s", justify="right")
    table.add_column("course", no_wrap=True)
    for case in history.cases:
        rates = [point.samples_per_second for point in case.points]
        table.add_row(
            Text(labels[case.case.case_id]),
            str(len(rates)),
            f"{significant(rates[0])} -> {significant(rates[-1])}",
            course(rates),
        )
    lines: list[RenderableType] = [table]
    for case in history.cases:
        lines += [
            Text(
                f"{labels[case.case.case_id]}: {change_text(case, place)}",
                style="red" if case.changes[place].ratio < 1 else "green",
            )
            for place in range(len(case.changes))
        ]
        if case.no_longer_ok is not None:
            lines.append(Text(f"{labels[case.case.case_id]}: {failure_text(case.no_longer_ok)}", style="red"))
    lines += [
        Text(f"{labels[never.case.case_id]}: {never_ok_text(never.first)}", style="red")
        for never in history.never_ok
    ]
    lines += _no_change(history.cases)
    lines += [Text(clean(line), style="yellow") for line in _left_out(history.left_out)]
    return Group(*lines)


def _no_change(cases: Sequence[CaseHistory]) -> list[Text]:
    """That no level changed, if more than nothing is known of it, and which courses are too short to tell."""
    told = [case for case in cases if len(case.points) >= LEAST_REPORTS]
    lines = [] if not told or any(case.changes for case in told) else [Text("no level changed", style="bold")]
    if len(told) < len(cases):
        which = f" ({len(cases) - len(told)} of {len(cases)} cases)" if told else ""
        lines.append(Text(f"{TOO_FEW[0].lower()}{TOO_FEW[1:]}{which}", style="yellow"))
    return lines


def _left_out(reports: Sequence[LeftOut]) -> Iterator[str]:
    """A line for each set of fields: a year on another driver is one."""
    by_fields: dict[tuple[str, ...], list[str]] = {}
    for left in reports:
        by_fields.setdefault(left.fields, []).append(left.report)
    for fields, names in by_fields.items():
        which = names[0] if len(names) == 1 else f"{len(names)} reports, {names[0]} to {names[-1]}"
        yield f"left out: {which}: not as the newest one in {', '.join(fields)}"


def change_text(case: CaseHistory, place: int) -> str:
    """``-4.8 % from runs/17/report.json on (2026-01-05T…)``."""
    change = case.changes[place]
    return clean(f"{100 * (change.ratio - 1):+.1f} % from {change.report} on ({change.created_at})")


def failure_text(failure: FirstFailure) -> str:
    """``oom from runs/17/report.json on (2026-01-05T…), so its course ends before``."""
    return clean(
        f"{failure.outcome} from {failure.report} on ({failure.created_at}), so its course ends before"
    )


def never_ok_text(failure: FirstFailure) -> str:
    """``never ended ok: oom from runs/1/report.json on (2026-01-05T…)``."""
    return clean(f"never ended ok: {failure.outcome} from {failure.report} on ({failure.created_at})")


def course(values: Sequence[float]) -> str:
    """``values`` in at most 40 bars; each stands for the middle one of equally many."""
    if len(values) > SPARK_WIDTH:
        edges = [round(i * len(values) / SPARK_WIDTH) for i in range(SPARK_WIDTH + 1)]
        values = [sorted(values[a:b])[(b - a) // 2] for a, b in pairwise(edges)]
    low, high = min(values), max(values)
    if high - low < 0.005 * high:  # noise of half a percent is no course
        return _LEVEL * len(values)
    return sparkline(values, bottom=low)
