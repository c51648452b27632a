"""Tables of estimates: before a run, and beside what it measured."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from msgspec.structs import replace
from rich.console import Console

from benchbox.report.estimates import (
    comparison_line,
    comparison_rows,
    comparison_section,
    csv_estimate,
    estimate_cells,
    estimate_columns,
    markdown_estimate,
    terminal_estimate,
    unfit_lines,
    with_estimates,
)
from benchbox.report.files import read_report, write_report
from benchbox.schema import Case, CaseEstimate, Interval, MemoryEstimate, Report, SuiteEstimate
from tests.factories import GIB, make_case, make_report

HOSTILE = "\x1b[31m[bold]|<b>`rm -rf`\u202e\n# =1+1"


def make_estimate(**changes: Any) -> MemoryEstimate:
    fields: dict[str, Any] = {
        "parameters_bytes": 766_768_544,
        "gradients_bytes": 766_768_544,
        "optimizer_state_bytes": 1_533_537_120,
        "saved_activations_bytes": GIB,
        "batch_bytes": 19_267_840,
        "largest_temporary_bytes": GIB // 2,
        "communication_buffers_bytes": 0,
        "context_bytes": 500 << 20,
        "peak_allocated_bytes": 4 * GIB,
        "peak_allocated_interval_bytes": Interval(low=3.9 * GIB, high=4.5 * GIB),
        "peak_reserved_bytes": 5 * GIB,
        "peak_device_bytes": 6 * GIB,
        "peak_device_interval_bytes": Interval(low=4.2 * GIB, high=7 * GIB),
        "device_memory_bytes": 80 * GIB,
        "fits": True,
        "largest_per_device_batch_size": 1115,
    } | changes
    return MemoryEstimate(**fields)


def suite_estimate(*cases: Case, **changes: Any) -> SuiteEstimate:
    answers = [CaseEstimate(case_id=case.case_id, estimate=make_estimate(**changes)) for case in cases[:-1]]
    last = CaseEstimate(case_id=cases[-1].case_id, estimate=None, unknown_reason=HOSTILE)
    return SuiteEstimate(
        suite=HOSTILE, device="a GPU", device_memory_bytes=80 * GIB, cases=cases, estimates=(*answers, last)
    )


CASES = (make_case(), make_case(precision="bf16"), make_case(per_device_batch_size=2, model="bad:model"))


def printed(view: object, width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(view)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("fits", [True, False, None])
def test_the_terminal_shows_each_case_within_80_columns(fits: bool | None) -> None:
    text = printed(
        terminal_estimate(suite_estimate(*CASES, fits=fits, largest_per_device_batch_size=987_654))
    )
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert {True: "yes", False: "no", None: "unsure"}[fits] in text
    assert text.count("987,654") == 2
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "rm -rf" in text  # the reason is there, as text


def test_markdown_shows_every_part_and_no_markup_of_others() -> None:
    text = markdown_estimate(suite_estimate(*CASES))
    assert "731 MiB" in text
    assert "4.20–7.00 GiB" in text
    assert "<b>" not in text
    assert "\n# =1" not in text
    assert text.count("\n# ") == 0


def test_csv_has_a_row_a_case_and_every_figure() -> None:
    rows = list(csv.DictReader(io.StringIO(csv_estimate(suite_estimate(*CASES)))))
    assert len(rows) == 3
    assert rows[0]["peak_device_interval_bytes_high"] in (str(7 * GIB), str(7.0 * GIB))
    assert (rows[0]["fits"], rows[2]["fits"]) == ("true", "")
    assert rows[2]["unknown_reason"]
    assert set(estimate_columns()) <= set(rows[0])
    assert set(estimate_cells(make_estimate())) == set(estimate_columns())
    assert estimate_cells(None) == {}


def test_csv_has_no_formulas() -> None:
    text = csv_estimate(suite_estimate(make_case(model="=1+1"), make_case(model="\t=1+1")))
    assert [row["model"] for row in csv.DictReader(io.StringIO(text))] == ["'=1+1"] * 2


def with_errors(report: Report, *errors_pct: float) -> Report:
    """The report's first cases, foretold wrong by so much."""
    estimates = {}
    for result, error_pct in zip(report.cases, errors_pct, strict=False):
        assert result.summary is not None
        assert result.summary.peak_memory_allocated_bytes is not None
        peak = round((1 + error_pct / 100) * result.summary.peak_memory_allocated_bytes)
        case_id = result.case.case_id
        estimates[case_id] = CaseEstimate(case_id=case_id, estimate=make_estimate(peak_allocated_bytes=peak))
    return with_estimates(report, estimates)


def test_an_error_is_the_estimate_over_what_was_measured(tmp_path: Any) -> None:
    report = make_report()
    known = report.cases[0].summary
    assert known is not None
    assert known.peak_memory_allocated_bytes is not None
    estimates = {
        report.cases[0].case.case_id: CaseEstimate(
            case_id=report.cases[0].case.case_id,
            estimate=make_estimate(peak_allocated_bytes=int(1.05 * known.peak_memory_allocated_bytes)),
        ),
        report.cases[1].case.case_id: CaseEstimate(
            case_id=report.cases[1].case.case_id, estimate=None, unknown_reason="it looks at its data"
        ),
    }
    filled = with_estimates(report, estimates)
    titles, rows = comparison_rows(filled)
    assert len(rows) == 1
    assert len(titles) == len(rows[0]) == 10
    assert rows[0][3] == "+5.0 %"
    section = "\n".join(comparison_section(filled))
    assert "it looks at its data" in section
    assert "+5.0 %" in section
    assert comparison_line(filled) == (
        "allocated memory was foretold with an error of 5.0 % (median) and +5.0 % (worst)"
    )
    assert comparison_line(with_errors(report, 4.0, -6.0)) == (
        "allocated memory was foretold with an error of 5.0 % (median) and -6.0 % (worst)"
    )
    write_report(filled, tmp_path / "report.json")
    assert read_report(tmp_path / "report.json") == filled


def test_on_a_cpu_resident_memory_is_compared() -> None:
    report = make_report("cpu")
    every = {
        case.case.case_id: CaseEstimate(case_id=case.case.case_id, estimate=make_estimate())
        for case in report.cases
    }
    titles, rows = comparison_rows(with_estimates(report, every))
    assert titles == ["case", "resident", "foretold", "error"]
    assert rows[0][3] == f"{100 * (6 / 3.4 - 1):+.1f} %"
    failed = [row for row in rows if row[1] is None]
    assert all(row[3] is None for row in failed)
    assert len(failed) == 3  # the cases that measured nothing still show their estimate


def test_nothing_foretold_is_nothing_shown() -> None:
    report = make_report()
    assert comparison_section(report) == []
    assert comparison_line(report) is None


def test_only_a_case_that_surely_will_not_fit_is_warned_of() -> None:
    sure, unsure = CASES[0], CASES[1]
    estimates = {
        sure.case_id: CaseEstimate(
            case_id=sure.case_id, estimate=make_estimate(fits=False, device_memory_bytes=4 * GIB)
        ),
        unsure.case_id: CaseEstimate(case_id=unsure.case_id, estimate=make_estimate(fits=None)),
    }
    (line,) = unfit_lines(CASES, estimates)
    assert line.startswith("reference-cnn b32 fp32 will not fit: it needs 4.20 GiB at least, of 4.00 GiB; ")
    assert line.endswith("the largest batch that surely fits is 1,115")
    without = replace(make_estimate(fits=False), largest_per_device_batch_size=None)
    lines = unfit_lines([sure], {sure.case_id: CaseEstimate(case_id=sure.case_id, estimate=without)})
    assert lines[0].endswith("of 80.0 GiB")
