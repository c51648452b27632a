"""A report in pytest-benchmark's own file format, for its ``compare`` and whatever else reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from benchbox.analyze.ranks import longest_steps
from benchbox.errors import BadInputError
from benchbox.report.facts import device_name, outcome_word
from benchbox.report.text import case_labels, clean, indented_json
from benchbox.schema import CaseResult, Environment, Report


def render_pytest_benchmark(reports: Sequence[Report]) -> str:
    """JSON with one benchmark for each case that was measured; ``data`` are raw step times in seconds.

    Raises:
        BadInputError: several reports; the format has room for one machine.
    """
    if len(reports) != 1:
        raise BadInputError(
            f"--format pytest-benchmark: got {len(reports)} reports, but its files hold one run each"
        )
    import pytest_benchmark

    (report,) = reports
    labels = case_labels([result.case for result in report.cases])
    document = {
        "machine_info": _machine_info(report.environment),
        # A report knows nothing of a repository: it may be read anywhere.
        "commit_info": {
            "id": "unversioned",
            "time": None,
            "author_time": None,
            "dirty": False,
            "project": "benchbox",
            "branch": "(unknown)",
        },
        "benchmarks": [
            _benchmark(report, result, labels[result.case.case_id])
            for result in report.cases
            if result.summary is not None
        ],
        "datetime": clean(report.created_at),
        "version": pytest_benchmark.__version__,
    }
    return indented_json(document, indent=4)


def extra_info(result: CaseResult, report: Report) -> dict[str, Any]:
    """What pytest-benchmark has no field for: throughput, memory, energy and environment, by schema name."""
    summary = msgspec.to_builtins(result.summary) if result.summary else {}
    return {
        "outcome": outcome_word(result),
        "case": msgspec.to_builtins(result.case),
        **summary,
        "environment": msgspec.to_builtins(report.environment),
    }


def measured_steps_ns(result: CaseResult) -> list[int]:
    """The steps of all attempts; of several ranks those of the one that the global rate rests on."""
    well = [attempt for attempt in result.attempts if attempt.outcome == "ok"]
    return [step_ns for attempt in well for step_ns in longest_steps(attempt).step_time_ns]


def _benchmark(report: Report, result: CaseResult, label: str) -> dict[str, Any]:
    from pytest_benchmark import stats as their

    stats: Any = their.Stats  # untyped
    stats = stats()
    for time_ns in measured_steps_ns(result):
        stats.update(time_ns / 1e9)
    return {
        "group": None,
        "name": label,
        "fullname": f"{clean(report.suite.name)}::{label}",
        "params": None,
        "param": None,
        "extra_info": extra_info(result, report),
        "options": {
            "disable_gc": False,
            "timer": "benchbox",
            "min_rounds": report.suite.measure.min_measured_steps,
            "max_time": report.suite.measure.max_seconds,
            "min_time": 0.0,
            "warmup": True,
        },
        "stats": {**stats.as_dict(), "data": stats.data, "iterations": 1},
    }


def _machine_info(environment: Environment) -> dict[str, Any]:
    host, software = environment.host, environment.software
    return {
        "node": None,
        "processor": clean(host.cpu_model),
        "machine": clean(device_name(environment)),
        "python_version": clean(software.python),
        "release": clean(host.kernel),
        "system": clean(host.os),
        "cpu": {"brand_raw": clean(host.cpu_model), "count": host.num_usable_processors},
    }
