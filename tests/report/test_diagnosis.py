"""Verdicts in every format, and the command that explains and tries them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from benchbox.analyze.trial import judge_trial
from benchbox.errors import BadInputError
from benchbox.plan.changed import apply_suggestion
from benchbox.plan.suite import load_suite
from benchbox.report import diagnosis
from benchbox.report.csvfile import render_csv
from benchbox.report.files import write_report
from benchbox.report.markdown import render_markdown
from benchbox.report.text import case_labels
from benchbox.schema import (
    Diagnosis,
    Evidence,
    Interval,
    MeasureSettings,
    OperatorTime,
    ProfiledStep,
    Report,
    Suggestion,
)
from tests.factories import make_attempt, make_case, make_rank, make_report
from tests.runs import benchbox, write_suite

BF16 = Suggestion(axis="precision", value="bf16", predicted_speedup=Interval(low=1.5, high=3.0))
FOUND = Diagnosis(
    bottleneck="compute",
    sureness="likely",
    evidence=(
        Evidence(what="of operator time is matmul", value=71.0, unit="%"),
        Evidence(what="matmul, intensity", value=116.0, unit="FLOP/byte"),
        Evidence(what="step with its own input", value=14_200_000, unit="ns"),
    ),
    next_step="bf16 instead of fp32",
    suggestion=BF16,
)
STEP = ProfiledStep(
    step_time_ns=14_000_000,
    operators=(
        OperatorTime(
            operator_class="matmul", num_calls=6, time_ns=10_000_000, flops=10**11, least_bytes=10**9
        ),
        OperatorTime(operator_class="pooling", num_calls=2, time_ns=4_000_000, least_bytes=10**9),
    ),
    device_idle_ns=100_000,
    num_kernels=40,
)


def with_verdict() -> Report:
    """The first case has one, with a profiled step behind it."""
    report = make_report()
    first = report.cases[0]
    rank = replace(first.attempts[0].ranks[0], profile=STEP)
    attempts = (replace(first.attempts[0], ranks=(rank,)), *first.attempts[1:])
    first = replace(first, diagnosis=FOUND, attempts=attempts)
    return replace(report, cases=(first, *report.cases[1:]))


def test_every_report_has_a_bottleneck_for_each_case() -> None:
    rows = list(csv.DictReader(io.StringIO(render_csv([make_report()]))))
    assert all(row["bottleneck"] for row in rows)
    by_outcome = {row["outcome"]: row["bottleneck"] for row in rows}
    assert by_outcome["oom"] == "memory-capacity"
    assert by_outcome["invalid"] == "unknown"


def test_csv_has_the_verdict_and_the_suggestion_as_columns() -> None:
    row = next(csv.DictReader(io.StringIO(render_csv([with_verdict()]))))
    assert [row[name] for name in diagnosis.CSV_COLUMNS] == [
        "compute",
        "likely",
        "bf16 instead of fp32",
        "precision",
        "bf16",
        "1.5",
        "3.0",
    ]


def test_markdown_shows_verdict_and_roofline() -> None:
    text = render_markdown(with_verdict())
    (line,) = (line for line in text.splitlines() if "compute (likely)" in line)
    for part in (
        "71.0 % of operator time is matmul",
        "116 FLOP/byte",
        "14.2 ms",
        "1.50 to 3.00 times the rate",
    ):
        assert part in line
    places = [line for line in text.splitlines() if "| matmul " in line or "| pooling " in line]
    assert len(places) == 2
    assert "71.4 %" in places[0]
    assert "100" in places[0]  # FLOP for each byte


def test_one_line_a_case_in_the_terminal() -> None:
    report = with_verdict()
    labels = case_labels([result.case for result in report.cases])
    lines = diagnosis.verdict_lines(report, labels)
    assert lines[0] == (
        "reference-cnn b32 fp32: compute (likely), 71.0 % of operator time is matmul; "
        "next: bf16 instead of fp32 (1.50 to 3.00 times the rate)"
    )


def test_what_the_passes_took_is_told_beside_the_measured_time() -> None:
    report = with_verdict()
    assert diagnosis.passes_line(report) is None  # nobody wrote it down
    case = report.cases[0]
    first, *others = case.attempts
    (rank,) = first.ranks
    timed = replace(first, ranks=(replace(rank, evidence_passes_s=1.5),))
    report = replace(report, cases=(replace(case, attempts=(timed, *others)),))
    measured_s = sum(sum(attempt.ranks[0].step_time_ns) for attempt in case.attempts) / 1e9
    line = diagnosis.passes_line(report)
    assert line is not None
    assert line.startswith("The passes behind these verdicts took 1.50 s, ")
    assert float(line.split("s, ")[1].split(" %")[0]) == pytest.approx(150 / measured_s, rel=0.01)
    assert line in diagnosis.markdown_section(report, case_labels([case.case]))


def test_text_of_a_verdict_does_no_harm() -> None:
    bad = "\x1b[31m|<b>\n# x"
    hostile = replace(
        FOUND,
        evidence=(Evidence(what=bad, value=1.0, unit=bad),),
        next_step=bad,
        suggestion=replace(BF16, axis=bad, value=bad),
    )
    report = make_report()
    report = replace(report, cases=(replace(report.cases[0], diagnosis=hostile), *report.cases[1:]))
    labels = case_labels([result.case for result in report.cases])
    shown = [*diagnosis.verdict_lines(report, labels), diagnosis.full_text(report, report.cases[0], "x")]
    trial = judge_trial(make_case(), make_case(), hostile.suggestion or BF16, ([], []))
    shown += [diagnosis.trial_text(trial, "x"), *diagnosis.markdown_section(report, labels)]
    assert not any("\x1b" in text for text in shown)
    (row,) = (line for line in diagnosis.markdown_section(report, labels) if "# x" in line or "\\# x" in line)
    assert "<b>" not in row
    assert "\x1b" not in render_csv([report])


# --- the command -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def report_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.json"
    write_report(make_report(), path)
    return path


def test_the_command_explains_all_cases_or_one(report_file: Path) -> None:
    whole = benchbox("diagnose", report_file, cwd=report_file.parent)
    assert whole.returncode == 0, whole.stderr
    assert "memory-capacity (sure)" in whole.stdout
    one = benchbox(
        "diagnose", report_file, "reference-cnn b4096 fp32", "--format", "json", cwd=report_file.parent
    )
    told = json.loads(one.stdout)
    assert [case["diagnosis"]["bottleneck"] for case in told["cases"]] == ["memory-capacity"]
    assert told["trial"] is None
    markdown = benchbox("diagnose", report_file, "--format", "markdown", cwd=report_file.parent)
    assert markdown.stdout.startswith("## What is in the way")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("no-such-case",), "CASE: 'no-such-case' is no case of this report"),
        (("reference-cnn b64 fp16", "--try"), "--try: no suggestion to try was found"),
        (("--try", "--suite", "elsewhere.toml"), "elsewhere.toml"),
        (("--device", "cpu"), "--device: goes with --try alone"),
        (("--repetitions", "3"), "--repetitions: goes with --try alone"),
        (
            ("--try", "--device", "cpu"),
            "--try: the report is of NVIDIA H100 80GB HBM3, and this would run on ",
        ),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    report_file: Path, arguments: tuple[str, ...], why: str
) -> None:
    done = benchbox("diagnose", report_file, *arguments, cwd=report_file.parent)
    assert done.returncode == 2
    assert done.stdout == ""
    assert why in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_model_that_a_report_names_is_not_imported(tmp_path: Path) -> None:
    """A report may come from anybody: what it names is run only where a suite of the user's names it too."""
    (tmp_path / "evil.py").write_text("open('imported', 'w')\ndef model(): pass\n")
    report = make_report()
    oom = next(result for result in report.cases if result.outcome == "oom")
    case = replace(oom.case, model="evil:model")
    attempts = tuple(replace(attempt, case_id=case.case_id) for attempt in oom.attempts)
    report = replace(
        report,
        cases=(replace(oom, case=case, attempts=attempts),),
        suite=replace(report.suite, cases=(case,)),
        telemetry_cost=None,
    )
    write_report(report, tmp_path / "report.json")
    done = benchbox("diagnose", "report.json", "--try", cwd=tmp_path)
    assert done.returncode == 2
    assert "say with --suite" in done.stderr
    assert not (tmp_path / "imported").exists()


@pytest.mark.slow
def test_a_suggestion_is_tried_beside_the_original(tmp_path: Path) -> None:
    """Calling operators is what such small steps are busy with: four times the batch is nearly four times the
    rate, whatever else the machine does."""
    suite = write_suite(tmp_path, num_phase_steps=2, repetitions=2, max_seconds=0.8, num_trajectory_steps=0)
    ran = benchbox("run", suite, "--out", "out", "--quiet", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    case_id = load_suite(suite).cases[0].case_id
    done = benchbox(
        "diagnose",
        "out/report.json",
        case_id,
        "--try",
        "--format",
        "json",
        "--repetitions",
        "3",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["cases"][0]["diagnosis"]["bottleneck"] == "host-launch"
    assert told["trial"]["suggestion"]["axis"] == "per_device_batch_size"
    assert told["trial"]["num_pairs"] == 3
    assert told["trial"]["speedup"] > 1.3
    assert told["trial"]["as_predicted"] is True, told["trial"]
    assert told["trial"]["suggested_samples_per_second"] > told["trial"]["samples_per_second"]


# --- trying ------------------------------------------------------------------------------------------------


def test_measured_is_set_against_predicted() -> None:
    before, after = make_case(), make_case(precision="bf16")
    attempts = (
        [make_attempt(before, n, make_rank((step,) * 10)) for n, step in enumerate((20_000_000, 21_000_000))],
        [make_attempt(after, n, make_rank((step,) * 10)) for n, step in enumerate((10_000_000, 10_500_000))],
    )
    trial = judge_trial(before, after, BF16, attempts)
    assert trial.speedup == pytest.approx(2.0)
    assert trial.as_predicted is True
    assert trial.speedup_interval is not None
    assert trial.speedup_interval.low == pytest.approx(2.0)
    slower = judge_trial(before, after, BF16, (attempts[1], attempts[0]))
    assert (slower.as_predicted, slower.reason) == (False, None)
    assert "; not as predicted: 1.50 to 3.00 times" in diagnosis.trial_text(slower, "x")


def test_noise_that_reaches_the_prediction_is_no_refutation() -> None:
    before, after = make_case(), make_case(precision="bf16")
    attempts = (
        [make_attempt(before, n, make_rank((step,) * 10)) for n, step in enumerate((20_000_000, 20_000_000))],
        [make_attempt(after, n, make_rank((step,) * 10)) for n, step in enumerate((3_000_000, 9_000_000))],
    )
    trial = judge_trial(before, after, BF16, attempts)
    assert trial.speedup == pytest.approx(3.85, abs=0.01)
    assert trial.as_predicted is None
    assert "too noisy to say whether as predicted: 1.50 to 3.00 times" in diagnosis.trial_text(trial, "x")


def test_a_side_that_failed_gives_no_speedup() -> None:
    case = make_case()
    failed = make_attempt(case, 0, outcome="oom", reason="no memory", ranks=())
    trial = judge_trial(case, case, BF16, ([make_attempt(case)], [failed]))
    assert (trial.speedup, trial.as_predicted) == (None, None)
    assert trial.reason == "the suggested case ended as oom: no memory"


def test_how_the_suggestion_ends_is_told_where_memory_is_in_the_way_of_the_original() -> None:
    case = make_case()
    failed = make_attempt(case, 0, outcome="oom", reason="no memory", ranks=())
    fits = judge_trial(case, case, BF16, ([failed], [make_attempt(case)]))
    assert (fits.num_pairs, fits.speedup) == (0, None)
    assert fits.suggested_samples_per_second is not None
    text = diagnosis.trial_text(fits, "x")
    assert "samples/s, the suggested case went well; the original ended as oom: no memory" in text
    unknown = make_attempt(case, 0, outcome="unsupported", reason="not here", ranks=())
    neither = judge_trial(case, case, BF16, ([failed], [unknown]))
    assert neither.reason == (
        "the suggested case ended as unsupported: not here; the original ended as oom: no memory"
    )


def test_an_interval_that_says_nothing_is_not_told_in_nine_digits() -> None:
    before, after = make_case(), make_case(precision="bf16")
    attempts = (
        [make_attempt(before, n, make_rank((step,) * 10)) for n, step in enumerate((20_000_000, 20_000_000))],
        [make_attempt(after, n, make_rank((step,) * 10)) for n, step in enumerate((100_000, 90_000_000))],
    )
    text = diagnosis.trial_text(judge_trial(before, after, BF16, attempts), "x")
    assert "(under 0.01 to over 999 times, 2 pairs)" in text


def test_collectives_are_not_said_to_be_bound_by_memory() -> None:
    sent = OperatorTime(operator_class="communication", num_calls=2, time_ns=9_000_000)
    rank = make_rank((20_000_000,) * 10, profile=replace(STEP, operators=(*STEP.operators, sent)))
    report = make_report()
    result = replace(report.cases[0], attempts=(make_attempt(report.cases[0].case, 0, rank),))
    (line,) = [one for one in diagnosis.class_lines(report, result) if "communication" in one]
    assert line == "communication: 39.1 %, 9.00 ms"


def test_a_case_that_never_ran_has_no_row_of_dashes() -> None:
    report = make_report()
    nothing = Diagnosis(bottleneck="unknown", sureness="unsure", evidence=(), next_step=None, suggestion=None)
    results = [replace(result, diagnosis=nothing) for result in report.cases]
    labels = case_labels([result.case for result in results])
    table = "\n".join(diagnosis.markdown_section(replace(report, cases=tuple(results)), labels))
    rows = {result.outcome: table.count(labels[result.case.case_id]) for result in results}
    assert rows["ok"] > 0
    assert rows["unsupported"] == 0


@pytest.mark.parametrize(
    ("suggestion", "changed"),
    [
        (BF16, {"precision": "bf16"}),
        (Suggestion(axis="per_device_batch_size", value=64), {"per_device_batch_size": 64}),
        (Suggestion(axis="data", value="device"), {"data": "device", "num_loader_workers": None}),
        (Suggestion(axis="world_size", value=2), {"world_size": 2, "strategy": "ddp"}),
    ],
)
def test_a_suggestion_changes_its_axis_alone(suggestion: Suggestion, changed: dict[str, object]) -> None:
    case = make_case(data="loader", num_loader_workers=2)
    after, settings = apply_suggestion(case, MeasureSettings(), suggestion)
    assert after.case_id != case.case_id
    assert replace(after, case_id=case.case_id) == replace(case, **changed)
    assert settings == MeasureSettings()


def test_the_allocator_is_a_setting_and_nonsense_is_refused() -> None:
    allocator = Suggestion(axis="host_allocator", value="system")
    assert apply_suggestion(make_case(), MeasureSettings(), allocator)[1].host_allocator == "system"
    for axis, value in (
        ("model", "os:system"),
        ("per_device_batch_size", True),
        ("data_dir", "/"),
        ("precision", 3),
        ("precision", "bf61"),
        ("strategy", "zero4"),
        ("per_device_batch_size", 0),
        ("host_allocator", "fast"),
    ):
        with pytest.raises(BadInputError, match="cannot be tried"):
            apply_suggestion(make_case(), MeasureSettings(), Suggestion(axis=axis, value=value))
