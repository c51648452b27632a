"""Estimates of memory: before a run as tables of their own, after it beside what was measured."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from benchbox.report.markdown_table import pipe_table
from benchbox.report.text import UNKNOWN, case_labels, clean, csv_cell, escape_markdown, memory
from benchbox.schema import Case, CaseEstimate, CaseResult, Interval, MemoryEstimate, Report, SuiteEstimate
from benchbox.stats import median

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

_FITS = {True: "yes", False: "no", None: "unsure"}


def with_estimates(report: Report, estimates: Mapping[str, CaseEstimate]) -> Report:
    """``report`` with the estimate of each of its cases, or the reason why there is none."""

    def filled(result: CaseResult) -> CaseResult:
        answer = estimates.get(result.case.case_id)
        if answer is None:
            return result
        return replace(
            result, memory_estimate=answer.estimate, memory_estimate_unknown_reason=answer.unknown_reason
        )

    return replace(report, cases=tuple(map(filled, report.cases)))


def terminal_estimate(estimate: SuiteEstimate) -> Group:
    """A row a case, within 80 columns; reasons stand below."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    labels = case_labels(estimate.cases)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("case", overflow="fold", min_width=14)
    for title in ("saved", "allocated", "on device", "interval", "fits", "largest\nbatch"):
        table.add_column(title, justify="right", no_wrap=True)
    for answer in estimate.estimates:
        known = answer.estimate
        cells = (
            [UNKNOWN] * 6
            if known is None
            else [
                memory(known.saved_activations_bytes),
                memory(known.peak_allocated_bytes),
                memory(known.peak_device_bytes),
                _range(known.peak_device_interval_bytes),
                fits_word(known),
                _number(known.largest_per_device_batch_size),
            ]
        )
        table.add_row(Text(labels[answer.case_id]), *cells)
    lines: list[RenderableType] = [Text(_heading(estimate), style="bold"), table]
    lines += [
        Text(f"{labels[answer.case_id]}: {clean(answer.unknown_reason)}")
        for answer in estimate.estimates
        if answer.unknown_reason is not None
    ]
    return Group(*lines)


def markdown_estimate(estimate: SuiteEstimate) -> str:
    """All parts, a row a case."""
    labels = case_labels(estimate.cases)
    titles = ["case", "parameters", "gradients", "optimizer", "saved", "batch", "temporary", "buffers"]
    titles += [
        "context",
        "allocated",
        "reserved",
        "on device",
        "interval",
        "on host",
        "fits",
        "largest batch",
    ]
    rows = [
        [labels[answer.case_id], *_parts(answer.estimate)]
        for answer in estimate.estimates
        if answer.estimate is not None
    ]
    lines = [f"# {escape_markdown(_heading(estimate))}", ""]
    if rows:
        lines += [*pipe_table(titles, rows), ""]
    reasons = [
        f"* {escape_markdown(labels[answer.case_id])}: {escape_markdown(answer.unknown_reason)}"
        for answer in estimate.estimates
        if answer.unknown_reason is not None
    ]
    return "\n".join([*lines, *reasons, *([""] if reasons else [])])


def csv_estimate(estimate: SuiteEstimate) -> str:
    """A row a case, columns named as in the schema; an interval fills two columns."""
    buffer = io.StringIO(newline="")
    columns = [*Case.__struct_fields__, *estimate_columns(), "unknown_reason", "device"]
    writer = csv.DictWriter(buffer, fieldnames=columns, lineterminator="\r\n")
    writer.writeheader()
    for case, answer in zip(estimate.cases, estimate.estimates, strict=True):
        row: dict[str, object] = {name: getattr(case, name) for name in Case.__struct_fields__}
        row |= estimate_cells(answer.estimate)
        row |= {"unknown_reason": answer.unknown_reason, "device": estimate.device}
        writer.writerow({name: csv_cell(value) for name, value in row.items()})
    return buffer.getvalue()


def estimate_columns() -> list[str]:
    """The columns that :func:`estimate_cells` fills."""
    return [
        column
        for name in MemoryEstimate.__struct_fields__
        for column in ((f"{name}_low", f"{name}_high") if "_interval_" in name else (name,))
    ]


def estimate_cells(estimate: MemoryEstimate | None) -> dict[str, object]:
    """Each figure of an estimate by its column; none where there is no estimate."""
    cells: dict[str, object] = {}
    for name in MemoryEstimate.__struct_fields__ if estimate is not None else ():
        value = getattr(estimate, name)
        if isinstance(value, Interval):
            cells |= {f"{name}_low": value.low, f"{name}_high": value.high}
        else:
            cells[name] = value
    return cells


def comparison_rows(report: Report) -> tuple[list[str], list[list[str | None]]]:
    """Titles and rows of the table of estimated against measured peaks; no rows where nothing was foretold.

    An error is the estimate's over the measured figure, less one.
    """
    labels = case_labels([result.case for result in report.cases])
    names = ["resident"] if report.environment.device == "cpu" else ["allocated", "reserved", "on device"]
    titles = ["case", *(title for name in names for title in (name, "foretold", "error"))]
    rows: list[list[str | None]] = []
    for result in report.cases:
        pairs = _pairs(result, report.environment.device)
        if result.memory_estimate is not None:
            rows.append([labels[result.case.case_id], *(cell for pair in pairs for cell in _compared(*pair))])
    return titles, rows


def comparison_line(report: Report) -> str | None:
    """How far off the estimates were, in one line; ``None`` where nothing was foretold and measured."""
    figure = "resident memory" if report.environment.device == "cpu" else "allocated memory"
    errors = [
        100 * (foretold / measured - 1)
        for result in report.cases
        for measured, foretold in _pairs(result, report.environment.device)[:1]
        if measured and foretold is not None
    ]
    if not errors:
        return None
    middle, worst = median([abs(error) for error in errors]), max(errors, key=abs)
    return f"{figure} was foretold with an error of {middle:.1f} % (median) and {worst:+.1f} % (worst)"


def comparison_section(report: Report) -> list[str]:
    """The Markdown section of estimated against measured memory; empty where nothing was foretold."""
    titles, rows = comparison_rows(report)
    labels = case_labels([result.case for result in report.cases])
    reasons = [
        f"* {escape_markdown(labels[result.case.case_id])}: no estimate, "
        f"{escape_markdown(result.memory_estimate_unknown_reason)}"
        for result in report.cases
        if result.memory_estimate_unknown_reason is not None
    ]
    if not rows and not reasons:
        return []
    lines = ["## Memory, foretold and measured", ""]
    if rows:
        lines += [*pipe_table(titles, rows), ""]
    return [*lines, *reasons] if reasons else lines[:-1]


def unfit_lines(cases: Sequence[Case], estimates: Mapping[str, CaseEstimate]) -> list[str]:
    """A warning for each case that will not fit; none for one that is not sure."""
    labels = case_labels(cases)
    lines = []
    for case in cases:
        known = estimates[case.case_id].estimate if case.case_id in estimates else None
        if known is not None and known.fits is False and known.device_memory_bytes is not None:
            needs, has = memory(known.peak_device_interval_bytes.low), memory(known.device_memory_bytes)
            largest = known.largest_per_device_batch_size
            advice = "" if largest is None else f"; the largest batch that surely fits is {largest:,}"
            lines.append(f"{labels[case.case_id]} will not fit: it needs {needs} at least, of {has}{advice}")
    return lines


def fits_word(estimate: MemoryEstimate) -> str:
    """``yes``, ``no``, ``unsure``, or a dash where the device's memory is not known."""
    return UNKNOWN if estimate.device_memory_bytes is None else _FITS[estimate.fits]


def _pairs(result: CaseResult, device: str) -> list[tuple[int | None, int | None]]:
    """Measured and foretold."""
    summary, known = result.summary, result.memory_estimate
    if known is None:
        return []
    if device == "cpu":
        return [(summary.peak_host_rss_bytes if summary else None, known.peak_device_bytes)]
    return [
        (summary.peak_memory_allocated_bytes if summary else None, known.peak_allocated_bytes),
        (summary.peak_memory_reserved_bytes if summary else None, known.peak_reserved_bytes),
        (summary.device_memory_used_bytes if summary else None, known.peak_device_bytes),
    ]


def _compared(measured: int | None, foretold: int | None) -> list[str | None]:
    error = f"{100 * (foretold / measured - 1):+.1f} %" if measured and foretold is not None else None
    return [
        None if measured is None else memory(measured),
        None if foretold is None else memory(foretold),
        error,
    ]


def _parts(known: MemoryEstimate) -> list[str | None]:
    return [
        memory(known.parameters_bytes),
        memory(known.gradients_bytes),
        memory(known.optimizer_state_bytes),
        memory(known.saved_activations_bytes),
        memory(known.batch_bytes),
        memory(known.largest_temporary_bytes),
        memory(known.communication_buffers_bytes),
        memory(known.context_bytes),
        memory(known.peak_allocated_bytes),
        None if known.peak_reserved_bytes is None else memory(known.peak_reserved_bytes),
        memory(known.peak_device_bytes),
        _range(known.peak_device_interval_bytes),
        memory(known.host_bytes),
        fits_word(known),
        _number(known.largest_per_device_batch_size),
    ]


def _heading(estimate: SuiteEstimate) -> str:
    has = "" if estimate.device_memory_bytes is None else f", {memory(estimate.device_memory_bytes)}"
    return clean(f"Memory of {estimate.suite}, foretold for {estimate.device}{has}")


def _range(interval: Interval) -> str:
    """``3.1–4.2 GiB``, in one unit; one without width is a single figure."""
    low, high = memory(interval.low), memory(interval.high)
    if low == high:
        return low
    number, unit = low.split(" ")
    return f"{number}–{high}" if high.endswith(f" {unit}") else f"{low} – {high}"


def _number(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"
