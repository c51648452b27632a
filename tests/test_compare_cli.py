"""``benchbox compare`` as a CI job calls it: exit codes, formats, bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.main
from msgspec.structs import replace
from typer.testing import CliRunner, Result

from benchbox.cli import app, main
from benchbox.errors import BadInputError
from benchbox.pytest_plugin import pytest_addoption
from benchbox.report.files import read_report, write_report
from benchbox.schema import Report
from benchbox.schema.comparison import Thresholds
from tests.factories import make_report
from tests.report.test_comparison_formats import slowed

ROOT = Path(__file__).parent.parent


def invoke(*arguments: object) -> Result:
    """In this process: quicker, and all but what ``main`` does."""
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


def test_help_names_the_thresholds_that_are_used_where_none_is_given() -> None:
    usual = Thresholds()
    commands: Any = typer.main.get_command(app)
    told = {
        command: {option.name: option.help for option in commands.commands[command].params}
        for command in ("compare", "run")
    }
    parser = pytest.Parser(_ispytest=True)
    pytest_addoption(parser)
    plugins = {one.dest: one.attrs()["help"] for group in parser._groups for one in group.options}
    for name, value in (
        ("threshold", usual.throughput_pct),
        ("memory_threshold", usual.memory_pct),
        ("energy_threshold", usual.energy_pct),
    ):
        for command, options in told.items():
            assert options[name].endswith(f"Default: {value:g}."), command
        assert plugins[f"benchbox_{name}"].endswith(f"default: {value:g}")


def compare(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchbox.cli", "compare", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "100", **variables},
        check=False,
    )


def written(report: Report, path: Path) -> Path:
    write_report(report, path)
    return path


def few_cases(report: Report, number: int) -> Report:
    """Its first ``number`` cases."""
    suite = replace(report.suite, cases=report.suite.cases[:number])
    return replace(report, suite=suite, cases=report.cases[:number])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("reports")
    report = make_report()
    written(report, made / "base.json")
    written(slowed(report, 1.08), made / "slow.json")
    written(slowed(report, 0.9), made / "fast.json")
    environment = replace(report.environment, driver="590.10")
    written(replace(report, environment=environment), made / "driver.json")
    single = replace(report.cases[0], attempts=report.cases[0].attempts[:1])
    suite = replace(report.suite, cases=report.suite.cases[:1])
    written(replace(report, suite=suite, cases=(single,)), made / "single.json")
    blind = (
        replace(case, attempts=tuple(replace(a, devices=()) for a in case.attempts)) for case in report.cases
    )
    written(replace(report, cases=tuple(blind)), made / "blind.json")
    written(few_cases(report, 1), made / "one.json")
    return made


@pytest.mark.parametrize(
    ("base", "new", "options", "code"),
    [
        ("base", "base", [], 0),
        ("base", "slow", [], 1),
        ("base", "slow", ["--threshold", "20"], 0),
        ("base", "fast", [], 0),
        ("base", "driver", [], 3),
        ("base", "driver", ["--across", "driver"], 0),
        ("single", "single", [], 0),
        ("single", "single", ["--strict"], 3),
        ("base", "blind", [], 0),
        ("base", "blind", ["--strict"], 3),
        ("blind", "base", ["--strict"], 3),
        ("blind", "blind", ["--strict"], 0),
        ("base", "one", ["--strict"], 0),
    ],
)
def test_exit_codes(folder: Path, base: str, new: str, options: list[str], code: int) -> None:
    result = invoke(folder / f"{base}.json", folder / f"{new}.json", *options)
    assert (result.exit_code, result.stderr) == (code, "")


@pytest.mark.parametrize("output_format", ["terminal", "github", "csv"])
def test_a_reader_that_leaves_early_is_no_regression(folder: Path, output_format: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    base = str(folder / "base.json")
    done = subprocess.run(
        [sys.executable, "-m", "benchbox.cli", "compare", base, base, "--format", output_format],
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_terminal_that_lacks_letters_gets_the_rest() -> None:
    examples = ROOT / "docs/examples"
    for output_format in ("terminal", "markdown"):
        done = compare(
            examples / "base.json",
            examples / "new.json",
            "--format",
            output_format,
            PYTHONIOENCODING="ascii",
        )
        assert (done.returncode, done.stderr) == (1, "")
        assert "1 regression, 1 slower, 1 faster, 2 same" in done.stdout


def test_the_worst_of_several_reports_decides(folder: Path) -> None:
    files = [folder / f"{name}.json" for name in ("base", "base", "driver", "slow")]
    result = invoke(*files, "--format", "json")
    assert result.exit_code == 1
    assert len(json.loads(result.stdout)["comparisons"]) == 3


def test_the_committed_reports_show_what_the_docs_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "96")
    result = invoke("docs/examples/base.json", "docs/examples/new.json")
    page = (ROOT / "docs/compare.md").read_text(encoding="utf-8")
    shown = page.split("<!-- checked by tests/test_compare_cli.py -->\n```\n")[1].split("```")[0]
    assert "\n".join(line.rstrip() for line in result.stdout.splitlines()) + "\n" == shown
    assert result.exit_code == 1


def test_a_figure_that_one_side_lacks_is_told_with_the_reason(folder: Path) -> None:
    for sides, which in ((("base", "blind"), "new"), (("blind", "base"), "base")):
        files = [folder / f"{name}.json" for name in sides]
        says = f"energy of 5 cases: not measured in the {which} report"
        for output_format in ("terminal", "markdown"):
            assert says in invoke(*files, "--format", output_format).stdout
        printed = invoke(*files, "--format", "github").stdout
        assert printed.count(f"::energy inconclusive: not measured in the {which} report\n") == 5
        found = json.loads(invoke(*files, "--format", "json").stdout)["comparisons"][0]["cases"][0]
        assert [(m["verdict"], m["ratio"]) for m in found["metrics"][2:]] == [("inconclusive", None)]


def test_what_to_say_when_the_difference_is_the_point(folder: Path) -> None:
    text = invoke(folder / "base.json", folder / "driver.json").stdout
    assert "driver: 580.95.05 -> 590.10" in text
    assert "--across driver" in text


def test_what_to_say_holds_what_was_said(folder: Path, tmp_path: Path) -> None:
    report = read_report(folder / "driver.json")
    software = replace(report.environment.software, torch="2.99.0")
    environment = replace(report.environment, software=software)
    new = written(replace(report, environment=environment), tmp_path / "new.json")
    result = invoke(folder / "base.json", new, "--across", "torch")
    assert result.exit_code == 3
    said = result.stdout.split("unless that is the point: ")[1].split("\n")[0].split()
    assert invoke(folder / "base.json", new, *said).exit_code == 0


def test_github_gets_a_summary_and_annotations(folder: Path, tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    files = folder / "base.json", folder / "slow.json"
    result = compare(*files, "--format", "github", GITHUB_STEP_SUMMARY=str(summary))
    assert result.returncode == 1
    assert result.stdout.count("::error title=") == 5
    assert summary.read_text().startswith("before\n## ")
    assert "| case" in summary.read_text()
    assert "| case" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--threshold", "0"], "--threshold: 0 is not a percentage"),
        (["--memory-threshold", "nan"], "--memory-threshold: nan is not a percentage"),
        (["--across", "weather"], "--across: 'weather' is not one of device"),
    ],
)
def test_a_bad_option_is_refused(folder: Path, arguments: list[str], says: str) -> None:
    result = invoke(folder / "base.json", folder / "base.json", *arguments)
    assert isinstance(result.exception, BadInputError)
    assert says in str(result.exception)
    assert result.stdout == ""


def step_times(document: dict[str, Any]) -> list[int]:
    times: list[int] = document["cases"][0]["attempts"][0]["ranks"][0]["step_time_ns"]
    return times


def telemetry(document: dict[str, Any]) -> dict[str, list[float]]:
    columns: dict[str, list[float]] = document["cases"][0]["attempts"][0]["devices"][0]
    return columns


IN_TEXT: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda report: report[: len(report) // 2],
    "no JSON": lambda report: b"\x00\x01",
    "a list": lambda report: b"[]",
    "NaN": lambda report: report.replace(b'"duration_s": 8.5', b'"duration_s": NaN', 1),
    "too large": lambda report: report + b" " * (200 << 20),
}
IN_DOCUMENT: dict[str, Callable[[dict[str, Any]], object]] = {
    "wrong type": lambda document: document.update(complete="yes"),
    "negative time": lambda document: step_times(document).insert(0, -1),
    "power beyond all": lambda document: telemetry(document)["power_w"].__setitem__(0, 1.7e308),
    "energy beyond all": lambda document: telemetry(document)["energy_j"].__setitem__(0, 1.7e308),
    "id twice": lambda document: document["cases"].append(document["cases"][0]),
    "another list of cases": lambda document: document["suite"]["cases"].pop(),
    "newer": lambda document: document.update(schema_version=99),
}


def spoilt(report: bytes, kind: str) -> bytes:
    if kind in IN_TEXT:
        return IN_TEXT[kind](report)
    document = json.loads(report)
    IN_DOCUMENT[kind](document)
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("truncated", "JSON"),
        ("no JSON", "JSON"),
        ("wrong type", "complete"),
        ("NaN", "JSON"),
        ("negative time", "step_time_ns"),
        ("power beyond all", "power_w"),
        ("energy beyond all", "energy_j"),
        ("id twice", "case"),
        ("another list of cases", "case"),
        ("newer", "newer benchbox"),
        ("a list", "object"),
        ("too large", "larger than"),
    ],
)
def test_a_bad_report_is_one_line_and_exit_code_2(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    says: str,
) -> None:
    good = (folder / "base.json").read_bytes()
    path = tmp_path / "bad.json"
    path.write_bytes(spoilt(good, kind))
    assert path.read_bytes() != good
    monkeypatch.setattr(sys, "argv", ["benchbox", "compare", str(folder / "base.json"), str(path)])
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # those of the tests' own process stay
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    assert (ended.value.code, printed.out, printed.err.count("\n")) == (2, "", 1), printed.err
    assert str(path) in printed.err
    assert says in printed.err


@pytest.mark.parametrize("output_format", ["terminal", "markdown", "github", "junit", "json", "csv"])
def test_names_that_command_a_terminal_or_a_runner_are_shown_harmless(
    folder: Path, tmp_path: Path, output_format: str
) -> None:
    document = json.loads((folder / "base.json").read_bytes())
    hostile = "\x1b[31m::error::x\n::set-output name=a::b<script>alert(1)</script>`|"
    document["environment"]["driver"] = hostile
    for case in (*document["cases"], *document["suite"]["cases"]):
        case.get("case", case)["model"] = hostile
    path = tmp_path / "hostile.json"
    path.write_text(json.dumps(document))
    done = compare(folder / "base.json", path, "--format", output_format, GITHUB_STEP_SUMMARY="")
    assert done.returncode in (2, 3), done.stderr
    shown = done.stdout + done.stderr
    assert "\x1b" not in shown
    commands = [line for line in shown.splitlines() if line.startswith("::")]
    assert all(line.startswith("::error title=benchbox%3A not comparable::") for line in commands), commands
    assert bool(commands) == (output_format == "github")
    if output_format in ("markdown", "github", "junit"):  # what becomes a page; a command's text does not
        assert not [line for line in shown.splitlines() if "<script>" in line and line not in commands]
