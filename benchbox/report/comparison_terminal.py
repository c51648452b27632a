"""A comparison as a table in the terminal."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from benchbox.analyze.matching import REPORTS_DIFFER
from benchbox.report import comparison_text as words
from benchbox.report.text import UNKNOWN, clean
from benchbox.schema.comparison import BETTER, WORSE, CaseComparison, Comparison, MetricComparison, Verdict

MAX_ROWS = 200
"""A table of ten thousand lines is not read, and takes longer than the comparison."""


def comparison_view(comparison: Comparison) -> RenderableType:
    """What to print. Data never becomes markup."""
    labels = words.labels_of(comparison)
    ordered = words.worst_first(comparison.cases)
    parts: list[RenderableType] = [Text(words.heading(comparison), style="bold")]
    if ordered:
        parts.append(_table(ordered[:MAX_ROWS], labels))
    if len(ordered) > MAX_ROWS:
        parts.append(Text(f"and {len(ordered) - MAX_ROWS} more; --format csv shows them all", style="dim"))
    parts += [
        _reason(case, labels[case.case.case_id]) for case in ordered[:MAX_ROWS] if _has_own_reason(case)
    ]
    parts += [
        Text.assemble(("more", _style("more")), f"  {labels[c.case.case_id]}: {words.regression_sentence(c)}")
        for c in ordered[:MAX_ROWS]
        if words.is_worse_elsewhere(c)
    ]
    parts += [Text(f"inconclusive  {line}", style="yellow") for line in words.not_compared(comparison)]
    for cases, word in ((comparison.added, "added"), (comparison.missing, "missing")):
        parts += [Text(f"{word}  {labels[case.case_id]}", style="yellow") for case in cases[:MAX_ROWS]]
    parts += _differences(comparison)
    parts.append(Text(words.counts_sentence(comparison), style="bold"))
    parts.append(Text(words.rule_sentence(comparison), style="dim"))
    return Group(*parts)


def _table(cases: list[CaseComparison], labels: dict[str, str]) -> Table:
    extra = words.other_metrics(cases)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("case", overflow="fold")
    table.add_column("samples/s", justify="right", overflow="fold")
    table.add_column("ratio", justify="right", no_wrap=True)
    table.add_column("interval", justify="right", overflow="fold")
    for metric in extra:
        table.add_column(words.METRIC_NAMES[metric], justify="right", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    for case in cases:
        figures = {metric.metric: metric for metric in case.metrics}
        rate = figures.get("samples_per_second")
        row = [UNKNOWN] * 3
        if rate is not None:
            both = (words.value_text(rate.metric, value) for value in (rate.base, rate.new))
            row = [" -> ".join(both), words.ratio_text(rate), words.interval_text(rate)]
        cells = [Text(cell) for cell in row]
        cells += [_change(figures.get(metric)) for metric in extra]
        table.add_row(Text(labels[case.case.case_id]), *cells, Text(case.verdict, style=_style(case.verdict)))
    return table


def _change(metric: MetricComparison | None) -> Text:
    if metric is None:
        return Text(UNKNOWN)
    return Text(words.change_text(metric), style=_style(metric.verdict))


def _style(verdict: Verdict) -> str:
    if verdict in WORSE:
        return "bold red"
    return "green" if verdict in BETTER else "" if verdict == "same" else "yellow"


def _has_own_reason(case: CaseComparison) -> bool:
    """Not where the whole reports differ: that is said once."""
    if case.verdict == "not-comparable":
        return not (case.reason or "").startswith(REPORTS_DIFFER)
    return case.verdict in ("regression", "improvement", "inconclusive")


def _reason(case: CaseComparison, label: str) -> Text:
    return Text.assemble((case.verdict, _style(case.verdict)), f"  {label}: {clean(case.reason or '')}")


def _differences(comparison: Comparison) -> list[RenderableType]:
    forbidding = words.forbidding(comparison)
    lines: list[RenderableType] = [
        Text.assemble(("differs  ", "bold red"), words.difference_text(difference))
        for difference in forbidding
    ]
    if forbidding:
        lines.append(Text(f"not comparable, unless that is the point: {words.way_out(comparison)}"))
    lines += [Text(f"across  {words.difference_text(d)}", style="cyan") for d in words.lifted(comparison)]
    told = [words.difference_text(d) for d in words.only_told(comparison)]
    if told:
        lines.append(Text(f"also differs: {'; '.join(told)}", style="dim"))
    return lines
