"""The command line from outside: what it prints, writes, refuses, and with which code it ends."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from benchbox import stats
from benchbox.report.files import read_report
from tests.factories import make_report
from tests.runs import (
    ONE_CASE,
    FinishedRun,
    benchbox,
    environment,
    importing,
    journal_attempts,
    write_suite,
)

GOLDEN = Path(__file__).parent / "report" / "golden" / "report-v1.json"
FP16 = '[workload]\nmodel = "mlp"\nsizes = [16, 8, 4]\n[axes]\nprecision = ["fp16"]\n'


def content(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def assert_refused(done: subprocess.CompletedProcess[str], *told: str) -> None:
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("benchbox: ")
    assert line.isprintable()
    for text in told:
        assert text in line


class TestRun:
    def test_a_run_ends_well_and_writes_report_summary_and_journal(self, finished: FinishedRun) -> None:
        assert finished.done.returncode == 0, finished.done.stderr
        assert finished.done.stderr == ""
        assert sorted(path.name for path in finished.out.iterdir()) == [
            "journal.jsonl",
            "report.json",
            "report.md",
        ]
        assert finished.report.complete
        assert [case.outcome for case in finished.report.cases] == ["ok", "ok"]
        assert (finished.out / "report.md").read_text().startswith("# ")

    def test_the_report_holds_what_the_journal_holds(self, finished: FinishedRun) -> None:
        in_report = [attempt for case in finished.report.cases for attempt in case.attempts]
        assert sorted(in_report, key=repr) == sorted(journal_attempts(finished.out), key=repr)
        assert len(in_report) == 4

    def test_what_watching_costs_is_measured(self, finished: FinishedRun) -> None:
        cost = finished.report.telemetry_cost
        assert cost is not None
        assert cost.case_id in {case.case.case_id for case in finished.report.cases}
        assert cost.effect_pct_interval.low <= cost.effect_pct <= cost.effect_pct_interval.high
        assert cost.num_steps_on > 100
        assert cost.num_steps_off > 100
        assert "measuring what watching costs" in finished.done.stdout

    def test_without_a_terminal_there_is_one_plain_line_an_attempt(self, finished: FinishedRun) -> None:
        lines = finished.done.stdout.splitlines()
        assert sum(bool(re.match(r"\[\d/4\] mlp b\d", line)) for line in lines) == 4
        assert lines[-1] == f"written: {finished.report_path} and report.md"
        assert "\x1b" not in finished.done.stdout

    def test_the_controller_never_imports_torch(self, finished: FinishedRun) -> None:
        assert "benchbox.measure.runner" in finished.imported
        assert not {"torch", "deepspeed", "numpy"} & finished.imported

    def test_the_controller_is_light(self, finished: FinishedRun) -> None:
        assert finished.report.controller_peak_rss_bytes is not None
        assert finished.report.controller_peak_rss_bytes < 120e6

    def test_an_existing_report_is_refused_and_left_alone(self, finished: FinishedRun) -> None:
        before = content(finished.out)
        done = benchbox("run", finished.suite, "--out", finished.out, cwd=finished.out)
        assert_refused(done, "journal.jsonl: exists", "--resume", "--force", "--out")
        assert content(finished.out) == before

    def test_a_report_without_its_journal_cannot_be_resumed_and_is_left_alone(
        self, finished: FinishedRun, tmp_path: Path
    ) -> None:
        shutil.copy(finished.report_path, tmp_path / "report.json")
        before = content(tmp_path)
        done = benchbox("run", finished.suite, "--out", tmp_path, "--resume", cwd=finished.out)
        assert_refused(done, "report.json: exists", "no journal", "--force")
        assert content(tmp_path) == before

    @pytest.mark.parametrize("more", [[], ["--resume"]], ids=["anew", "resume"])
    def test_a_summary_that_someone_wrote_is_refused_and_left_alone(
        self, more: list[str], tmp_path: Path
    ) -> None:
        suite = write_suite(tmp_path)
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "report.md").write_text("mine")
        before = content(tmp_path)
        done = benchbox("run", suite, "--out", "out", *more, cwd=tmp_path)
        assert_refused(done, "report.md: exists", "--force")
        assert content(tmp_path) == before

    def test_force_replaces_and_quiet_prints_nothing(self, finished: FinishedRun, tmp_path: Path) -> None:
        shutil.copytree(finished.out, tmp_path / "out")
        suite = write_suite(tmp_path, ONE_CASE, name="other")
        done = benchbox("run", suite, "--out", tmp_path / "out", "--force", "--quiet", cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert read_report(tmp_path / "out" / "report.json").suite.name == "other"
        assert len(journal_attempts(tmp_path / "out")) == 1

    def test_no_case_that_went_well_is_exit_code_1(self, tmp_path: Path) -> None:
        suite = write_suite(tmp_path, FP16, telemetry_hz=10)
        done = benchbox("run", suite, "--out", tmp_path / "out", cwd=tmp_path)
        assert done.returncode == 1
        assert done.stderr == ""
        assert "unsupported  fp16 training on a CPU" in done.stdout
        assert "what watching costs" not in done.stdout
        report = read_report(tmp_path / "out" / "report.json")
        assert [case.outcome for case in report.cases] == ["unsupported"]
        assert report.complete

    def test_list_shows_the_cases_runs_none_and_imports_no_torch(
        self, finished: FinishedRun, tmp_path: Path
    ) -> None:
        done, imported = importing("run", finished.suite, "--list", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        for case in finished.report.cases:
            assert case.case.case_id in done.stdout
        assert "2 cases, 2 repetitions" in done.stdout
        assert "\x1b" not in done.stdout
        assert not {"torch", "benchbox.measure.runner", "benchbox.measure.launch"} & imported
        assert content(tmp_path) == {}

    @pytest.mark.parametrize("name", ["quick", "reference", "ci"])
    def test_shipped_suites_are_known_by_name(self, name: str, tmp_path: Path) -> None:
        done = benchbox("run", name, "--list", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert " cases, " in done.stdout


class TestReport:
    def test_the_schema_is_one_and_the_report_obeys_it(self, finished: FinishedRun, tmp_path: Path) -> None:
        done = benchbox("schema", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        schema = json.loads(done.stdout)
        jsonschema.Draft202012Validator.check_schema(schema)
        jsonschema.validate(json.loads(finished.report_path.read_text()), schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"schema_version": 1}, schema)

    def test_reporting_imports_no_torch(self, finished: FinishedRun, tmp_path: Path) -> None:
        done, imported = importing("report", finished.report_path, cwd=tmp_path)
        assert done.returncode == 0
        assert "benchbox.report.terminal" in imported
        assert not {"torch", "deepspeed"} & imported

    def test_terminal_output_in_a_pipe_has_no_escapes(self, finished: FinishedRun, tmp_path: Path) -> None:
        done = benchbox("report", finished.report_path, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert "samples/s" in done.stdout
        assert "\x1b" not in done.stdout

    def test_csv_has_a_row_a_case_of_every_report(self, finished: FinishedRun, tmp_path: Path) -> None:
        done = benchbox("report", "--format", "csv", finished.report_path, GOLDEN, cwd=tmp_path)
        rows = list(csv.DictReader(io.StringIO(done.stdout)))
        assert len(rows) == len(finished.report.cases) + len(read_report(GOLDEN).cases)
        for row, case in zip(rows, finished.report.cases, strict=False):
            assert case.summary is not None
            assert row["case_id"] == case.case.case_id
            assert row["per_device_batch_size"] == str(case.case.per_device_batch_size)
            assert row["outcome"] == "ok"
            assert float(row["samples_per_second"]) == pytest.approx(
                case.summary.samples_per_second, rel=1e-3
            )

    def test_markdown_is_the_summary_beside_the_report(self, finished: FinishedRun, tmp_path: Path) -> None:
        done = benchbox("report", "--format", "markdown", finished.report_path, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == (finished.out / "report.md").read_text()

    def test_pytest_benchmarks_format_has_the_measured_medians(
        self, finished: FinishedRun, tmp_path: Path
    ) -> None:
        done = benchbox("report", "--format", "pytest-benchmark", finished.report_path, cwd=tmp_path)
        benchmarks = json.loads(done.stdout)["benchmarks"]
        assert len(benchmarks) == 2
        for benchmark, case in zip(benchmarks, finished.report.cases, strict=True):
            times_ns = [t for attempt in case.attempts for t in attempt.ranks[0].step_time_ns]
            assert benchmark["stats"]["median"] == pytest.approx(stats.median(times_ns) / 1e9)


def damaged(**changes: Any) -> str:
    return json.dumps(json.loads(GOLDEN.read_text()) | changes)


BAD_SUITES = {
    "not-toml": ("[workload\n", "not valid TOML"),
    "unknown-key": ("[axis]\n", "`axis`"),
    "bad-precision": ('[axes]\nprecision = ["fp32", "bf61"]\n', "axes.precision[1]"),
    "bad-type": ("[measure]\nrepetitions = 1.5\n", "measure.repetitions"),
    "hostile": ('[workload]\nmodel = "\\u001b[2J\\n\\u202e"\n', "workload.model"),
    "binary": ("\x00\x01", "not valid TOML"),
    "huge": ("#" * (1 << 20) + "\n", "larger than"),
    "no-case": (
        '[axes]\nprecision = ["fp32"]\n[[exclude]]\nprecision = "fp32"\n',
        "`exclude`: leaves no case",
    ),
}
BAD_REPORTS = {
    "empty": ("", "not valid JSON"),
    "truncated": (GOLDEN.read_text()[:-300], "not valid JSON"),
    "newer": (damaged(schema_version=99, cases={"quite": "different"}), "newer benchbox (schema 99"),
    "mistyped": (damaged(complete="yes"), "`complete`: expected `bool`, got `str`"),
    "hostile": (damaged(**{"\x1b[2J\u202e": 1}), "unknown field"),
    "deep": ("[" * 100_000, "bad.json: "),
    "no-report": ("[1, 2]", "bad.json: "),
}


class TestBadInput:
    @pytest.mark.parametrize("name", BAD_SUITES)
    def test_a_bad_suite_is_one_line(self, name: str, tmp_path: Path) -> None:
        text, told = BAD_SUITES[name]
        (tmp_path / "bad.toml").write_text(text)
        before = content(tmp_path)
        done = benchbox("run", "bad.toml", "--out", "out", cwd=tmp_path)
        assert_refused(done, "bad.toml: ", told)
        assert content(tmp_path) == before

    @pytest.mark.parametrize("name", BAD_REPORTS)
    def test_a_bad_report_is_one_line(self, name: str, tmp_path: Path) -> None:
        text, told = BAD_REPORTS[name]
        (tmp_path / "bad.json").write_text(text)
        assert_refused(benchbox("report", GOLDEN, "bad.json", cwd=tmp_path), "bad.json: ", told)

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            ("run qiuck", "qiuck: no such file, and not one of the shipped suites (ci, "),
            ("run quick --resume --force --out out", "--resume and --force: choose one"),
            ("report nowhere.json", "nowhere.json: cannot be read: No such file or directory"),
            ("report .", ".: not a regular file"),
            (
                f"report --format pytest-benchmark {GOLDEN} {GOLDEN}",
                "--format pytest-benchmark: got 2 reports",
            ),
            ("hw show H9000", "'H9000' is no hardware profile"),
            ("hw init --device tpu", "--device: 'tpu' is none of auto, cpu, cuda:N"),
        ],
    )
    def test_a_bad_argument_is_one_line(self, arguments: str, told: str, tmp_path: Path) -> None:
        assert_refused(benchbox(*arguments.split(), cwd=tmp_path), told)
        assert content(tmp_path) == {}

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            ("nope", "benchbox: No such command 'nope'; see benchbox --help"),
            ("run", "benchbox run: Missing argument 'suite'; see benchbox run --help"),
            ("run quick --nope", "benchbox run: No such option: --nope"),
            ("plan --samples 1e6 report.json", "benchbox plan: Invalid value for '--samples': "),
            ("grade --format xml table.csv", "'xml' is not one of 'terminal', "),
        ],
    )
    def test_what_the_parser_refuses_is_one_line(self, arguments: str, told: str, tmp_path: Path) -> None:
        done = benchbox(*arguments.split(), cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        assert told in line

    def test_a_device_that_is_not_there_is_one_line_and_nothing_is_written(self, tmp_path: Path) -> None:
        suite = write_suite(tmp_path)
        before = content(tmp_path)
        done = benchbox("run", suite, "--out", "out", "--device", "cuda:77", cwd=tmp_path)
        assert_refused(done, "--device: 'cuda:77' is not on this machine; torch sees cpu")
        assert content(tmp_path) == before

    def test_an_output_folder_that_cannot_be_is_one_line(self, tmp_path: Path) -> None:
        suite = write_suite(tmp_path)
        (tmp_path / "out").write_text("a file")
        done = benchbox("run", suite, "--out", "out", cwd=tmp_path)
        assert_refused(done, "--out: ", "out: is a file, not a folder")
        assert (tmp_path / "out").read_text() == "a file"


class TestHardware:
    def test_list_shows_every_shipped_profile(self, tmp_path: Path) -> None:
        done = benchbox("hw", "list", cwd=tmp_path, XDG_CONFIG_HOME=str(tmp_path))
        assert (done.returncode, done.stderr) == (0, "")
        names = re.findall(r'^name = "(.+)"', "\n".join(p.read_text() for p in PROFILES), re.MULTILINE)
        assert len(names) == len(PROFILES)
        for name in names:
            assert name in done.stdout

    def test_show_gives_a_profile_with_its_sources(self, tmp_path: Path) -> None:
        done = benchbox("hw", "show", "l4", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert "NVIDIA L4" in done.stdout
        assert "ource" in done.stdout

    def test_detect_shows_this_machines_processor(self, tmp_path: Path) -> None:
        done, imported = importing("hw", "detect", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        from benchbox.measure.host_facts import host_facts

        assert host_facts().cpu_model.split()[0] in done.stdout
        assert "torch" not in imported

    def test_after_init_a_run_is_set_against_what_was_reached_here(self, tmp_path: Path) -> None:
        home = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
        init = benchbox("hw", "init", "--device", "cpu", "--seconds", "0.05", cwd=tmp_path, **home)
        assert (init.returncode, init.stderr) == (0, "")
        (written,) = (tmp_path / "config" / "benchbox" / "hw_profiles").iterdir()
        assert init.stdout.splitlines()[-1] == f"written: {written}"
        assert written.stem in benchbox("hw", "list", cwd=tmp_path, COLUMNS="200", **home).stdout

        again = benchbox("hw", "init", "--device", "cpu", "--seconds", "60", cwd=tmp_path, **home)
        assert_refused(again, f"{written}: exists already", "--overwrite")  # at once, without measuring

        suite = write_suite(tmp_path, ONE_CASE)
        done = benchbox("run", suite, "--out", tmp_path / "out", cwd=tmp_path, **home)
        assert done.returncode == 0, done.stderr
        report = read_report(tmp_path / "out" / "report.json")
        assert report.hardware_profile is not None
        assert report.hardware_profile.name == written.stem
        (case,) = report.cases
        assert case.summary is not None
        assert case.summary.ceiling_fraction is not None
        assert case.summary.ceiling_fraction > 0
        assert case.summary.mfu is None
        shown = benchbox("report", "--format", "csv", tmp_path / "out" / "report.json", cwd=tmp_path)
        (row,) = csv.DictReader(io.StringIO(shown.stdout))
        assert float(row["ceiling_fraction"]) > 0
        assert row["mfu"] == ""


PROFILES = sorted((Path(__file__).parents[1] / "hw_profiles").glob("*.toml"))


@pytest.mark.parametrize("module", ["benchbox", "benchbox.cli"])
def test_the_module_can_be_run_like_the_script(tmp_path: Path, module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "run" in done.stdout


def test_a_synthetic_report_of_a_gpu_is_shown_too(tmp_path: Path) -> None:
    from benchbox.report.files import write_report

    write_report(make_report(), tmp_path / "report.json")
    done = benchbox("report", "report.json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "H100" in done.stdout
