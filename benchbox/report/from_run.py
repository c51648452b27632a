"""The report of a run, at whatever point it stands."""

from __future__ import annotations

import resource
from datetime import datetime

from benchbox.measure.runner import SuiteRun
from benchbox.report.build import build_report
from benchbox.schema import Report


def report_of_run(run: SuiteRun) -> Report:
    """What ``run`` has measured so far, as a report made now."""
    return build_report(
        run.suite,
        run.environment,
        run.attempts,
        run.hardware_profile(),
        complete=run.is_complete(),
        created_at=datetime.now().astimezone().isoformat(timespec="seconds"),
        telemetry_cost=run.telemetry_cost,
        controller_peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )
