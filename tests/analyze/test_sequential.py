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


def sides(base: np.ndarray, new: np.ndarray, rounds: int) -> tuple[Side, Side]:
    """Of logarithms of rates, a row a case."""
    made = []
    for name, rates in (("base", base), ("new", new)):
        evidence = [
            CaseEvidence(
                make_case(seed=seed),
                "ok",
                None,
                tuple(AttemptFigures(number, row[number], 0.0, {}) for number in range(rounds)),
            )
            for seed, row in enumerate(rates.tolist())
        ]
        made.append(Side(name, BARE, evidence))
    return made[0], made[1]


def until_decided(base: np.ndarray, new: np.ndarray) -> list[str]:
    looks, rounds = Looks(Thresholds(), frozenset()), 3
    while True:
        comparison = looks.look(*sides(base, new, rounds))
        if not looks.undecided() or rounds >= 41:
            return [case.verdict for case in comparison.cases]
        rounds = next_look(rounds)


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


def test_what_was_decided_stays_decided() -> None:
    looks = Looks(Thresholds(), frozenset())
    rng = np.random.default_rng(3)
    base = rng.normal(0, 0.001, (NUM_CASES, 64))
    new = rng.normal(0, 0.001, (NUM_CASES, 64)) - 0.1
    first = looks.look(*sides(base, new, 3))
    assert {case.verdict for case in first.cases} == {"slower"}
    later = looks.look(*sides(base, new + 0.1, 8))
    assert later.cases == first.cases
    assert later.false_alarm_pct == pytest.approx(1.0)
