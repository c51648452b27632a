"""Attempts become cases in the suite's order, with outcomes and hints."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from benchbox.report.build import build_report
from benchbox.report.hints import report_hints
from benchbox.schema import (
    SCHEMA_VERSION,
    THROTTLE_REASONS,
    AllReduceCeiling,
    AttemptResult,
    Case,
    Ceilings,
    HostUsage,
    LossCheck,
    Report,
)
from tests.factories import (
    make_all_reduce,
    make_attempt,
    make_case,
    make_device_samples,
    make_environment,
    make_profile,
    make_rank,
    make_report,
    make_suite,
)


def build(cases: list[Case], attempts: list[AttemptResult], **changes: Any) -> Report:
    settings = {
        "complete": True,
        "created_at": "2026-01-05T12:00:00+00:00",
        "telemetry_cost": None,
        "controller_peak_rss_bytes": None,
    } | changes
    profile = settings.pop("profile", None)
    return build_report(make_suite(cases), make_environment(), attempts, profile, **settings)


def test_cases_in_suite_order_and_attempts_in_their_own() -> None:
    first, second = make_case(), make_case(precision="bf16")
    attempts = [make_attempt(c, n) for n in (2, 0, 1) for c in (second, first)]
    report = build([first, second], attempts)
    assert report.schema_version == SCHEMA_VERSION
    assert [result.case for result in report.cases] == [first, second]
    assert all([a.attempt for a in result.attempts] == [0, 1, 2] for result in report.cases)
    assert all(a.case_id == result.case.case_id for result in report.cases for a in result.attempts)
    assert all(result.outcome == "ok" for result in report.cases)


def test_an_unfinished_case_has_no_outcome_but_keeps_its_figures() -> None:
    cases = [make_case(), make_case(precision="bf16"), make_case(precision="fp16"), make_case(seed=1)]
    attempts = [make_attempt(cases[0], n) for n in range(3)]
    attempts += [
        make_attempt(cases[1], 0),
        make_attempt(cases[2], 0, outcome="oom", reason="too big", ranks=()),
    ]
    report = build(cases, attempts, complete=False)
    assert [result.outcome for result in report.cases] == ["ok", None, "oom", None]
    assert report.cases[1].summary is not None
    assert report.cases[1].reason == "the run was ended after 1 of 3 repetitions"
    assert report.cases[3].summary is None


def test_a_case_that_failed_once_has_no_figures() -> None:
    case = make_case()
    report = build([case], [make_attempt(case, 0, outcome="invalid", reason="NaN"), make_attempt(case, 1)])
    assert report.cases[0].outcome == "invalid"
    assert report.cases[0].reason == "NaN"
    assert report.cases[0].summary is None
    assert len(report.cases[0].attempts) == 2


def test_hints_of_a_case() -> None:
    case = make_case()
    rank = make_rank(
        [100_000_000] * 10,
        warmup_end="time-cap",
        loss_check=LossCheck(
            losses=(6.9,),
            digest="d",
            reference_losses=None,
            tolerance_rel=0.01,
            agrees_with_fp32=None,
            reason="no fp32 case here",
        ),
        flops_unknown_reason="the model cannot be built on the meta device",
    )
    samples = make_device_samples(rank, throttle_reasons=(THROTTLE_REASONS["sw_power_cap"],) * 10)
    busy = make_device_samples(rank, num_foreign_processes=(1,) * 10)
    (result,) = build([case], [make_attempt(case, 0, rank, devices=(samples, busy))]).cases
    assert result.hints == (
        "step times had not settled when warm-up ended at its time-cap (1 of 1 attempts)",
        "the device held its clocks back in 50.0 % of the telemetry samples (sw_power_cap)",
        "another process was on the device while steps were being measured",
        "whether its losses agree with fp32 is unknown: no fp32 case here",
        "its FLOPs are unknown: the model cannot be built on the meta device",
    )


def test_cases_that_were_disturbed_alike_share_a_hint() -> None:
    def hints(*other_cpu_pct: float) -> tuple[str, ...]:
        case = make_case(strategy="ddp", world_size=2)
        usages = [
            HostUsage(
                cpu_user_s=1, cpu_kernel_s=0, minor_page_faults=0, major_page_faults=0, other_cpu_pct=pct
            )
            for pct in other_cpu_pct
        ]
        ranks = [make_rank(rank=number, host_usage=usage) for number, usage in enumerate(usages)]
        return build([case], [make_attempt(case, 0, *ranks)]).cases[0].hints

    assert hints(4, 5) == ()
    assert hints(3, 61) == hints(99, 52)
    (hint,) = hints(3, 61)
    assert "used more than 50 % of the processors" in hint
    assert "(1 of 1 attempts)" in hint


def test_nothing_to_hint_at() -> None:
    case = make_case()
    report = build([case], [make_attempt(case)], profile=make_profile())
    assert report.cases[0].hints == ()
    assert report_hints(report) == ()


def test_hints_of_a_report_come_once() -> None:
    unknown = make_report("cpu")
    assert len(report_hints(unknown)) == 1
    assert "benchbox hw init" in report_hints(unknown)[0]
    assert not any("hw init" in hint for result in unknown.cases for hint in result.hints)
    ended = make_report(complete=False)
    assert "7 of 8 cases" in report_hints(ended)[0]


def test_the_ceilings_of_a_run_gain_the_best_all_reduce_of_its_cases() -> None:
    case = make_case(strategy="ddp", world_size=2)
    ranks = (make_rank(rank=number, all_reduce=make_all_reduce(number)) for number in range(2))
    attempts = [make_attempt(case, 0, *ranks)]
    probed = Ceilings(precisions=(), device_copy_bytes_per_s=3e12)
    found = build([case], attempts, ceilings=probed).ceilings
    assert found == replace(probed, all_reduce=(AllReduceCeiling(world_size=2, bytes_per_s=300e9),))
    assert build([case], attempts).ceilings is None
