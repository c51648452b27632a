"""The order in which attempts run, and which are left to run."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from benchbox.measure import runner
from benchbox.measure.order import Settled, rounds
from benchbox.schema import AttemptResult
from tests.factories import make_attempt, make_case, make_suite

SUITE = make_suite([make_case(per_device_batch_size=size) for size in range(1, 13)], repetitions=5)


def test_the_same_seed_gives_the_same_order() -> None:
    assert rounds(SUITE) == rounds(SUITE)


def test_another_seed_gives_another_order() -> None:
    assert rounds(SUITE) != rounds(replace(SUITE, order_seed=1))


def test_each_round_holds_each_case_once() -> None:
    order = rounds(SUITE)
    assert len(order) == 5
    for cases in order:
        assert sorted(case.case_id for case in cases) == sorted(case.case_id for case in SUITE.cases)


def test_rounds_differ_from_each_other_and_from_the_suite() -> None:
    order = [tuple(case.case_id for case in cases) for cases in rounds(SUITE)]
    assert len({*order, tuple(case.case_id for case in SUITE.cases)}) == 6


def test_more_repetitions_keep_the_order_of_the_first_ones() -> None:
    longer = replace(SUITE, measure=replace(SUITE.measure, repetitions=8))
    assert rounds(longer)[:5] == rounds(SUITE)


def test_an_attempt_that_ended_well_settles_itself_and_one_that_failed_all_of_its_case() -> None:
    settled = Settled(SUITE)
    first, second = SUITE.cases[:2]
    settled.add(make_attempt(first, 1))
    assert [number for number in range(5) if (first.case_id, number) in settled] == [1]
    settled.add(make_attempt(first, 3, outcome="crashed", reason="x", ranks=()))
    assert all((first.case_id, number) in settled for number in range(5))
    assert (second.case_id, 1) not in settled
    assert len(settled) == 5
    assert not settled.is_all()
    for case, number in itertools.product(SUITE.cases, range(5)):
        settled.add(make_attempt(case, number))
    assert settled.is_all()


def test_very_many_cases_take_no_time_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking through all attempts before each one would take hours here."""
    suite = make_suite([make_case(per_device_batch_size=size) for size in range(1, 10_001)], repetitions=3)
    attempts = {
        (a.case_id, a.attempt): a for case in suite.cases for a in (make_attempt(case, n) for n in range(3))
    }
    run = runner.SuiteRun(suite, tmp_path, tmp_path, device="cpu", resume=False, force=False)
    monkeypatch.setattr(run._site, "attempt", lambda key: iter_of(attempts[key]))
    monkeypatch.setattr(run, "_append", lambda line: None)
    monkeypatch.setattr(run, "_task", lambda case, _settings, number, **_: (case.case_id, number))
    started = [event.num_done for event in run.events() if isinstance(event, runner.Started)]
    assert started == list(range(30_000))
    assert run.is_complete()


def iter_of(attempt: AttemptResult) -> Iterator[AttemptResult]:
    yield attempt
