from __future__ import annotations

import csv
import io
import json
import re
import signal
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from benchbox.analyze.plan_sources import measured_cases
from benchbox.cli import app, main
from benchbox.errors import BadInputError
from benchbox.report.files import read_report, write_report
from benchbox.report.text import significant
from tests.factories import make_profile, make_report
from tests.tables import profile

COMMITTED = Path(__file__).parents[2] / "reports/intel-r-xeon-r-processor-2-processors/quick/report.json"
PRICES = """
currency = "EUR"
date = 2026-01-05
grid_g_co2_per_kwh = 400
[[device]]
name = "H100-SXM5-80GB"
per_hour = 4.0
[[device]]
name = "A100-SXM4-80GB"
per_hour = 2.0
"""


@pytest.fixture
def inputs(tmp_path: Path) -> list[str]:
    """A report of an H100, as a file, with prices and a job."""
    own = profile("H100-SXM5-80GB")
    assert own.match_names == make_profile().match_names
    write_report(replace(make_report(), hardware_profile=own), tmp_path / "report.json")
    (tmp_path / "prices.toml").write_text(PRICES)
    (tmp_path / "job.toml").write_text('[job]\nmodel = "reference-cnn"\nsamples = 10_000_000\n')
    return [
        str(tmp_path / "report.json"),
        "--prices",
        str(tmp_path / "prices.toml"),
        "--job",
        str(tmp_path / "job.toml"),
    ]


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["plan", *arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def test_the_terminal_shows_answers_and_ranks_within_80_columns(inputs: list[str]) -> None:
    text = run(*inputs, "--deadline", "1m", "--budget", "1000")
    assert max(map(len, text.splitlines())) <= 80
    for word in (
        "fastest:",
        "cheapest:",
        "deadline of 60.0 s: no;",
        "would be enough",
        "budget",
        "2026-01-05",
    ):
        assert word in text


def test_prices_of_a_day_to_come_are_refused(inputs: list[str]) -> None:
    path = Path(inputs[2])
    path.write_text(PRICES.replace("2026-01-05", "9999-01-01"))
    refused = CliRunner().invoke(app, ["plan", *inputs])
    assert isinstance(refused.exception, BadInputError)
    assert "9999-01-01 is still to come" in str(refused.exception)


def test_nothing_in_a_report_reaches_the_terminal_or_a_runner(inputs: list[str]) -> None:
    """Neither as an escape sequence nor as a command."""
    path = Path(inputs[0])
    report = read_report(path)
    name = "evil\x1b[2J ##[error]boo"
    device = replace(report.environment.devices[0], name=name)
    environment = replace(report.environment, devices=(device,) * len(report.environment.devices))
    write_report(replace(report, environment=environment, hardware_profile=None), path)
    texts = {form: run(*inputs, "--format", form) for form in ("terminal", "markdown", "json", "csv")}
    assert all("\x1b" not in text for text in texts.values())
    assert "evil" in texts["terminal"]
    assert "##" not in texts["json"]
    assert "##[error]boo" in json.dumps(json.loads(texts["json"]))


def test_markdown_json_and_csv_agree(inputs: list[str]) -> None:
    data = json.loads(run(*inputs, "--format", "json", "--counts", "1"))
    rows = list(csv.DictReader(io.StringIO(run(*inputs, "--format", "csv", "--counts", "1"))))
    assert len(rows) == len(data["configurations"])
    assert float(rows[0]["time_s"]) == data["configurations"][0]["time_s"]["value"]
    assert float(rows[0]["cost_high"]) == data["configurations"][0]["cost"]["high"]
    assert {one["basis"] for one in data["configurations"]} == {"measured", "predicted"}
    markdown = run(*inputs, "--format", "markdown", "--counts", "1", "--top", "3")
    assert sum(line.startswith("| ") for line in markdown.splitlines()) == 2 + 3


def test_every_figure_stands_with_its_interval(inputs: list[str]) -> None:
    here = [*inputs, "--counts", "1", "--target", "h100-sxm5-80gb"]
    one = json.loads(run(*here, "--format", "json"))["configurations"][0]
    row = next(csv.DictReader(io.StringIO(run(*here, "--format", "csv"))))
    terminal, markdown = run(*here, "--top", "1"), run(*here, "--top", "1", "--format", "markdown")
    units = {"time_s": (60.0, " min"), "cost": (1.0, ""), "energy_j": (3.6e6, ""), "carbon_g": (1e3, "")}
    for name, (unit, word) in units.items():
        assert one[name]["low"] < one[name]["value"] < one[name]["high"]
        spread = "–".join(significant(one[name][end] / unit) for end in ("low", "high")) + word
        assert spread in terminal
        assert f"| {spread} |" in re.sub(" +", " ", markdown)
        assert [float(row[name + end]) for end in ("", "_low", "_high")] == [
            one[name][end] for end in ("value", "low", "high")
        ]


@pytest.mark.parametrize("samples", [10**3, 10**12, 2 * 10**14])
def test_however_large_the_job_no_figure_is_cut_at_80_columns(inputs: list[str], samples: int) -> None:
    data = run(*inputs, "--counts", "1,8", "--samples", str(samples), "--format", "json")
    text = run(*inputs, "--counts", "1,8", "--samples", str(samples), "--top", "4")
    assert max(map(len, text.splitlines())) <= 80
    for one in json.loads(data)["configurations"][:4]:
        for estimate, unit in ((one["energy_j"], 3.6e6), (one["carbon_g"], 1e3), (one["cost"], 1.0)):
            if estimate is not None:
                assert f"{significant(estimate['low'] / unit)}–{significant(estimate['high'] / unit)}" in text


def test_how_many_configurations_are_not_listed_is_said_in_every_form(inputs: list[str]) -> None:
    many = [*inputs, "--counts", "1-8"]
    data = json.loads(run(*many, "--format", "json"))
    total, listed = data["num_considered"], len(data["configurations"])
    assert total > listed >= 100
    assert data["num_listed"] == listed
    rows = list(csv.DictReader(io.StringIO(run(*many, "--format", "csv"))))
    assert len(rows) == listed
    assert {(row["num_considered"], row["num_listed"]) for row in rows} == {(str(total), str(listed))}
    said = f"15 of {total} configurations are shown, the best first; --format json and csv list {listed}"
    assert said in " ".join(run(*many).split())
    assert said in run(*many, "--format", "markdown")
    few = [*inputs, "--counts", "1", "--target", "h100-sxm5-80gb"]
    assert "are shown" not in run(*few)
    assert "are shown" not in run(*few, "--format", "markdown")


def test_a_plan_from_an_interrupted_run_says_so(inputs: list[str]) -> None:
    path, here = Path(inputs[0]), [*inputs, "--counts", "1", "--format", "json"]
    whole = read_report(path)
    assert not any("interrupted" in note for note in json.loads(run(*here))["notes"])
    last = replace(
        whole.cases[-1], outcome=None, reason="the run was ended before it", attempts=(), summary=None
    )
    write_report(replace(whole, complete=False, cases=(*whole.cases[:-1], last)), path)
    notes = json.loads(run(*here))["notes"]
    said = [note for note in notes if "was interrupted: 1 of its 8 cases" in note]
    assert len(said) == 1
    assert said[0] in " ".join(run(*inputs).split())


def test_options_override_the_job_file(inputs: list[str]) -> None:
    data = json.loads(run(*inputs, "--format", "json", "--samples", "5", "--target", "h100-sxm5-80gb"))
    assert data["samples"] == 5
    assert {one["device"] for one in data["configurations"]} == {"H100-SXM5-80GB"}
    by_epochs = run(*inputs, "--format", "json", "--dataset-size", "10", "--epochs", "2")
    assert json.loads(by_epochs)["samples"] == 20


def test_the_committed_report_plans_the_machine_that_it_was_measured_on() -> None:
    data = json.loads(
        run(
            str(COMMITTED),
            "--model",
            "reference-cnn",
            "--samples",
            "100000",
            "--deadline",
            "2h",
            "--format",
            "json",
        )
    )
    rates = {
        case.case.case_id: case.summary.samples_per_second
        for case in read_report(COMMITTED).cases
        if case.summary and case.case.model == "reference-cnn"
    }
    shown = {one["source"].rpartition(" ")[2]: one for one in data["configurations"]}
    assert {case_id: one["samples_per_second"]["value"] for case_id, one in shown.items()} == rates
    assert {one["basis"] for one in data["configurations"]} == {"measured"}
    assert data["deadline_answer"]["verdict"] == "yes"
    assert any("no GPU with a hardware profile" in entry["reason"] for entry in data["refused"])


def test_products_that_memory_bounds_do_not_scale_with_arithmetic() -> None:
    """With four samples the matrix products of the reference model read weights; its convolutions compute."""
    small = next(
        one
        for one in measured_cases([read_report(COMMITTED)])
        if (one.case.model, one.case.per_device_batch_size) == ("reference-cnn", 4)
    )
    result = next(r for r in read_report(COMMITTED).cases if r.case.case_id == small.case.case_id)
    profile = next(rank.profile for a in result.attempts for rank in a.ranks if rank.profile)
    whole = sum(operator.time_ns for operator in profile.operators)
    shares = {operator.operator_class: operator.time_ns / whole for operator in profile.operators}
    assert shares["matmul"] > 0.2
    assert small.compute_share == pytest.approx(shares["convolution"])


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--samples", "5", "--target", "h100-sxm5-80gb"], "no GPU with a hardware profile was measured"),
        (["--samples", "5", "--target", "h100-sxm"], "did you mean"),
        (["--samples", "5", "--target", "h1oo"], "did you mean H100-"),
        (["--samples", "5", "--target", "NVIDIA A100 80GB"], "did you mean A100-PCIe-80GB or A100-SXM4-80GB"),
        (["--samples", "5", "--target", ","], "--target: no name"),
        (["--samples", "5", "--target", "h100-sxm5-80gb,"], "no GPU with a hardware profile was measured"),
        (["--samples", "0"], "--samples: 0"),
        (["--dataset-size", "10", "--epochs", "nan"], "--epochs: nan"),
        (["--samples", "5", "--budget", "nan"], "--budget: nan"),
        (["--samples", "5", "--top", "0"], "--top: 0"),
        (["--samples", "5", "--devices-per-host", "0"], "--devices-per-host: 0"),
        (["--samples", "5", "--global-batch-size", "-8"], "--global-batch-size: -8"),
        (["--samples", "5", "--network-gb-per-s", "0"], "--network-gb-per-s: 0"),
        ([], "give --samples N"),
        (["--samples", "5", "--deadline", "0h"], "--deadline"),
        (["--samples", "5", "--prices", "none.toml"], "none.toml"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    arguments: list[str],
    what: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["benchbox", "plan", str(COMMITTED), "--model", "reference-cnn", *arguments]
    )
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # pytest's own stay
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    assert ended.value.code == 2
    assert what in printed.err
    assert len(printed.err.splitlines()) == 1
    assert printed.out == ""
