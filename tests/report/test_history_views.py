"""The course of cases in the terminal, as a plot and from the command line."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace
from rich.console import Console
from typer.testing import CliRunner

from benchbox.analyze.history import history_of, rates_of
from benchbox.cli import app
from benchbox.errors import BadInputError, NothingToPlotError
from benchbox.report.bencher import render_bencher
from benchbox.report.files import write_report
from benchbox.report.history import course, history_view
from benchbox.report.plots.canvas import render
from benchbox.report.plots.history import history_plot
from benchbox.schema import Report
from benchbox.schema.history import History
from tests.factories import hostile_report, make_report
from tests.report.test_comparison_formats import slowed


def test_a_sparkline_shows_the_course() -> None:
    assert course([1.0, 2.0]) == "▁█"
    assert course([100.0, 100.1, 100.2]) == "▄▄▄"
    assert len(course(list(range(1, 366)))) == 40
    assert course(list(range(1, 366)))[-1] == "█"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for day in range(1, 9):
        report = replace(make_report(), created_at=f"2026-03-{day:02d}T12:00:00+00:00")
        (tmp_path / f"{day}").mkdir()
        write_report(slowed(report, 1.1 if day >= 5 else 1.0), tmp_path / f"{day}" / "report.json")
    return tmp_path


def test_from_folders_to_the_report_that_changed_the_level(folder: Path) -> None:
    result = CliRunner(env={"COLUMNS": "240"}).invoke(app, ["history", str(folder)])
    assert result.exit_code == 0
    lines = result.stdout.replace("\n", " ")
    assert lines.count("-9.1 % from") == 5
    assert "5/report.json" in lines
    asked = CliRunner().invoke(app, ["history", str(folder), "--format", "json"])
    assert json.loads(asked.stdout)["cases"][0]["changes"][0]["report"].endswith("5/report.json")


def test_what_versus_leaves_beside_its_reports_is_no_broken_report(folder: Path) -> None:
    report = str(folder / "1" / "report.json")
    compared = CliRunner().invoke(app, ["compare", report, report, "--format", "json"])
    (folder / "comparison.json").write_text(compared.stdout)
    asked = CliRunner().invoke(app, ["history", str(folder), "--format", "json"])
    assert json.loads(asked.stdout)["num_reports"] == 8
    named = CliRunner().invoke(app, ["history", str(folder / "comparison.json")])
    assert isinstance(named.exception, BadInputError)
    (folder / "broken.json").write_text("{}")
    assert isinstance(CliRunner().invoke(app, ["history", str(folder)]).exception, BadInputError)


def test_a_report_that_is_found_twice_stands_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    asked = CliRunner().invoke(app, ["history", "1", str(folder), "./2/../2", "--format", "json"])
    document = json.loads(asked.stdout)
    assert document["num_reports"] == 8
    assert document["cases"][0]["points"][0]["report"] == "1/report.json"


def test_a_plot_is_drawn_and_another_format_refused(folder: Path) -> None:
    drawn = CliRunner().invoke(app, ["history", str(folder), "--plot", str(folder / "h.svg")])
    assert drawn.exit_code == 0
    assert "<svg" in (folder / "h.svg").read_text()
    refused = CliRunner().invoke(app, ["history", str(folder), "--plot", str(folder / "h.docx")])
    assert isinstance(refused.exception, BadInputError)
    alone = ["history", str(folder / "1"), "--plot", str(folder / "alone.svg")]
    assert isinstance(CliRunner().invoke(app, alone).exception, NothingToPlotError)
    assert not (folder / "alone.svg").exists()
    empty = folder / "empty"
    empty.mkdir()
    nothing = CliRunner().invoke(app, ["history", str(empty)])
    assert isinstance(nothing.exception, BadInputError)


def test_reports_left_out_for_the_same_fields_are_one_line() -> None:
    report = make_report()
    other = replace(report, environment=replace(report.environment, driver="1"))
    made = [
        replace(other if day < 4 else report, created_at=f"2026-03-0{day}T00:00:00Z") for day in (1, 2, 3, 4)
    ]
    history = history_of([rates_of(f"day{day}", each) for day, each in enumerate(made, 1)])
    console = Console(width=200, file=io.StringIO(), force_terminal=False)
    console.print(history_view(history))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    left_out = [line for line in lines if line.startswith("left out")]
    assert left_out == ["left out: 3 reports, day1 to day3: not as the newest one in driver"]


def viewed(reports: Sequence[Report]) -> tuple[str, History]:
    """A report a day."""
    dated = [
        replace(report, created_at=f"2026-03-{day:02d}T00:00:00Z") for day, report in enumerate(reports, 1)
    ]
    history = history_of([rates_of(f"day{day}", report) for day, report in enumerate(dated, 1)])
    console = Console(width=200, file=io.StringIO(), force_terminal=False)
    console.print(history_view(history))
    return console.file.getvalue(), history  # type: ignore[attr-defined]


def test_too_few_reports_are_not_called_an_unchanged_level() -> None:
    report = make_report()
    text, history = viewed([report, report, slowed(report, 1.5)])
    assert "no level changed" not in text
    assert "a change of level cannot be told from fewer than four reports\n" in text
    assert "A change of level cannot be told" in history_plot(history).description
    shorter = replace(report, cases=report.cases[1:])
    text, _ = viewed([shorter, report, report, report])
    assert "no level changed\n" in text
    assert "from fewer than four reports (1 of 5 cases)\n" in text
    text, _ = viewed([report] * 4)
    assert "no level changed\n" in text
    assert "fewer than four" not in text


def test_a_case_that_never_ended_ok_is_listed() -> None:
    report = make_report()
    text, history = viewed([report] * 4)
    failed = [result for result in report.cases if result.outcome != "ok"]
    assert [(one.case, one.first.outcome) for one in history.never_ok] == [
        (result.case, result.outcome) for result in failed
    ]
    line = "reference-cnn b4096 fp32: never ended ok: oom from day1 on (2026-03-01T00:00:00Z)"
    assert f"{line}\n" in text
    assert f"{line}." in history_plot(history).notes
    good = replace(failed[0], outcome="ok", reason=None, attempts=report.cases[0].attempts)
    mended = replace(report, cases=tuple(good if case is failed[0] else case for case in report.cases))
    _, history = viewed([report, mended, report])
    assert [one.case for one in history.never_ok] == [result.case for result in failed[1:]]


def test_names_of_reports_become_neither_markup_nor_formulas() -> None:
    text = r"\x1b[31m[bold]$\frac{1}{0}$" + "\x1b"
    made = [
        replace(slowed(hostile_report(text), 1.0 + 0.2 * (day > 4)), created_at=f"2026-03-0{day}T00:00:00Z")
        for day in range(1, 9)
    ]
    made = [replace(report, cases=(replace(report.cases[0], outcome="ok"),)) for report in made]
    history = history_of([rates_of(text + str(day), report) for day, report in enumerate(made)])
    assert len(history.cases[0].points) == 8
    console = Console(width=200, file=io.StringIO(), force_terminal=False)
    console.print(history_view(history))
    assert "\x1b" not in console.file.getvalue()  # type: ignore[attr-defined]
    assert "[bold]" in console.file.getvalue()  # type: ignore[attr-defined]
    picture = render(history_plot(history), "svg").decode()
    assert "\x1b" not in picture
    assert r"\frac{1}{0}" in picture


def test_bencher_gets_every_measured_case() -> None:
    report = make_report()
    document = json.loads(render_bencher([report]))
    assert len(document) == 5
    throughput = document["quick/reference-cnn b32 fp32"]["throughput"]
    summary = report.cases[0].summary
    assert summary is not None
    assert throughput["value"] == summary.samples_per_second
    assert throughput["lower_value"] < throughput["value"] < throughput["upper_value"]
    assert document["quick/reference-cnn b32 fp32"]["joules-per-sample"]["value"] > 0
    with pytest.raises(BadInputError, match="is in two reports"):
        render_bencher([report, report])
