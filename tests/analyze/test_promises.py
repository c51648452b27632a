"""What the rules promise of a change, against reports of real machines that measured the change as well."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from benchbox.report.build import rediagnosed
from benchbox.report.files import read_report
from benchbox.schema import Case, CaseResult, Interval, Report, Suggestion

REPORTS = sorted((Path(__file__).parents[2] / "reports").glob("*/*/report.json"))


def promises(report: Report) -> list[tuple[CaseResult, Suggestion, CaseResult]]:
    """Each case with a promise whose suggested case was measured too."""
    measured = {nameless(result.case): result for result in report.cases if result.summary is not None}
    found = []
    for result in measured.values():
        suggestion = result.diagnosis.suggestion if result.diagnosis else None
        if suggestion is None or suggestion.predicted_speedup is None:
            continue
        changed = replace(nameless(result.case), **{suggestion.axis: suggestion.value})
        if changed in measured:
            found.append((result, suggestion, measured[changed]))
    return found


def nameless(case: Case) -> Case:
    return replace(case, case_id="")


def rate(result: CaseResult) -> Interval:
    assert result.summary is not None
    interval = result.summary.samples_per_second_interval
    assert interval is not None
    return interval


def test_what_reports_promise_and_measured_came_true() -> None:
    """As far as the noise lets one see: the measured ratio's interval reaches into the promised one."""
    found = [promise for path in REPORTS for promise in promises(rediagnosed(read_report(path)))]
    assert {"precision", "per_device_batch_size"} <= {suggestion.axis for _, suggestion, _ in found}
    for before, suggestion, after in found:
        promised = suggestion.predicted_speedup
        assert promised is not None
        low, high = rate(after).low / rate(before).high, rate(after).high / rate(before).low
        assert low <= promised.high, (before.case, suggestion)
        assert high >= promised.low, (before.case, suggestion)
