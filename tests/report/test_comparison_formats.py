"""Comparisons as people and machines get them; nothing of a report becomes markup or a command."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import unicodedata
from collections.abc import Callable
from itertools import cycle, islice
from xml.etree import ElementTree

import pytest
from msgspec.structs import replace
from rich.console import Console

from benchbox.analyze.matching import compare_sides, side_of
from benchbox.analyze.sequential import Looks
from benchbox.report import comparison_markdown
from benchbox.report.comparison_files import (
    render_comparison_csv,
    render_comparison_json,
    render_comparison_junit,
)
from benchbox.report.comparison_markdown import (
    github_annotations,
    github_summary,
    render_comparison_markdown,
)
from benchbox.report.comparison_terminal import comparison_view
from benchbox.schema import Report
from benchbox.schema.comparison import Comparison, Thresholds
from tests.factories import hostile_report, make_report

HOSTILE = "::error::]]> <b>x</b>\n::error::y%0A ##[error]z\x1b[31m\u202e\ufffe`|[l](http://x) =1+1"


def slowed(report: Report, factor: float) -> Report:
    """Every attempt's steps last ``factor`` times as long."""
    cases = []
    for case in report.cases:
        attempts = []
        for attempt in case.attempts:
            ranks = tuple(
                replace(rank, step_time_ns=tuple(round(step * factor) for step in rank.step_time_ns))
                for rank in attempt.ranks
            )
            attempts.append(replace(attempt, ranks=ranks))
        cases.append(replace(case, attempts=tuple(attempts)))
    return replace(report, cases=tuple(cases))


def more_attempts(report: Report, number: int) -> Report:
    """Every case with ``number`` attempts, which repeat those that it has."""
    cases = []
    for case in report.cases:
        numbered = enumerate(islice(cycle(case.attempts), number if case.outcome == "ok" else 1))
        cases.append(
            replace(case, attempts=tuple(replace(attempt, attempt=place) for place, attempt in numbered))
        )
    return replace(report, cases=tuple(cases))


def compared(base: Report, new: Report) -> Comparison:
    return compare_sides(side_of("base.json", base), side_of("new.json", new), Thresholds())


def slower() -> Comparison:
    report = make_report()
    broken = next(c for c in report.cases if c.outcome == "oom")
    new = slowed(report, 1.08)
    # The case that ran out of memory is ok now, the first one is not.
    cases = [
        replace(case, outcome="oom", reason="out of memory", summary=None, attempts=broken.attempts)
        if place == 0
        else case
        for place, case in enumerate(new.cases)
    ]
    return compared(report, replace(new, cases=tuple(cases)))


def shown(comparison: Comparison, width: int = 120) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(comparison_view(comparison))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_terminal() -> None:
    text = shown(slower())
    assert "slower" in text
    assert "regression  reference-cnn b32 fp32: is oom: out of memory" in text
    assert "0.926" in text
    assert "\n1 regression, 4 slower, 3 same\n" in text


def test_markdown_puts_the_worst_first() -> None:
    text = render_comparison_markdown(slower())
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    verdicts = [row.split("|")[2].strip() for row in rows]
    assert verdicts == ["regression"] + ["slower"] * 4 + ["same"] * 3


def test_github_annotations() -> None:
    lines = github_annotations(slower())
    assert len(lines) == 5
    assert lines[0].startswith("::error title=benchbox%3A reference-cnn b32 fp32::regression: is oom")
    assert all("slower" in line for line in lines[1:])


def test_a_summary_is_never_larger_than_github_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [slower(), slower()]
    monkeypatch.setattr(comparison_markdown, "MAX_SUMMARY_BYTES", 3500)
    text = github_summary(both)
    assert len(text.encode()) <= 3500
    assert text.count("| regression |") == 2
    assert text.count("cases are left out") == 2
    monkeypatch.undo()
    assert github_summary(both) == "\n".join(map(render_comparison_markdown, both))


def test_junit() -> None:
    root = ElementTree.fromstring(render_comparison_junit([slower()], strict=False))
    suite = root.find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("8", "5", "0")
    assert len(root.findall(".//failure")) == 5


def with_memory(report: Report, factors: tuple[float, float, float]) -> Report:
    """The attempts of the first case take so many times the memory."""
    first = report.cases[0]
    attempts = []
    for attempt, factor in zip(first.attempts, factors, strict=True):
        memory = attempt.ranks[0].memory
        assert memory is not None
        assert memory.peak_memory_allocated_bytes is not None
        memory = replace(
            memory, peak_memory_allocated_bytes=round(memory.peak_memory_allocated_bytes * factor)
        )
        attempts.append(replace(attempt, ranks=(replace(attempt.ranks[0], memory=memory),)))
    return replace(report, cases=(replace(first, attempts=tuple(attempts)), *report.cases[1:]))


def test_a_case_that_takes_more_memory_is_named_in_every_format() -> None:
    comparison = compared(make_report(), with_memory(make_report(), (1.2, 1.2, 1.2)))
    assert comparison.cases[0].verdict == "same"
    sentence = "peak memory more: 3.86 GiB -> 4.63 GiB, ratio 1.200"
    assert f"more  reference-cnn b32 fp32: {sentence}" in shown(comparison)
    assert f"- reference-cnn b32 fp32: {sentence.replace('>', chr(92) + '>')}" in render_comparison_markdown(
        comparison
    )
    assert github_annotations(comparison)[0].split("::")[2].startswith(sentence)
    failure = ElementTree.fromstring(render_comparison_junit([comparison], strict=False)).find(".//failure")
    assert failure is not None
    assert failure.get("message", "").startswith(sentence)


def test_memory_that_is_too_noisy_to_tell_is_told_where_strict_fails_for_it() -> None:
    comparison = compared(make_report(), with_memory(make_report(), (0.7, 1.0, 1.5)))
    assert comparison.cases[0].is_undecided()
    assert "8 same, 1 with inconclusive peak memory" in shown(comparison)
    assert [line[:9] for line in github_annotations(comparison)] == ["::warning"]
    for strict, errors in ((True, 1), (False, 0)):
        text = render_comparison_junit([comparison], strict=strict)
        assert f'failures="0" errors="{errors}" skipped="0"' in text
        assert text.count('<error message="peak memory inconclusive: ') == errors


def test_reports_without_a_case_in_common_fail_where_a_job_shows_its_results() -> None:
    report = make_report()
    base, new = (
        replace(report, cases=cases, suite=replace(report.suite, cases=tuple(c.case for c in cases)))
        for cases in (report.cases[:2], report.cases[2:])
    )
    comparison = compared(base, new)
    assert comparison.cases == ()
    text = render_comparison_junit([comparison], strict=False)
    assert 'tests="1" failures="0" errors="1"' in text
    assert '<error message="no case in common; 6 added; 2 missing"/>' in text
    assert github_annotations(comparison) == [
        "::error title=benchbox%3A not comparable::no case in common; 6 added; 2 missing"
    ]


def test_cases_that_the_new_report_lacks_are_a_warning() -> None:
    report = make_report()
    fewer = replace(report, cases=report.cases[:1])
    (line,) = github_annotations(compared(report, fewer))
    assert line.startswith(
        "::warning title=benchbox%3A missing%3A 7 of the base report's cases::not in the new"
    )
    assert "reference-cnn b64 bf16" in line
    assert github_annotations(compared(fewer, report)) == []


def test_intervals_of_several_looks_are_called_at_least() -> None:
    looks = Looks(Thresholds(), frozenset())
    side = side_of("a", make_report())
    for _ in range(2):
        assert "\nat least 90 % intervals round by round" in shown(looks.look(side, side), width=200)
    assert "\n80 % intervals over attempts" in shown(compared(make_report(), make_report()), width=200)


def test_below_five_repetitions_the_promise_leaves_out_two_speeds() -> None:
    few, many = make_report(), more_attempts(make_report(), 5)
    for base, new, is_told in ((few, few, True), (few, many, True), (many, many, False)):
        text = shown(compared(base, new), width=300)
        assert "false alarms in at most 1 % of comparisons" in text
        assert ("where attempts do not come in two speeds" in text) == is_told


@pytest.mark.parametrize(
    ("factor", "says"), [(1 / 200, "200.000  199.235 to 200.767"), (200.0, "0.00500  0.00498 to 0.00502")]
)
def test_a_ratio_of_hundreds_keeps_its_interval(factor: float, says: str) -> None:
    assert says in shown(compared(make_report(), slowed(make_report(), factor)))


def test_a_narrow_terminal_cuts_off_neither_figures_nor_verdicts() -> None:
    report = make_report()
    other = replace(report, environment=replace(report.environment, driver="1"))
    text = shown(compared(report, slowed(report, 1 / 200)), width=60)
    text += shown(compared(report, other), width=40)
    assert "…" not in text
    assert text.count(" not-comparable\n") == 8 + 1  # the rows, and the sentence that counts them


def test_json_and_csv_hold_the_figures() -> None:
    comparison = slower()
    document = json.loads(render_comparison_json([comparison]))
    case = document["comparisons"][0]["cases"][1]
    assert case["verdict"] == "slower"
    assert case["metrics"][0]["ratio"] == pytest.approx(1 / 1.08, rel=1e-3)
    rows = list(csv.DictReader(io.StringIO(render_comparison_csv([comparison]), newline="")))
    rates = [row for row in rows if row["metric"] == "samples_per_second"]
    assert len(rates) == 4
    assert all(row["metric_verdict"] == "slower" for row in rates)
    assert all(math.isclose(float(row["ratio"]), 1 / 1.08, rel_tol=1e-3) for row in rates)


def obeyed(text: str) -> list[str]:
    """The lines that GitHub's runner takes for a command (actions/runner, ``ActionCommand.cs``)."""
    command = re.compile(r"\s*::(error|warning|add-mask|stop-commands)( [^\n]*?)?::|.*##\[", re.IGNORECASE)
    return [line for line in text.splitlines() if command.match(line)]


def hostile_comparison(text: str) -> Comparison:
    """``text`` as the reports' names, and wherever a report holds any."""
    new = slowed(hostile_report(text), 1.2)
    new = replace(new, environment=replace(new.environment, driver=text + "2"))
    sides = (side_of(text, one) for one in (hostile_report(text), new))
    return compare_sides(*sides, Thresholds())


FORMATS: dict[str, Callable[[Comparison], str]] = {
    "terminal": shown,
    "markdown": render_comparison_markdown,
    "github": lambda comparison: "\n".join([github_summary([comparison]), *github_annotations(comparison)]),
    "junit": lambda comparison: render_comparison_junit([comparison], strict=True),
    "json": lambda comparison: render_comparison_json([comparison]),
    "csv": lambda comparison: render_comparison_csv([comparison]).replace("\r\n", "\n"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_no_format_holds_what_a_terminal_obeys(name: str) -> None:
    """The sequences' start in one character (C1), and those that turn the direction of a line."""
    text = FORMATS[name](hostile_comparison("a\x9b31m\x7f\x1b]0;x\x07\u202eb\u2066c\u2028d\U000e0001"))
    assert "31m" in text
    found = {unicodedata.category(char) for char in text.replace("\n", "")}
    assert found.isdisjoint({"Cc", "Cf", "Zl", "Zp"})


def test_no_format_lets_a_text_become_anything_else() -> None:
    base, new = hostile_report(HOSTILE), slowed(hostile_report(HOSTILE), 1.2)
    new = replace(new, environment=replace(new.environment, driver=HOSTILE + "2"))
    for comparison in (compared(base, replace(new, environment=base.environment)), compared(base, new)):
        for text in (shown(comparison), render_comparison_markdown(comparison)):
            assert "\x1b" not in text
            assert "\u202e" not in text
        printed = [shown(comparison, width=width) for width in range(40, 140, 3)]
        printed += [
            render_comparison_markdown(comparison),
            render_comparison_csv([comparison]),
            render_comparison_json([comparison]),
            render_comparison_junit([comparison], strict=True),
        ]
        assert [line for text in printed for line in obeyed(text)] == []
        assert "<b>" not in render_comparison_markdown(comparison).replace("\\<b\\>", "")
        for line in github_annotations(comparison):
            assert re.match(r"::(error|warning) title=[^:,\n]*::[^\n]*$", line)
            assert "%0A" not in line.replace("%250A", "")
        ElementTree.fromstring(render_comparison_junit([comparison], strict=True))
        for row in csv.reader(io.StringIO(render_comparison_csv([comparison]), newline="")):
            assert not any(cell.startswith(("=", "+", "@")) for cell in row)
