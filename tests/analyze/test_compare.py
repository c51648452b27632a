"""Verdicts on pairs of cases."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from benchbox.analyze.compare import Pair, compare_cases, holm
from benchbox.analyze.energy import EnergySource
from benchbox.analyze.evidence import (
    AttemptFigures,
    CaseEvidence,
    case_evidence,
    relative_variance_of_mean,
)
from benchbox.analyze.identity import check_across
from benchbox.analyze.matching import compare_sides, has_case_in_common, side_of
from benchbox.errors import BadInputError
from benchbox.schema import NodeEnvironment, Outcome
from benchbox.schema.comparison import (
    CaseComparison,
    Metric,
    MetricComparison,
    RatioInterval,
    Thresholds,
    Verdict,
)
from tests.factories import make_case, make_report
from tests.report.test_comparison_formats import slowed

LIMITS = Thresholds()
MIRRORED: dict[Verdict, Verdict] = {
    "faster": "slower",
    "slower": "faster",
    "more": "less",
    "less": "more",
    "regression": "improvement",
    "improvement": "regression",
}


def evidence(rates: list[float], seed: int = 0, memory: list[float] | None = None) -> CaseEvidence:
    figures = [
        {} if memory is None else {"peak_host_rss_bytes": math.log(value)} for value in memory or rates
    ]
    attempts = tuple(
        AttemptFigures(number, math.log(rate), 0.0, figures[number]) for number, rate in enumerate(rates)
    )
    return CaseEvidence(make_case(seed=seed), "ok", None, attempts)


def one(base: CaseEvidence, new: CaseEvidence, *, paired: bool = False) -> CaseComparison:
    (result,) = compare_cases([(base, new)], LIMITS, paired=paired)
    return result


def test_clear_cases() -> None:
    base = evidence([100.0, 100.2, 99.9])
    assert one(base, evidence([95.0, 95.1, 94.8])).verdict == "slower"
    assert one(base, evidence([105.0, 105.1, 104.8])).verdict == "faster"
    assert one(base, evidence([100.1, 99.7, 100.3])).verdict == "same"
    assert one(base, evidence([95.0, 105.0, 99.0])).verdict == "inconclusive"
    ratio = one(base, evidence([95.0, 95.1, 94.8])).metrics[0]
    assert ratio.ratio == pytest.approx(0.9494, abs=1e-3)
    assert ratio.ratio_interval is not None
    assert ratio.ratio_interval.low < ratio.ratio < ratio.ratio_interval.high < 1 / 1.02


def test_a_single_attempt_each_tells_nothing() -> None:
    result = one(evidence([100.0]), evidence([50.0]))
    assert result.verdict == "inconclusive"
    assert result.metrics[0].ratio == pytest.approx(0.5)
    assert result.metrics[0].ratio_interval is None


def test_a_side_without_repetitions_is_taken_to_vary_as_the_other() -> None:
    assert one(evidence([100.0, 100.1, 99.9, 100.0]), evidence([80.0])).verdict == "slower"


def test_memory_has_its_own_threshold_and_words() -> None:
    base = evidence([100.0, 100.1, 99.9], memory=[1e9, 1e9, 1e9])
    result = one(base, evidence([100.0, 100.1, 99.9], memory=[1.04e9, 1.04e9, 1.04e9]))
    assert [m.verdict for m in result.metrics] == ["same", "same"]
    result = one(base, evidence([100.0, 100.1, 99.9], memory=[1.2e9, 1.2e9, 1.2e9]))
    assert result.verdict == "same"
    assert result.metrics[1].verdict == "more"
    assert result.is_worse()


def test_figures_that_come_along_cost_throughput_nothing() -> None:
    """Else a report of a GPU, with energy, would find less than one of a CPU."""
    rates = [[100.0, 100.2, 99.9], [97.0, 97.2, 97.1]]
    alone = one(evidence(rates[0]), evidence(rates[1])).metrics[0]
    beside = one(evidence(rates[0], memory=[1e9, 2e9, 3e9]), evidence(rates[1], memory=[3e9, 2e9, 1e9]))
    assert beside.metrics[0] == alone
    assert alone.verdict == "slower"


def with_energy(case: CaseEvidence, sources: Sequence[EnergySource | None], joules: float) -> CaseEvidence:
    """An attempt without a source has no energy; the power integral shows twice what the counter does."""
    attempts = []
    for attempt, source in zip(case.attempts, sources, strict=True):
        told = joules * (2 if source == "power-integral" else 1) * (1 + 0.001 * attempt.attempt)
        figures = attempt.log_figures | ({"joules_per_sample": math.log(told)} if source else {})
        attempts.append(attempt._replace(log_figures=figures, energy_source=source))
    return case._replace(attempts=tuple(attempts))


@pytest.mark.parametrize(
    ("base", "new", "verdict", "reason"),
    [
        ("ccc", "ccc", "more", None),
        ("ccc", "---", "inconclusive", "not measured in the new report"),
        ("---", "ppp", "inconclusive", "not measured in the base report"),
        ("---", "---", None, None),
        (
            "ccc",
            "ppp",
            "inconclusive",
            "read by counter in the base report, by power-integral in the new one",
        ),
        ("cpp", "pp-", "more", None),
        ("ccp", "ccp", "more", None),
        ("c--", "--c", "inconclusive", "one attempt each says nothing of how attempts vary"),
    ],
)
def test_energy_is_compared_where_both_sides_read_it_in_the_same_way(
    base: str, new: str, verdict: str | None, reason: str | None
) -> None:
    """Each letter is an attempt: counter, power, none."""
    sources: dict[str, EnergySource | None] = {"c": "counter", "p": "power-integral", "-": None}
    rates = [100.0, 100.1, 99.9]
    result = one(
        with_energy(evidence(rates), [sources[letter] for letter in base], 1.0),
        with_energy(evidence(rates), [sources[letter] for letter in new], 1.3),
    )
    found = {m.metric: m for m in result.metrics}.get("joules_per_sample")
    assert (found and found.verdict) == verdict
    if found is None:
        return
    assert found.reason == reason
    assert result.is_undecided() == (verdict == "inconclusive")
    if found.ratio is None:
        assert ((found.base is None), (found.new is None)) == (base == "---", new == "---")
    else:
        assert found.ratio == pytest.approx(1.3, rel=0.01)


def test_a_report_whose_counter_is_gone_is_not_held_against_one_that_has_it() -> None:
    report = make_report()
    first = report.cases[0]
    attempts = [
        replace(a, devices=tuple(replace(device, energy_j=None) for device in a.devices))
        for a in first.attempts
    ]
    new = replace(report, cases=(replace(first, attempts=tuple(attempts)), *report.cases[1:]))
    changed, kept, *_ = compare_sides(side_of("a", report), side_of("b", new), LIMITS).cases
    assert (
        changed.metrics[-1].reason == "read by counter in the base report, by power-integral in the new one"
    )
    assert kept.metrics[-1].verdict == "same"


def test_rounds_need_energy_on_both_sides() -> None:
    rates = [100.0 + 0.1 * n for n in range(6)]
    base = with_energy(evidence(rates), ["counter"] * 3 + [None] * 3, 1.0)
    apart = with_energy(evidence(rates), [None] * 3 + ["counter"] * 3, 1.0)
    assert one(base, apart, paired=True).metrics[1].reason == "no round measured it on both sides"
    half = with_energy(evidence(rates), [None, *["counter"] * 5], 1.0)
    assert one(base, half, paired=True).metrics[1].num_new_attempts == 2


def test_memory_is_torchs_account_where_both_have_it_and_the_hosts_beside_it_where_not() -> None:
    def made(*metrics: Metric) -> CaseEvidence:
        case = evidence([100.0, 100.1, 99.9])
        figures = dict.fromkeys(metrics, 20.0)
        return case._replace(attempts=tuple(a._replace(log_figures=figures) for a in case.attempts))

    allocated, resident = "peak_memory_allocated_bytes", "peak_host_rss_bytes"
    both = made(allocated, resident)
    assert [(m.metric, m.verdict) for m in one(both, both).metrics[1:]] == [(allocated, "same")]
    assert [(m.metric, m.verdict) for m in one(both, made(resident)).metrics[1:]] == [
        (allocated, "inconclusive"),
        (resident, "same"),
    ]


def test_rounds_that_drift_together_are_compared_pair_by_pair() -> None:
    drift = [1.0, 0.9, 1.1, 0.85, 1.2, 0.95]
    base = evidence([100.0 * d for d in drift])
    new = evidence([95.0 * d * (1 + 0.001 * (-1) ** i) for i, d in enumerate(drift)])
    assert one(base, new).verdict == "inconclusive"
    assert one(base, new, paired=True).verdict == "slower"


def test_the_interval_of_a_case_never_ends_below_its_own_noise() -> None:
    quiet = [
        (evidence([100.0, 100.1, 99.9], seed=s), evidence([100.0, 99.9, 100.1], seed=s)) for s in range(8)
    ]
    noisy = (evidence([100.0, 80.0, 120.0], seed=9), evidence([90.0, 70.0, 105.0], seed=9))
    results = compare_cases([*quiet, noisy], LIMITS)
    assert results[-1].verdict == "inconclusive"
    assert all(result.verdict == "same" for result in results[:-1])


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_steps_that_depend_on_each_other_count_for_less() -> None:
    rng = random.Random(1)
    white = [round(1e6 * (1 + 0.01 * rng.gauss(0, 1))) for _ in range(800)]
    slow = [round(1e6 * (1 + 0.01 * math.sin(i / 60))) for i in range(800)]
    assert math.sqrt(relative_variance_of_mean(white)) == pytest.approx(0.01 / math.sqrt(800), rel=0.6)
    assert relative_variance_of_mean(slow) > 10 * relative_variance_of_mean(white)
    assert relative_variance_of_mean([5] * 9) == 0.0


rates = st.lists(st.floats(1.0, 1e6), min_size=1, max_size=25)
sides = st.tuples(rates, rates)


def case_by_chance(rng: random.Random, seed: int) -> CaseEvidence:
    """A side of a case that may be quiet or noisy, larger in all figures or not, and lack some of them."""
    noise, change = rng.choice([0.0005, 0.0005, 0.1]), rng.choice([1.0, 1.0, 1.2])
    known = {metric: rng.choice([0.0, 0.5, 1.0, 1.0]) for metric in get_args(Metric)[1:]}
    source: EnergySource = rng.choice(["counter", "counter", "counter", "power-integral"])
    attempts = []
    for number in range(rng.choice([1, 2, 3, 4, 5, 6, 10, 13, 25])):
        rate, *others = (math.log(change * (1 + noise * rng.uniform(-1, 1))) for _ in get_args(Metric))
        figures = {
            metric: 20 + value
            for (metric, share), value in zip(known.items(), others, strict=True)
            if rng.random() < share
        }
        attempts.append(AttemptFigures(number, rate, rng.choice([0.0, 1e-6]), figures, source))
    outcome: Outcome | None = rng.choice(["ok", "ok", "ok", "ok", "ok", "oom", None])
    return CaseEvidence(make_case(seed=seed), outcome, None, tuple(attempts))


def pairs_by_chance(seed: int) -> list[Pair]:
    """Of up to four cases."""
    rng = random.Random(seed)
    return [(case_by_chance(rng, n), case_by_chance(rng, n)) for n in range(rng.randint(1, 4))]


def mirrored(metric: MetricComparison) -> MetricComparison:
    interval, reason = metric.ratio_interval, metric.reason
    swapped = ("measured in the new", "measured in the base"), ("by counter", "by power-integral")
    for before, after in swapped:
        reason = reason and reason.replace(before, "\0").replace(after, before).replace("\0", after)
    return replace(
        metric,
        verdict=MIRRORED.get(metric.verdict, metric.verdict),
        base=metric.new,
        new=metric.base,
        ratio=metric.ratio and 1 / metric.ratio,
        ratio_interval=interval and RatioInterval(low=1 / interval.high, high=1 / interval.low),
        num_base_attempts=metric.num_new_attempts,
        num_new_attempts=metric.num_base_attempts,
        reason=reason,
    )


def in_digits(metric: MetricComparison) -> MetricComparison:
    """Without the last digits of what is divided."""
    interval = metric.ratio_interval
    return replace(
        metric,
        ratio=metric.ratio and float(f"{metric.ratio:.9g}"),
        ratio_interval=interval
        and RatioInterval(low=float(f"{interval.low:.9g}"), high=float(f"{interval.high:.9g}")),
    )


@given(st.integers(0, 2**32), st.booleans())
def test_a_comparison_the_other_way_round_is_mirrored(seed: int, paired: bool) -> None:
    pairs = pairs_by_chance(seed)
    there = compare_cases(pairs, LIMITS, paired=paired)
    back = compare_cases([(new, base) for base, new in pairs], LIMITS, paired=paired)
    for one_way, other in zip(there, back, strict=True):
        assert other.verdict == MIRRORED.get(one_way.verdict, one_way.verdict)
        assert list(map(in_digits, other.metrics)) == [in_digits(mirrored(m)) for m in one_way.metrics]


@pytest.mark.parametrize("paired", [False, True])
def test_what_is_mirrored_reaches_every_verdict(paired: bool) -> None:
    """But ``not-comparable``, which is none of figures."""
    found = [
        case for seed in range(1000) for case in compare_cases(pairs_by_chance(seed), LIMITS, paired=paired)
    ]
    seen = {(metric.metric, metric.verdict) for case in found for metric in case.metrics}
    for metric in get_args(Metric):
        words = ("faster", "slower") if metric == "samples_per_second" else ("more", "less")
        assert {(metric, verdict) for verdict in (*words, "same", "inconclusive")} <= seen
    assert {case.verdict for case in found} >= {*get_args(Verdict)} - {"more", "less", "not-comparable"}
    assert len({metric.reason for case in found for metric in case.metrics}) == (10 if paired else 8)


@given(st.lists(sides, min_size=2, max_size=5), st.booleans())
def test_another_case_changes_no_ratio(cases: list[tuple[list[float], list[float]]], paired: bool) -> None:
    pairs = [(evidence(a, seed), evidence(b, seed)) for seed, (a, b) in enumerate(cases)]
    every, fewer = (compare_cases(some, LIMITS, paired=paired) for some in (pairs, pairs[:-1]))
    assert [c.metrics[0].ratio for c in fewer] == [c.metrics[0].ratio for c in every[:-1]]


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ("ok", "oom", "regression"),
        ("oom", "ok", "improvement"),
        ("oom", "crashed", "same"),
        (None, "ok", "inconclusive"),
        ("ok", None, "inconclusive"),
    ],
)
def test_how_a_case_ends_is_compared_too(before: str | None, after: str | None, verdict: str) -> None:
    # Attempts that went well say nothing of a case that did not end well, or not yet.
    made = evidence([100.0, 100.1, 99.9]), evidence([50.0, 50.1, 49.9])
    ends = [
        side._replace(outcome=end, reason=None if end == "ok" else "why")
        for side, end in zip(made, (before, after), strict=True)
    ]
    result = one(ends[0], ends[1])
    assert result.verdict == verdict
    assert result.metrics == ()
    assert result.is_worse() == (verdict == "regression")


def test_memory_that_is_the_same_in_all_attempts_is_told_to_the_byte() -> None:
    report = make_report()
    (case, *_) = compare_sides(side_of("a", report), side_of("b", report), Thresholds()).cases
    memory = report.cases[0].attempts[0].ranks[0].memory
    assert memory is not None
    assert case.metrics[1].metric == "peak_memory_allocated_bytes"
    assert case.metrics[1].base == case.metrics[1].new == memory.peak_memory_allocated_bytes


def test_a_report_against_itself_is_the_same_in_all() -> None:
    report = make_report()
    result = compare_sides(side_of("a", report), side_of("b", report), LIMITS)
    assert {case.verdict for case in result.cases} == {"same"}
    measured = [case for case in result.cases if case.metrics]
    assert [m.metric for m in measured[0].metrics] == [
        "samples_per_second",
        "peak_memory_allocated_bytes",
        "joules_per_sample",
    ]
    assert result.differences == result.added == result.missing == ()


def test_cases_are_matched_by_meaning_and_the_rest_is_listed() -> None:
    report = make_report()
    turned = replace(report, cases=report.cases[::-1][:-1])
    result = compare_sides(side_of("a", report), side_of("b", turned), LIMITS)
    assert {case.verdict for case in result.cases} == {"same"}
    assert [case.case_id for case in result.missing] == [report.cases[0].case.case_id]


def test_another_torch_is_not_comparable_unless_that_is_the_point() -> None:
    report = make_report()
    software = replace(report.environment.software, torch="2.14.0+cu130", cudnn="9.21.0")
    other = replace(report, environment=replace(report.environment, software=software))
    sides = side_of("a", report), side_of("b", other)
    result = compare_sides(*sides, LIMITS)
    assert {case.verdict for case in result.cases} == {"not-comparable"}
    assert {d.field for d in result.differences} == {"software.torch", "software.cudnn"}
    assert {d.across for d in result.differences} == {"torch"}
    lifted = compare_sides(*sides, LIMITS, check_across(["torch"]))
    assert {case.verdict for case in lifted.cases} == {"same"}
    assert all(d.lifted for d in lifted.differences)
    by_field = compare_sides(*sides, LIMITS, check_across(["software.torch"]))
    assert {case.verdict for case in by_field.cases} == {"not-comparable"}


def test_facts_that_hardly_matter_are_told_only() -> None:
    report = make_report()
    host = replace(report.environment.host, kernel="6.9.0")
    other = replace(report, environment=replace(report.environment, host=host))
    result = compare_sides(side_of("a", report), side_of("b", other), LIMITS)
    assert {case.verdict for case in result.cases} == {"same"}
    assert [(d.field, d.across) for d in result.differences] == [("host.kernel", None)]


def _with_cases(report: object, **changes: object) -> object:
    return replace(
        report,
        cases=tuple(
            replace(c, case=replace(c.case, case_id=f"x{i}", **changes)) for i, c in enumerate(report.cases)
        ),
    )


def test_other_work_under_the_same_axes_is_named() -> None:
    report = make_report()
    other = _with_cases(report, learning_rate=1e-3)
    result = compare_sides(side_of("a", report), side_of("b", other), LIMITS)
    assert {case.verdict for case in result.cases} == {"not-comparable"}
    assert [(d.field, d.across) for d in result.differences] == [("case.learning_rate", "learning_rate")]
    lifted = compare_sides(side_of("a", report), side_of("b", other), LIMITS, check_across(["learning_rate"]))
    assert {case.verdict for case in lifted.cases} == {"same"}


def test_across_an_axis() -> None:
    report = make_report()
    picked = replace(report, cases=report.cases[1:2])
    other = replace(report, cases=report.cases[2:3])
    apart = compare_sides(side_of("a", picked), side_of("b", other), LIMITS)
    assert apart.cases == ()
    assert not apart.is_comparable()
    result = compare_sides(side_of("a", picked), side_of("b", other), LIMITS, check_across(["precision"]))
    assert [case.verdict for case in result.cases] == ["faster"]
    with pytest.raises(BadInputError, match="would be the same one"):
        compare_sides(side_of("a", report), side_of("b", report), LIMITS, check_across(["precision"]))


@pytest.mark.parametrize("name", ["colour", "", "environment.", "devices.colour", "host", "variables."])
def test_across_takes_known_names_only(name: str) -> None:
    with pytest.raises(BadInputError, match=f"--across: '{name}' is not one of device"):
        check_across([name])


@pytest.mark.parametrize("name", ["environment.driver", "case.seed", "devices.name", "variables.NCCL_ALGO"])
def test_across_takes_the_name_that_a_message_gives(name: str) -> None:
    assert check_across([name]) == {name.removeprefix("environment.").removeprefix("case.")}


def test_the_other_machines_of_a_run_count_too() -> None:
    report = make_report()
    here = report.environment

    def second(torch: str) -> NodeEnvironment:
        return NodeEnvironment(
            node=1,
            host=here.host,
            software=replace(here.software, torch=torch),
            devices=here.devices,
            worker_variables={},
        )

    alike, unlike = (
        replace(report, environment=replace(here, nodes=(second(torch),)))
        for torch in (here.software.torch, "2.14.0")
    )
    result = compare_sides(side_of("a", alike), side_of("b", unlike), LIMITS)
    assert [(d.field, d.base, d.new) for d in result.differences] == [
        ("software.torch", here.software.torch, f"{here.software.torch}, 2.14.0")
    ]
    number = compare_sides(side_of("a", report), side_of("b", alike), LIMITS)
    assert [(d.field, d.base, d.new) for d in number.differences] == [("devices", "1", "2")]


def test_an_unfinished_case_fails_no_job() -> None:
    """Two of three attempts, twice as slow."""
    report = make_report()
    new = slowed(report, 2.0)
    first = replace(new.cases[0], outcome=None, attempts=new.cases[0].attempts[:2])
    new = replace(new, complete=False, cases=(first, *new.cases[1:]))
    case = compare_sides(side_of("a", report), side_of("b", new), LIMITS).cases[0]
    assert (case.verdict, case.metrics, case.is_worse()) == ("inconclusive", (), False)


def test_whether_a_suite_has_a_case_in_common_with_a_report() -> None:
    base = side_of("a", make_report())
    case = base.evidence[0].case
    other = replace(case, model="other-model")
    unlike = replace(case, learning_rate=7.0)  # the same axes: told as not the same work
    for cases, expected in (([case, other], True), ([other], False), ([], False), ([unlike], True)):
        assert has_case_in_common(base, cases, frozenset()) == expected
    assert has_case_in_common(base._replace(evidence=base.evidence[:1]), [other], check_across(["model"]))


def test_a_failed_case_has_no_figures() -> None:
    bad = next(case for case in make_report().cases if case.outcome == "oom")
    assert case_evidence(bad).attempts == ()
