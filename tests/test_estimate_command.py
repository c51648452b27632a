"""``benchbox estimate`` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from benchbox.schema import SuiteEstimate
from tests.runs import ONE_CASE, TINY, benchbox, importing, write_suite


def test_json_holds_every_case_and_the_controller_never_imports_torch(tmp_path: Path) -> None:
    suite = write_suite(tmp_path)
    done, imported = importing(
        "estimate", suite, "--profile", "h100-sxm5-80gb", "--format", "json", cwd=tmp_path
    )
    assert done.returncode == 0
    found = msgspec.json.decode(done.stdout, type=SuiteEstimate)
    assert [answer.case_id for answer in found.estimates] == [case.case_id for case in found.cases]
    assert all(answer.estimate is not None and answer.estimate.fits for answer in found.estimates)
    assert found.device_memory_bytes == 81_559 << 20
    assert not {"torch", "deepspeed"} & imported
    assert not any(name.startswith("benchbox.worker") for name in imported)


def test_without_a_profile_it_is_for_this_machine(tmp_path: Path) -> None:
    done = benchbox("estimate", write_suite(tmp_path, TINY), cwd=tmp_path, COLUMNS="80")
    assert done.returncode == 0
    assert "mlp b4 fp32" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    "arguments", [("no-such-suite",), ("quick", "--profile", "no-such-device"), ("quick", "--format", "xml")]
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = benchbox("estimate", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    if "--format" not in arguments:
        assert len(done.stderr.splitlines()) == 1


def test_what_cannot_run_here_is_not_said_to_need_memory(tmp_path: Path) -> None:
    text = f"{ONE_CASE}[axes]\nstrategy = ['ddp']\nworld_size = [100000]\n"
    suite = write_suite(tmp_path, text)
    done = benchbox("run", suite, "--out", "here", "--skip-unfit", "-q", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    report = json.loads((tmp_path / "here" / "report.json").read_bytes())
    (case,) = report["cases"]
    assert case["memory_estimate"]["fits"] is False
    assert case["outcome"] == "unsupported"
    assert case["attempts"][0]["reason"].startswith("world size 100000 needs 100000 ")


@pytest.mark.parametrize(
    ("options", "outcome", "reason"),
    [
        ([], "oom", "can't allocate memory"),
        (["--skip-unfit"], "unsupported", "not run: foretold to need at least"),
    ],
)
def test_what_will_not_fit_is_said_before_and_still_run_unless_told_otherwise(
    tmp_path: Path, options: list[str], outcome: str, reason: str
) -> None:
    """A trillion weights: four terabytes, which no machine of these tests hands out."""
    suite = write_suite(tmp_path, '[workload]\nmodel = "mlp"\nsizes = [1000000, 1000000, 10]\n')
    done = benchbox("run", suite, "--out", "here", "-q", *options, cwd=tmp_path)
    assert done.returncode == 1
    assert "warning: mlp b32 fp32 will not fit: it needs" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    (case,) = json.loads((tmp_path / "here" / "report.json").read_bytes())["cases"]
    assert case["outcome"] == outcome
    assert reason in case["reason"]
    if outcome == "oom":
        assert "100 % of the tensors foretold are weights" in case["diagnosis"]["next_step"]


def test_one_is_not_said_in_the_plural(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, ONE_CASE, repetitions=1)
    done = benchbox("run", suite, "--list", cwd=tmp_path)
    assert "1 case, 1 repetition each" in done.stdout
