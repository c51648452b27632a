"""Courses over many reports, and where a level changed."""

from __future__ import annotations

import io
import math
import random
from itertools import pairwise

import pytest
from msgspec.structs import replace
from rich.console import Console

from benchbox.analyze.history import ReportRates, history_of, level_changes, rates_of
from benchbox.errors import BadInputError
from benchbox.report.history import history_view
from tests.factories import make_report
from tests.report.test_comparison_formats import slowed


def course(levels: list[tuple[int, float]], noise: float, seed: int = 0) -> list[float]:
    rng = random.Random(seed)
    return [math.log(level) + rng.gauss(0, noise) for count, level in levels for _ in range(count)]


def test_the_place_of_a_change_is_found() -> None:
    for seed in range(30):
        assert level_changes(course([(20, 100.0), (15, 95.0)], 0.01, seed)) in ([19], [20], [21])
        assert level_changes(course([(20, 100.0), (15, 95.0)], 0.003, seed)) == [20]


def test_noise_alone_has_no_levels() -> None:
    found = [level_changes(course([(60, 100.0)], 0.02, seed)) for seed in range(200)]
    assert sum(bool(places) for places in found) <= 10


def test_a_level_that_wanders_is_seldom_a_change() -> None:
    """Reports that depend on the one before: 1 % in all, correlated by 0.5."""
    changed = 0
    for seed in range(200):
        rng, level, values = random.Random(seed), 0.0, []
        for _ in range(100):
            level = 0.5 * level + rng.gauss(0, 0.0087)
            values.append(level)
        changed += bool(level_changes(values))
    assert changed <= 20


def test_a_slow_drift_is_told_in_steps_down() -> None:
    rng = random.Random(1)
    values = [-0.0005 * day + rng.gauss(0, 0.004) for day in range(200)]
    edges = [0, *level_changes(values), 200]
    levels = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    assert len(levels) >= 3
    assert levels == sorted(levels, reverse=True)


def test_short_courses() -> None:
    """A level needs two reports, so four are the fewest that can show a change."""
    for seed in range(50):
        assert level_changes(course([(2, 100.0), (2, 80.0)], 0.003, seed)) == [2]
        assert level_changes(course([(3, 100.0), (1, 80.0)], 0.003, seed)) == []
        assert level_changes(course([(2, 100.0), (1, 80.0)], 0.003, seed)) == []


def test_one_bad_run_is_no_change_wherever_it_stands() -> None:
    for place in range(30):
        values = course([(30, 100.0)], 0.003)
        values[place] -= math.log(1.5)
        assert level_changes(values) == [], place


def test_a_bad_run_beside_an_edge_does_not_hide_it() -> None:
    for place in range(10, 20):
        values = course([(15, 100.0), (15, 90.0)], 0.003)
        values[place] -= math.log(1.5)
        (found,) = level_changes(values)
        assert abs(found - 15) <= 2, place  # a good run between a bad one and the edge may go to either side


def test_there_and_back() -> None:
    assert level_changes(course([(12, 100.0), (8, 92.0), (12, 100.0)], 0.004)) == [12, 20]


def test_few_reports_have_no_levels() -> None:
    assert level_changes([1.0, 2.0, 3.0]) == []
    assert level_changes([]) == []


def sides() -> list[ReportRates]:
    """Ten reports, from the seventh on 10 % slower, in the wrong order."""
    made = []
    for day in range(1, 11):
        report = replace(make_report(), created_at=f"2026-03-{day:02d}T12:00:00+00:00")
        rng = random.Random(day)
        made.append(
            rates_of(f"day{day}", slowed(report, (1.1 if day >= 7 else 1.0) * (1 + rng.gauss(0, 0.002))))
        )
    random.Random(0).shuffle(made)
    return made


def test_the_report_at_which_the_level_changed_is_named() -> None:
    history = history_of(sides())
    assert history.num_reports == 10
    assert len(history.cases) == 5
    for case in history.cases:
        assert [point.report for point in case.points] == [f"day{day}" for day in range(1, 11)]
        (change,) = case.changes
        assert change.report == "day7"
        assert abs(change.ratio - 1 / 1.1) < 0.01


def test_two_cases_of_one_report_are_never_one_course() -> None:
    with pytest.raises(BadInputError, match="would be the same one"):
        history_of(sides(), frozenset({"precision"}))


def test_reports_of_another_environment_are_left_out_by_name() -> None:
    made = sides()
    odd = next(place for place, side in enumerate(made) if side.name == "day3")
    made[odd] = made[odd]._replace(environment=replace(made[odd].environment, driver="1"))
    history = history_of(made)
    assert [(left.report, left.fields) for left in history.left_out] == [("day3", ("driver",))]
    assert len(history.cases[0].points) == 9
    assert history_of(made, frozenset({"driver"})).left_out == ()


def test_a_case_that_does_not_end_ok_any_more_is_told_with_the_first_such_report() -> None:
    report = make_report()
    oom = next(result for result in report.cases if result.outcome == "oom")
    failed = replace(report.cases[0], outcome="oom", reason="", summary=None, attempts=oom.attempts)
    made = []
    for day in range(1, 9):
        cases = (failed if day in (3, 6, 7, 8) else report.cases[0], *report.cases[1:])
        dated = replace(report, created_at=f"2026-03-{day:02d}T12:00:00+00:00", cases=cases)
        made.append(rates_of(f"day{day}", dated))
    first, *others = history_of(made).cases
    assert first.no_longer_ok is not None
    assert (first.no_longer_ok.report, first.no_longer_ok.outcome) == ("day6", "oom")
    assert [case.no_longer_ok for case in others] == [None] * 4
    assert history_of(made[:5]).cases[0].no_longer_ok is None
    console = Console(width=200, file=io.StringIO())
    console.print(history_view(history_of(made)))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "reference-cnn b32 fp32: oom from day6 on (2026-03-06T12:00:00+00:00), so its course" in text
