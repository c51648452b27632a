"""Reports in notebooks, sparklines, and what the command line writes and completes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace
from rich.cells import cell_len

import benchbox
from benchbox.cli.complete import complete_suite
from benchbox.cli.report import report as show
from benchbox.errors import BadInputError, MissingPackageError
from benchbox.report.csvfile import columns
from benchbox.report.files import write_report
from benchbox.report.html.page import render_page
from benchbox.report.notebook import LoadedReport
from benchbox.report.shown import read_shown
from benchbox.report.sparkline import sparkline, telemetry_lines
from benchbox.schema import Diagnosis, Report
from tests.factories import hostile_report, make_report

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/report/golden/report-v2.json"


def command(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-m", "benchbox.cli", *map(str, arguments)]
    return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


class TestNotebook:
    def test_importing_benchbox_is_light(self) -> None:
        code = "import sys, benchbox; benchbox.load; print(*sorted(sys.modules))"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
        )
        loaded = set(done.stdout.split())
        assert "benchbox" in loaded
        assert not {"msgspec", "numpy", "pandas", "matplotlib", "rich", "torch", "benchbox.report"} & loaded

    def test_load_gives_typed_records(self) -> None:
        loaded = benchbox.load(str(GOLDEN))
        assert isinstance(loaded.report, Report)
        assert len(loaded) == len(loaded.cases) == 3
        assert repr(loaded) == "<benchbox report, quick: 3 cases on NVIDIA H100 80GB HBM3>"
        with pytest.raises(BadInputError, match=r"nowhere\.json: cannot be read"):
            benchbox.load("nowhere.json")

    def test_a_data_frame_has_a_row_a_case_and_numbers_in_it(self) -> None:
        report = make_report()
        frame = LoadedReport(report).to_dataframe()
        assert list(frame.columns) == columns()
        assert list(frame["case_id"]) == [result.case.case_id for result in report.cases]
        best = frame.loc[frame["samples_per_second"].idxmax()]
        rates = [result.summary.samples_per_second for result in report.cases if result.summary]
        assert best["samples_per_second"] == max(rates)
        oom = frame[frame["outcome"] == "oom"].iloc[0]
        assert oom.isna()["samples_per_second"]

    def test_without_pandas_it_says_what_to_do(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pandas", None)
        with pytest.raises(MissingPackageError, match="pip install pandas"):
            LoadedReport(make_report()).to_dataframe()

    def test_html_shows_cases_and_reasons_and_escapes(self) -> None:
        shown = LoadedReport(make_report())._repr_html_()
        assert shown.count("<tr>") == 9
        assert "CUDA out of memory" in shown
        hostile = LoadedReport(hostile_report("<script>alert(1)</script>"))._repr_html_()
        assert "<script" not in hostile
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in hostile


class TestSparkline:
    def test_blocks_grow_with_values_from_zero(self) -> None:
        assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
        assert sparkline([3, 4, 10], bottom=3) == "▁▂█"
        assert sparkline([None, 1]) == " █"
        assert sparkline([0, 0]) == "▁▁"
        assert sparkline([]) == ""

    @pytest.mark.parametrize("width", [40, 80, 200])
    @pytest.mark.parametrize("device", ["cuda", "cpu"])
    def test_telemetry_fits(self, width: int, device: str) -> None:
        lines = telemetry_lines(make_report(device), width)
        assert all(cell_len(line) <= width for line in lines)

    def test_telemetry_of_the_quickest_case(self) -> None:
        lines = telemetry_lines(make_report(), 100)
        assert lines[0] == "Telemetry of small-cnn b128 fp32 loader, each line from 0:"
        assert any(re.match(r"power +[▁▂▃▄▅▆▇█ ]+ +6\d\d to 6\d\d W", line) for line in lines)

    def test_held_back_clocks_are_marked(self) -> None:
        report = make_report()
        assert not any("!" in line for line in telemetry_lines(report, 100))
        result = report.cases[4]
        attempts = tuple(
            replace(
                a, devices=tuple(replace(d, throttle_reasons=(4,) * len(d.sample_at_ns)) for d in a.devices)
            )
            for a in result.attempts
        )
        throttled = replace(report, cases=(*report.cases[:4], replace(result, attempts=attempts)))
        assert any(
            line.startswith("clocks held back") and "!" in line for line in telemetry_lines(throttled, 100)
        )

    def test_nothing_sampled_is_no_line(self) -> None:
        report = make_report("cpu")
        cases = tuple(
            replace(c, attempts=tuple(replace(a, host=None) for a in c.attempts)) for c in report.cases
        )
        assert telemetry_lines(replace(report, cases=cases), 80) == []


class TestCommands:
    def test_plot_writes_a_file(self, tmp_path: Path) -> None:
        write_report(make_report(), tmp_path / "report.json")
        done = command("plot", "report.json", "--kind", "phases", "-o", "x.png", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "written: x.png\n"
        assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")

    def test_a_locale_without_letters_ends_nothing(self, tmp_path: Path) -> None:
        odd = tmp_path / os.fsdecode(b"\xff.json")
        write_report(make_report(), odd)
        script = f"import pty, sys; sys.exit(pty.spawn([{sys.executable!r}, *sys.argv[1:]]) >> 8)"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
        piped = [sys.executable, "-m", "benchbox.cli", "report", odd]
        on_a_terminal = [sys.executable, "-c", script, *piped[1:]]
        for line, plus_minus in ((piped, "±"), (on_a_terminal, "?")):
            done = subprocess.run(
                line,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                cwd=tmp_path,
            )
            assert (done.returncode, done.stderr) == (0, b"")
            assert f"{plus_minus} 0.94 %" in done.stdout.decode()
        piped[3:] = ["report", odd, "--format", "html", "-o", odd.with_suffix(".html")]
        done = subprocess.run(piped, env=environment, capture_output=True, check=False, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (0, f"written: {tmp_path}/?.html\n".encode())

    def test_html_goes_to_a_file_or_to_standard_output(self, tmp_path: Path) -> None:
        done = command("report", GOLDEN, "--format", "html", "-o", "page.html", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        page = (tmp_path / "page.html").read_text()
        assert page.lstrip().startswith("<!doctype html>")
        assert render_page([read_shown(GOLDEN)]) == page

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            ("plot report.json", "--out: say which .svg"),
            ("plot report.json -o x.gif", "--out: x.gif: the name must end in .svg, .png or .pdf"),
            ("plot report.json -o nowhere/x.svg", "nowhere/x.svg: there is no folder nowhere"),
            ("plot report.json -o x.svg --kind scaling", "scaling: no configuration was measured on two"),
            (
                "plot report.json -o x.svg --kind telemetry --case no",
                "--case: 'no' is no case of this report",
            ),
            ("plot report.json -o x.svg --case no", "--case: says which case's telemetry to draw"),
            ("report report.json -o x.txt", "--out: needs a --format"),
            ("report report.json --format html -o report.json", "--out: report.json: is one of the reports"),
            ("report report.json --format html -o .", "--out: .: is a folder"),
        ],
    )
    def test_a_bad_call_is_one_line_and_writes_nothing(
        self, arguments: str, told: str, tmp_path: Path
    ) -> None:
        write_report(make_report(), tmp_path / "report.json")
        before = (tmp_path / "report.json").read_bytes()
        done = command(*arguments.split(), cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 1
        assert told in done.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
        assert (tmp_path / "report.json").read_bytes() == before


class TestVerdicts:
    """A report that holds a verdict by older rules."""

    @pytest.fixture
    def stale(self, tmp_path: Path) -> Path:
        old = Diagnosis(bottleneck="host-memory", sureness="sure", evidence=(), next_step=None)
        report = make_report()
        path = tmp_path / "report.json"
        write_report(replace(report, cases=tuple(replace(c, diagnosis=old) for c in report.cases)), path)
        return path

    @pytest.mark.parametrize("output_format", ["terminal", "markdown", "csv", "html"])
    def test_every_format_shows_it_by_the_rules_of_today(
        self, output_format: str, stale: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        verdicts = [case.diagnosis.bottleneck for case in read_shown(stale).cases if case.diagnosis]
        assert set(verdicts) - {"unknown"}
        show([stale], output_format, None)  # type: ignore[arg-type]
        shown = capsys.readouterr().out
        assert "host-memory" not in shown
        assert all(verdict in shown for verdict in set(verdicts) - {"unknown"})

    def test_a_notebook_too(self, stale: Path) -> None:
        loaded = benchbox.load(stale)
        assert [case.diagnosis for case in loaded.cases] == [c.diagnosis for c in read_shown(stale).cases]
        assert "host-memory" not in set(loaded.to_dataframe()["bottleneck"])
        assert "host-memory" not in loaded._repr_html_()


class TestCompletion:
    def test_suites_by_name_and_files_beside(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "mine").mkdir()
        for name in ("quicker.toml", "mine/a.toml", "mine/notes.txt", ".hidden.toml"):
            (tmp_path / name).touch()
        monkeypatch.chdir(tmp_path)
        assert {"quick", "reference", "mine/", "quicker.toml"} <= set(complete_suite(""))
        assert complete_suite("qui") == ["quick", "quicker.toml"]
        assert complete_suite("mine/") == ["mine/a.toml"]
        assert complete_suite("nowhere/x") == []

    def test_the_shell_is_offered_them(self, tmp_path: Path) -> None:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "_BENCHBOX_COMPLETE": "complete_bash",
            "COMP_WORDS": "benchbox run q",
            "COMP_CWORD": "2",
        }
        script = Path(sys.executable).with_name("benchbox")
        done = subprocess.run(
            [script], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.stdout.split() == ["quick"]

    def test_it_can_be_installed(self, tmp_path: Path) -> None:
        # For the shell that called it, which has to stay for that.
        line = f'"{sys.executable}" -m benchbox.cli --show-completion; exit $?'
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0
        assert "complete" in done.stdout
