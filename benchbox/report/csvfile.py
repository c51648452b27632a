"""Reports as CSV (RFC 4180): one row a case, columns named as in the schema, unknown left empty."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from benchbox.report import diagnosis
from benchbox.report.estimates import estimate_cells, estimate_columns
from benchbox.report.facts import loss_check, phase_times, stop_reasons, warmup_ends
from benchbox.report.text import csv_cell
from benchbox.schema import Case, CaseResult, CaseSummary, Interval, PhaseTimes, Report, Scaling

_PHASES = tuple(name for name in PhaseTimes.__struct_fields__ if name.endswith("_ns"))


def render_csv(reports: Sequence[Report]) -> str:
    """All cases of all reports, a row each. An interval fills two columns, ``…_low`` and ``…_high``."""
    rows = [case_row(result, report) for report in reports for result in report.cases]
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, fieldnames=columns(), lineterminator="\r\n")
    writer.writeheader()
    writer.writerows({name: csv_cell(value) for name, value in row.items()} for row in rows)
    return buffer.getvalue()


def columns() -> list[str]:
    """The names of all columns, in their order."""
    figures = [
        column
        for name in (*CaseSummary.__struct_fields__, *Scaling.__struct_fields__)
        for column in ((f"{name}_low", f"{name}_high") if name.endswith("_interval") else (name,))
    ]
    estimated = [f"estimated_{name}" for name in estimate_columns()]
    closing = ("warmup_end", "stop_reason", "agrees_with_fp32", "suite", "device", "created_at")
    return [
        *Case.__struct_fields__,
        "outcome",
        "reason",
        *diagnosis.CSV_COLUMNS,
        *figures,
        *_PHASES,
        *estimated,
        *closing,
    ]


def case_row(result: CaseResult, report: Report) -> dict[str, object]:
    """What is known of a case, by column; text as it stands in the report. What is unknown is missing or
    ``None``."""
    phases, check = phase_times(result), loss_check(result)
    row: dict[str, object] = {name: getattr(result.case, name) for name in Case.__struct_fields__}
    row |= {"outcome": result.outcome, "reason": result.reason} | diagnosis.csv_fields(result)
    row |= _figures(result.summary) | _figures(result.scaling)
    if result.summary:
        row["straggler_ranks"] = ";".join(map(str, result.summary.straggler_ranks))
    row |= {name: getattr(phases, name) for name in _PHASES if phases}
    row |= {f"estimated_{name}": value for name, value in estimate_cells(result.memory_estimate).items()}
    row |= {
        "warmup_end": ";".join(warmup_ends(result.attempts)),
        "stop_reason": ";".join(stop_reasons(result.attempts)),
        "agrees_with_fp32": check.agrees_with_fp32 if check else None,
        "suite": report.suite.name,
        "device": report.environment.device,
        "created_at": report.created_at,
    }
    return row


def _figures(record: CaseSummary | Scaling | None) -> dict[str, object]:
    cells: dict[str, object] = {}
    for name in record.__struct_fields__ if record else ():
        value = getattr(record, name)
        if isinstance(value, Interval):
            cells |= {f"{name}_low": value.low, f"{name}_high": value.high}
        elif not name.endswith("_interval"):
            cells[name] = value
    return cells
