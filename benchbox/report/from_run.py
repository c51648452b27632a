"""The report of a run, at whatever point it stands."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from benchbox.measure.runner import SuiteRun
from benchbox.report.build import build_report, rediagnosed
from benchbox.report.estimates import with_estimates
from benchbox.schema import Report


def report_of_run(run: SuiteRun) -> Report:
    """What ``run`` has measured so far, as a report made now."""
    report = build_report(
        run.suite,
        run.environment,
        run.attempts,
        run.hardware_profile(),
        complete=run.is_complete(),
        created_at=datetime.now().astimezone().isoformat(timespec="seconds"),
        telemetry_cost=run.telemetry_cost,
        controller_peak_rss_bytes=_peak_rss_bytes(),
        ceilings=run.ceilings,
    )
    return rediagnosed(with_estimates(report, run.estimates))  # what ran out of memory is advised by them


def _peak_rss_bytes() -> int | None:
    """The kernel's high-water mark of this process. ``getrusage`` would give the larger one of the process
    that started it: that mark is handed on when a program replaces another."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None
