"""How long comparing takes, with reports as large as they may get. `make perf` runs it."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from benchbox.report.build import build_report
from benchbox.report.files import write_report
from benchbox.schema import Report
from tests.factories import make_attempt, make_case, make_environment, make_rank, make_suite

pytestmark = [pytest.mark.perf, pytest.mark.timeout(1800)]


def large_report(num_cases: int, num_steps: int, seed: int) -> Report:
    """Three attempts a case with ``num_steps`` in all."""
    rng = random.Random(seed)
    cases = [make_case(seed=number) for number in range(num_cases)]
    built = []
    for case in cases:  # case by case: finding the attempts of a case in a list of all would take the square
        attempts = [
            make_attempt(
                case, n, make_rank([round(1e7 * (1 + rng.gauss(0, 0.01))) for _ in range(num_steps // 3)])
            )
            for n in range(3)
        ]
        one = build_report(
            make_suite([case]),
            make_environment(),
            attempts,
            None,
            complete=True,
            created_at="2026-01-05T12:00:00+00:00",
            telemetry_cost=None,
            controller_peak_rss_bytes=None,
        )
        built.append(one.cases[0])
    return replace(one, suite=make_suite(cases), cases=tuple(built))


def timed(*arguments: object) -> tuple[float, float, str]:
    """Seconds, peak MB, and what it printed."""
    code = (
        "import resource, subprocess, sys, json, time; began = time.monotonic();"
        "done = subprocess.run(sys.argv[1:], capture_output=True, text=True);"
        "took = time.monotonic() - began;"
        "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3;"
        "print(json.dumps([took, peak, done.stdout, done.stderr]))"
    )
    command = [sys.executable, "-c", code, sys.executable, "-m", "benchbox.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    took, peak_mb, stdout, stderr = json.loads(done.stdout)
    assert stderr == ""
    return took, peak_mb, stdout


def test_ten_thousand_cases(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_report(large_report(10_000, 200, seed), tmp_path / f"{seed}.json")
    for output_format in ("json", "terminal", "csv"):
        runs = [
            timed("compare", tmp_path / "1.json", tmp_path / "2.json", "--format", output_format)
            for _ in range(3)
        ]
        took, peak_mb = min(run[0] for run in runs), max(run[1] for run in runs)
        print(f"compare, 10,000 cases, {output_format}: {took:.2f} s, {peak_mb:.0f} MB")
        assert took <= 3
        assert peak_mb <= 500


def test_start_up(tmp_path: Path) -> None:
    write_report(large_report(3, 200, 1), tmp_path / "1.json")
    took = min(timed("compare", tmp_path / "1.json", tmp_path / "1.json")[0] for _ in range(5))
    print(f"compare, two small reports: {took:.2f} s")
    assert took <= 0.6


def test_a_year_of_reports(tmp_path: Path) -> None:
    report = large_report(100, 200, 1)
    rng = random.Random(1)
    for day in range(365):
        cases = tuple(
            replace(
                case,
                attempts=tuple(
                    replace(
                        attempt,
                        ranks=tuple(
                            replace(r, step_time_ns=tuple(round(s * scale) for s in r.step_time_ns))
                            for r in attempt.ranks
                        ),
                    )
                    for attempt in case.attempts
                ),
            )
            for case in report.cases
            for scale in [(1.05 if day >= 200 else 1.0) * (1 + rng.gauss(0, 0.01))]
        )
        folder = tmp_path / f"{day:03d}"
        folder.mkdir()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(1_760_000_000 + 86_400 * day))
        write_report(replace(report, cases=cases, created_at=stamp), folder / "report.json")
    runs = [timed("history", tmp_path) for _ in range(3)]
    took, peak_mb = min(run[0] for run in runs), max(run[1] for run in runs)
    print(f"history, 365 reports of 100 cases: {took:.2f} s, {peak_mb:.0f} MB")
    assert runs[0][2].replace("\n", " ").count("% from") >= 100
    assert took <= 5
