"""Attempts become a report."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

import benchbox
from benchbox.analyze.diagnose import diagnose_case
from benchbox.analyze.ranks import all_reduce_ceilings
from benchbox.analyze.scaling import scaling_of
from benchbox.analyze.summary import case_outcome, summarize_case
from benchbox.report.hints import case_hints
from benchbox.schema import (
    SCHEMA_VERSION,
    AttemptResult,
    Case,
    CaseResult,
    Ceilings,
    Environment,
    HardwareProfile,
    Report,
    Suite,
    TelemetryCost,
)


def build_report(
    suite: Suite,
    environment: Environment,
    attempts: Sequence[AttemptResult],
    profile: HardwareProfile | None,
    *,
    complete: bool,
    created_at: str,
    telemetry_cost: TelemetryCost | None,
    controller_peak_rss_bytes: int | None,
    ceilings: Ceilings | None = None,
) -> Report:
    """The report of one run: every case of the suite in its order, with what was measured of it so far.

    ``attempts`` may come in any order. ``complete`` is false where the run was ended early; ``created_at`` is
    ISO 8601 with a zone.
    """
    ordered = sorted(attempts, key=lambda attempt: attempt.attempt)
    cases = [
        _case_result(
            case,
            tuple(attempt for attempt in ordered if attempt.case_id == case.case_id),
            profile,
            ceilings,
            suite.measure.repetitions,
            complete=complete,
        )
        for case in suite.cases
    ]
    if ceilings is not None:
        ceilings = replace(ceilings, all_reduce=all_reduce_ceilings(cases))
    report = Report(
        schema_version=SCHEMA_VERSION,
        benchbox_version=benchbox.__version__,
        created_at=created_at,
        complete=complete,
        suite=suite,
        environment=environment,
        hardware_profile=profile,
        cases=tuple(
            replace(result, scaling=scaling) for result, scaling in zip(cases, scaling_of(cases), strict=True)
        ),
        telemetry_cost=telemetry_cost,
        controller_peak_rss_bytes=controller_peak_rss_bytes,
        ceilings=ceilings,
    )
    return rediagnosed(report)


def _case_result(
    case: Case,
    attempts: tuple[AttemptResult, ...],
    profile: HardwareProfile | None,
    ceilings: Ceilings | None,
    repetitions: int,
    *,
    complete: bool,
) -> CaseResult:
    outcome, reason = case_outcome(attempts)
    if outcome == "ok" and not complete and len(attempts) < repetitions:
        outcome = None
        reason = f"the run was ended after {len(attempts)} of {repetitions} repetitions"
    # A case that failed once has no figure to be compared by; what its other attempts measured stays in them.
    summary = summarize_case(case, attempts, profile, ceilings) if outcome in ("ok", None) else None
    result = CaseResult(case=case, outcome=outcome, reason=reason, attempts=attempts, summary=summary)
    return replace(result, hints=case_hints(result))


def rediagnosed(report: Report) -> Report:
    """``report`` with verdicts by the rules of this version, whatever stands in it."""
    cases = tuple(
        replace(
            result,
            diagnosis=diagnose_case(result, report.environment, report.ceilings, report.hardware_profile),
        )
        for result in report.cases
    )
    return replace(report, cases=cases)
