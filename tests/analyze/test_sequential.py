"""Looking several times at a comparison that grows."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from benchbox.analyze.evidence import AttemptFigures, CaseEvidence
from benchbox.analyze.matching import Side
from benchbox.analyze.sequential import Looks
from benchbox.measure.versus import next_look
from benchbox.schema.comparison import Thresholds
from tests.factories import make_case, make_report

BARE = replace(make_report(), cases=())
NUM_CASES = 3


def sides(base: np.ndarray, new: np.ndarray, *rounds: int) -> tuple[Side, Side]:
    """Of logarithms of rates, a row a case, for each case so many rounds, or all as many as one says."""
    of_each = rounds * len(base) if len(rounds) == 1 else rounds
    made = []
    for name, rates in (("base", base), ("new", new)):
        evidence = [
            CaseEvidence(
                make_case(seed=seed),
                "ok",
                None,
                tuple(AttemptFigures(number, row[number], 0.0, {}) for number in range(num_rounds)),
            )
            for seed, (row, num_rounds) in enumerate(zip(rates.tolist(), of_each, strict=True))
        ]
        made.append(Side(name, BARE, evidence))
    return made[0], made[1]


def until_decided(base: np.ndarray, new: np.ndarray) -> list[str]:
    """As ``--versus`` goes on: with the cases alone that are not decided."""
    looks, rounds, of_each = Looks(Thresholds(), frozenset()), 3, [3] * NUM_CASES
    while True:
        comparison = looks.look(*sides(base, new, *of_each))
        undecided = looks.undecided()
        if not undecided or rounds >= 41:
            return [case.verdict for case in comparison.cases]
        rounds = next_look(rounds)
        for place, case in enumerate(comparison.cases):
            if case.case.case_id in undecided:
                of_each[place] = rounds


def noise(rng: np.random.Generator) -> np.ndarray:
    """Rounds that drift and jump by several percent, the same for both sides, and 1.5 % of each side's own,
    heavy-tailed."""
    together = np.cumsum(rng.normal(0, 0.03, 64)) + 0.3 * (rng.random(64) < 0.1)
    own = rng.standard_t(3, (2, NUM_CASES, 64)) / np.sqrt(3)
    result: np.ndarray = together + 0.015 * own
    return result


def test_the_same_truth_is_seldom_called_slower_however_often_one_looks() -> None:
    rng = np.random.default_rng(1)
    runs = [until_decided(*noise(rng)) for _ in range(400)]
    assert sum("slower" in run or "faster" in run for run in runs) <= 4
    decided = sum(run.count("same") for run in runs)
    assert decided >= 0.95 * 400 * NUM_CASES


def test_going_on_finds_what_three_rounds_cannot() -> None:
    rng = np.random.default_rng(2)
    runs = []
    for _ in range(200):
        base, new = noise(rng)
        runs.append(until_decided(base, new - np.log1p(0.05)))
    assert sum(run.count("slower") for run in runs) >= 0.95 * 200 * NUM_CASES


def disturbed(rng: np.random.Generator) -> np.ndarray:
    """1.5 % of each attempt's own, and one attempt in eight up to 39 % slower: a neighbour came."""
    own = 0.015 * rng.standard_normal((2, NUM_CASES, 64))
    result: np.ndarray = own - 0.5 * rng.random(own.shape) * (rng.random(own.shape) < 1 / 8)
    return result


def test_a_neighbour_that_comes_and_goes_neither_raises_an_alarm_nor_hides_a_change() -> None:
    rng = np.random.default_rng(6)
    alarms = sum(not {"inconclusive", "same"}.issuperset(until_decided(*disturbed(rng))) for _ in range(400))
    assert alarms <= 4
    runs = []
    for _ in range(200):
        base, new = disturbed(rng)
        runs.append(until_decided(base, new - np.log1p(0.05)))
    assert sum(run.count("slower") for run in runs) >= 0.95 * 200 * NUM_CASES


def test_a_rare_peak_of_memory_is_not_left_out() -> None:
    """Four rounds of twenty took 30 % more: that is no sure sameness."""
    looks = Looks(Thresholds(), frozenset())
    base, new = sides(np.zeros((1, 64)), np.zeros((1, 64)), 20)
    made = []
    for side, peaks in ((base, 0), (new, 4)):
        attempts = tuple(
            a._replace(log_figures={"peak_memory_allocated_bytes": 20.0 + 0.3 * (a.attempt < peaks)})
            for a in side.evidence[0].attempts
        )
        made.append(side._replace(evidence=[side.evidence[0]._replace(attempts=attempts)]))
    (case,) = looks.look(*made).cases
    assert {metric.metric: metric.verdict for metric in case.metrics} == {
        "samples_per_second": "same",
        "peak_memory_allocated_bytes": "inconclusive",
    }


def test_what_was_decided_stays_decided() -> None:
    looks = Looks(Thresholds(), frozenset())
    rng = np.random.default_rng(3)
    base = rng.normal(0, 0.001, (NUM_CASES, 64))
    new = rng.normal(0, 0.001, (NUM_CASES, 64)) - 0.1
    first = looks.look(*sides(base, new, 5))
    assert {case.verdict for case in first.cases} == {"slower"}
    later = looks.look(*sides(base, new + 0.1, 8))
    assert later.cases == first.cases
    assert later.false_alarm_pct == pytest.approx(1.0)


def test_two_speeds_raise_no_alarm_of_three_rounds() -> None:
    """Every other attempt of the first case is 8 % slower: three rounds in a row differ the same way once in
    32 times."""
    rng = np.random.default_rng(4)
    alarms = 0
    for _ in range(400):
        rates = 0.001 * rng.standard_normal((2, NUM_CASES, 64))
        rates[:, 0] += 0.08 * (rng.random((2, 64)) < 0.5)
        alarms += not {"inconclusive", "same"}.issuperset(until_decided(*rates))
    assert alarms <= 4


def test_a_clear_change_waits_for_five_rounds_and_sameness_does_not() -> None:
    looks = Looks(Thresholds(), frozenset())
    base = np.random.default_rng(5).normal(0, 0.001, (NUM_CASES, 64))
    new = base.copy()
    new[0] -= 0.1
    first = looks.look(*sides(base, new, 3))
    assert [case.verdict for case in first.cases] == ["inconclusive", "same", "same"]
    assert "one speed of two" in (first.cases[0].reason or "")
    assert looks.undecided() == [first.cases[0].case.case_id]
    assert looks.look(*sides(base, new, 5)).cases[0].verdict == "slower"


def test_nothing_more_is_measured_for_a_figure_that_one_side_cannot_have() -> None:
    looks = Looks(Thresholds(), frozenset())
    base, new = sides(np.zeros((1, 64)), np.zeros((1, 64)), 3)
    case = base.evidence[0]
    attempts = tuple(a._replace(log_figures={"joules_per_sample": 1.0}) for a in case.attempts)
    found = looks.look(base._replace(evidence=[case._replace(attempts=attempts)]), new)
    assert found.cases[0].is_undecided()
    assert looks.undecided() == []
