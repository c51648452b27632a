"""Measured ceilings: asked once a run, kept in the journal, and what figures are held against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from benchbox.analyze.roofline import matmul_ceiling
from benchbox.measure.ceilings import ask_ceilings, probe_seconds
from benchbox.measure.journal import read_journal
from benchbox.measure.launch import WorkerServer
from benchbox.measure.runner import SuiteRun
from benchbox.plan.suite import load_suite
from benchbox.report.from_run import report_of_run
from benchbox.schema import AttemptResult, Ceilings, PrecisionCeiling
from tests.factories import make_case, make_profile, make_suite
from tests.runs import ONE_CASE, write_suite

REACHED = Ceilings(precisions=(PrecisionCeiling(precision="fp32", matmul_tflops=45.0),))


@pytest.mark.parametrize(
    ("measure", "seconds"),
    [
        ({}, 4.0),
        ({"ceiling_seconds": 0}, 0.0),
        ({"max_seconds": 1, "repetitions": 2}, 0.4),
        ({"ceiling_seconds": 1}, 1.0),
    ],
)
def test_probes_take_at_most_a_tenth_of_what_may_be_measured(
    measure: dict[str, float], seconds: float
) -> None:
    suite = make_suite([make_case(), make_case(seed=1)], **measure)
    assert probe_seconds(suite) == pytest.approx(seconds)


def test_a_run_asks_once_and_resuming_finds_the_answer(tmp_path: Path) -> None:
    suite_file = write_suite(tmp_path, ceiling_seconds=0.2, max_seconds=1.0)
    suite = load_suite(suite_file)
    out = tmp_path / "out"
    with SuiteRun(suite, tmp_path, out, device="cpu", resume=False, force=False) as run:
        run.measure_ceilings()
        found = run.ceilings
        assert not run.can_measure_ceilings()
    assert found is not None
    assert {one.precision for one in found.precisions} == {"fp32", "bf16"}
    assert all(one.matmul_tflops and one.convolution_tflops for one in found.precisions)
    assert found.device_copy_bytes_per_s
    assert (found.host_to_device_bytes_per_s, found.all_reduce) == (None, ())
    assert read_journal(out / "journal.jsonl").ceilings == found
    with SuiteRun(suite, tmp_path, out, device="cpu", resume=True, force=False) as run:
        assert not run.can_measure_ceilings()
        task = run._task(suite.cases[0], suite.measure, 0, extra_passes=True)
        for _ in run.events():
            pass
        report = report_of_run(run)
    assert task.probe_share_s == pytest.approx(found.probe_s / len(suite.cases))
    assert report.ceilings == found
    summary = report.cases[0].summary
    assert summary is not None
    assert summary.ceiling_source == "run"
    fp32 = next(one for one in found.precisions if one.precision == "fp32")
    assert summary.ceiling_tflops == pytest.approx(fp32.matmul_tflops)


def test_a_probe_that_fails_leaves_nothing_known(tmp_path: Path) -> None:
    with WorkerServer({"CUDA_VISIBLE_DEVICES": ""}) as server:
        assert ask_ceilings(server, make_suite([make_case()], ceiling_seconds=0.1), "cuda:0") is None


def test_a_server_that_ends_during_the_probes_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = WorkerServer.start

    def start_and_die(server: WorkerServer, **command: Any) -> int:
        pid = start(server, **command)
        if "ceilings" in command:
            server._process.kill()
        return pid

    monkeypatch.setattr(WorkerServer, "start", start_and_die)
    suite = load_suite(write_suite(tmp_path, ONE_CASE, ceiling_seconds=0.2))
    with SuiteRun(suite, tmp_path, tmp_path / "out", device="cpu", resume=False, force=False) as run:
        run.measure_ceilings()
        ended = list(run.events())[-1]
    assert run.ceilings is None
    assert isinstance(ended, AttemptResult)
    assert ended.outcome == "ok"


def test_a_server_that_has_ended_before_the_probes_leaves_nothing_known() -> None:
    with WorkerServer({"CUDA_VISIBLE_DEVICES": ""}) as server:
        server._process.kill()
        server._process.wait()
        assert ask_ceilings(server, make_suite([make_case()], ceiling_seconds=0.1), "cpu") is None


def test_the_runs_own_ceiling_comes_first_and_never_another_precisions() -> None:
    profile = make_profile()
    assert matmul_ceiling("fp32", REACHED, profile) == (45.0, "run")
    assert matmul_ceiling("tf32", REACHED, profile) == (371.0, "profile")
    assert matmul_ceiling("tf32", REACHED, None) == (None, None)
    assert matmul_ceiling("fp32", None, replace(profile, reached=None)) == (None, None)
