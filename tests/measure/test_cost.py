"""What watching costs: the sums, on synthetic turns with a known effect."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from benchbox.errors import WorkerStartError
from benchbox.measure import cost as measure_cost
from benchbox.measure.cost import Turn, compare_turns, cost_settings, fastest_case, watched_seconds
from benchbox.measure.launch import WorkerServer, start_attempt
from benchbox.measure.runner import SuiteRun
from benchbox.plan.suite import load_suite
from benchbox.report.from_run import report_of_run
from benchbox.report.sentences import telemetry_cost_line
from benchbox.schema import Case, MeasureSettings, RankResult, Window
from tests.factories import make_attempt, make_case, make_rank, make_suite
from tests.runs import ONE_CASE, write_suite

STEP_NS = 10_000_000
STEPS_A_TURN = 8


def turns_and_rank(
    effect: float, num_turns: int, *, first_on: bool = True, noise: float = 0.0, drift: float = 0.0
) -> tuple[list[Turn], RankResult]:
    """Turns of eight steps each; a step takes ``effect`` longer while on, and ``drift`` longer every turn."""
    rng = random.Random(1)
    turns, windows, steps = [], [], []
    at_ns = 1_000_000_000
    for number in range(num_turns):
        on = (number % 4 in (0, 3)) == first_on
        level = STEP_NS * (1 + effect * on) * (1 + drift) ** number
        times = [round(level * (1 + rng.gauss(0, noise))) for _ in range(STEPS_A_TURN)]
        end_ns = at_ns + sum(times)
        turns.append(Turn(at_ns, end_ns, on))
        windows.append(Window(start_at_ns=at_ns, end_at_ns=end_ns, num_steps=STEPS_A_TURN))
        steps += times
        at_ns = end_ns + 1000
    return turns, make_rank(steps, windows=tuple(windows))


@pytest.mark.parametrize("first_on", [True, False], ids=["on-first", "off-first"])
@pytest.mark.parametrize("effect", [0.0, 0.02, -0.01, 1.0])
def test_a_known_effect_is_recovered_whichever_turn_comes_first(effect: float, first_on: bool) -> None:
    turns, rank = turns_and_rank(effect, 12, first_on=first_on)
    cost = compare_turns("case", rank, turns, 0.4)
    assert cost is not None
    assert cost.effect_pct == pytest.approx(100 * effect, abs=1e-3)
    assert cost.effect_pct_interval.low == pytest.approx(100 * effect, abs=1e-3)
    assert cost.effect_pct_interval.high == pytest.approx(100 * effect, abs=1e-3)
    assert cost.step_time_on_ns == pytest.approx(STEP_NS * (1 + effect), rel=1e-6)
    assert cost.step_time_off_ns == STEP_NS
    assert cost.num_steps_on == cost.num_steps_off == 6 * STEPS_A_TURN
    assert cost.sampler_cpu_pct == 0.4
    assert cost.case_id == "case"


def test_the_interval_holds_the_effect_under_noise() -> None:
    turns, rank = turns_and_rank(0.01, 40, noise=0.005)
    cost = compare_turns("case", rank, turns, 0.4)
    assert cost is not None
    assert 0 < cost.effect_pct_interval.low < 1.0 < cost.effect_pct_interval.high < 2


@pytest.mark.parametrize("effect", [0.0, 0.01])
@pytest.mark.parametrize("drift", [0.002, -0.002])
def test_a_slow_drift_of_the_machine_is_not_taken_for_an_effect(effect: float, drift: float) -> None:
    turns, rank = turns_and_rank(effect, 40, drift=drift)
    cost = compare_turns("case", rank, turns, 0.4)
    assert cost is not None
    # The whole run drifts by 8 %.
    assert cost.effect_pct == pytest.approx(100 * effect, abs=1e-4)
    assert cost.effect_pct_interval.high - cost.effect_pct_interval.low < 1e-3


def test_what_few_steps_pay_counts() -> None:
    # One step of each turn takes twice as long while the sampler is on; the median step takes what it took.
    turns, rank = turns_and_rank(0.0, 12)
    steps = list(rank.step_time_ns)
    windows, ends = [], []
    for number, turn in enumerate(turns):
        steps[number * STEPS_A_TURN] += STEP_NS * turn.on
        start_ns = ends[-1] if ends else 1_000_000_000
        ends.append(start_ns + sum(steps[number * STEPS_A_TURN :][:STEPS_A_TURN]))
        windows.append(Window(start_at_ns=start_ns, end_at_ns=ends[-1], num_steps=STEPS_A_TURN))
        turns[number] = Turn(start_ns, ends[-1], turn.on)
    cost = compare_turns("case", replace(rank, step_time_ns=tuple(steps), windows=tuple(windows)), turns, 0.4)
    assert cost is not None
    assert cost.effect_pct == pytest.approx(100 / STEPS_A_TURN)
    assert cost.step_time_on_ns == STEP_NS * (1 + 1 / STEPS_A_TURN)


@pytest.mark.parametrize("num_turns", [0, 1, 4, 7])
def test_too_few_turns_tell_nothing(num_turns: int) -> None:
    turns, rank = turns_and_rank(0.02, num_turns) if num_turns else ([], make_rank())
    assert compare_turns("case", rank, turns, 0.4) is None


def test_turns_without_a_whole_step_are_left_out() -> None:
    turns, rank = turns_and_rank(0.02, 12)
    # The third turn ends in the middle of its first step, so the blocks begin with the fourth.
    turns[2] = replace(turns[2], end_at_ns=turns[2].start_at_ns + STEP_NS // 2)
    cost = compare_turns("case", rank, turns, 0.4)
    assert cost is not None
    assert cost.effect_pct == pytest.approx(2.0, abs=1e-3)
    assert cost.num_steps_on == cost.num_steps_off == 2 * 2 * STEPS_A_TURN


def test_a_step_that_spans_a_turns_end_counts_for_neither() -> None:
    rank = make_rank([STEP_NS] * 40, start_at_ns=0)
    ends = [n * STEP_NS * 5 + STEP_NS // 2 for n in range(9)]
    turns = [Turn(start, end, n % 4 in (0, 3)) for n, (start, end) in enumerate(itertools.pairwise(ends))]
    cost = compare_turns("case", rank, turns, 0.4)
    assert cost is not None
    assert cost.num_steps_on == cost.num_steps_off == 4 * 4


def test_the_fastest_case_that_went_well_is_watched() -> None:
    fast, slow, broken = (make_case(seed=seed) for seed in range(3))
    attempts = [
        make_attempt(slow, 0, make_rank([9_000_000] * 5)),
        make_attempt(fast, 0, make_rank([2_000_000] * 5)),
        make_attempt(broken, 0, make_rank([1_000_000] * 5), outcome="invalid", reason="NaN"),
    ]
    suite = make_suite([slow, broken, fast])
    assert fastest_case(suite, attempts) == (fast, 0.002)
    assert fastest_case(suite, attempts[2:]) is None


def test_the_attempt_uses_its_whole_time() -> None:
    settings = cost_settings(MeasureSettings(max_seconds=0.1, max_measured_steps=5, min_measured_steps=4), 8)
    assert settings.max_seconds == 8
    assert settings.max_measured_steps == 100_000
    assert settings.ci_target_pct is not None
    assert settings.ci_target_pct < 1e-6


def test_a_time_to_hang_of_the_suites_own_leaves_time_to_watch() -> None:
    settings = cost_settings(MeasureSettings(max_seconds=0.5, timeout_s=6.0), 8)
    assert settings.timeout_s == 6.0 + 7.5
    assert cost_settings(MeasureSettings(max_seconds=20, timeout_s=30.0), 8).timeout_s == 30.0
    assert cost_settings(MeasureSettings(max_seconds=0.5), 8).timeout_s is None


@pytest.mark.parametrize(("measured_s", "watched_s"), [(0.5, 4.0), (6.0, 6.0), (60.0, 8.0)])
def test_a_run_is_watched_about_as_long_as_it_was_measured(measured_s: float, watched_s: float) -> None:
    case = make_case()
    rank = make_rank([round(measured_s * 1e9 / 10)] * 5)
    attempts = [make_attempt(case, number, rank) for number in range(2)]
    assert watched_seconds(attempts) == pytest.approx(watched_s)


@pytest.mark.parametrize("when", ["at the start", "before", "during"])
def test_a_server_that_ends_while_watching_is_tried_costs_no_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """All is measured by then. A server that goes may have been ended for lack of memory."""
    suite = load_suite(write_suite(tmp_path, ONE_CASE, telemetry_hz=20))

    def start_attempt_and_die(server: WorkerServer, *arguments: Any) -> int:
        if when == "before":
            server._process.kill()
            server._process.wait()
        pid = start_attempt(server, *arguments)
        server._process.kill()
        return pid

    def no_server(case: Case) -> WorkerServer:
        raise WorkerStartError("cannot be started")

    with SuiteRun(suite, tmp_path, tmp_path / "out", device="cpu", resume=False, force=False) as run:
        for _ in run.events():
            pass
        if when == "at the start":
            monkeypatch.setattr(run._site, "running_server", no_server)
        monkeypatch.setattr(measure_cost, "start_attempt", start_attempt_and_die)
        run.measure_cost_of_watching()
        report = report_of_run(run)
        assert not list(run._work_dir.glob("*-0-1"))  # the attempt's files
        monkeypatch.undo()
        assert not run._site.running_server(suite.cases[0]).has_ended()
    assert report.complete
    assert report.telemetry_cost is None


def test_a_run_that_ended_early_does_not_blame_its_steps_alone() -> None:
    line = telemetry_cost_line(None, MeasureSettings(), {})
    assert "ended early" in line
    assert "no case went well" in line
