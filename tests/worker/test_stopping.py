from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from benchbox.schema import MeasureSettings, StopReason, WarmupEnd
from benchbox.worker import stopping
from benchbox.worker.stopping import Measuring, Warmup, ci_target

MS = 1_000_000
StepTime = Callable[[int], int]


class Watch:
    """A clock that only the steps of a test move."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s

    def take(self, step_time: StepTime, first: int, number: int) -> list[int]:
        times = [step_time(step) for step in range(first, first + number)]
        self.now_s += sum(times) / 1e9
        return times


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    watch = Watch()
    monkeypatch.setattr(stopping, "time", SimpleNamespace(monotonic=watch.monotonic))
    return watch


def warm_up(
    watch: Watch, step_time: StepTime, target: float = 0.02, device: str = "cpu", **measure: float
) -> tuple[WarmupEnd, list[int]]:
    """Run a warm-up to its end; why it ended, and its blocks' sizes."""
    warmup = Warmup(MeasureSettings(**measure), target, device, watch.now_s)  # type: ignore[arg-type]
    blocks: list[int] = []
    end = None
    while end is None:
        blocks.append(warmup.next_block())
        end = warmup.add(watch.take(step_time, sum(blocks[:-1]), blocks[-1]))
    assert sum(blocks) == len(warmup.step_time_ns)
    return end, blocks


def measure_until_stopped(
    watch: Watch, step_time: StepTime, target: float = 0.02, device: str = "cpu", **measure: float
) -> tuple[StopReason, list[int]]:
    """Run windows to the end; why it ended, and the windows' sizes."""
    measuring = Measuring(MeasureSettings(**measure), target, device, watch.now_s)  # type: ignore[arg-type]
    times: list[int] = []
    windows: list[int] = []
    reason = None
    while reason is None:
        expected_s = (sum(times) / len(times) if times else step_time(0)) / 1e9
        windows.append(measuring.next_window(times, expected_s))
        times += watch.take(step_time, len(times), windows[-1])
        reason = measuring.reason_to_stop(times)
    return reason, windows


def noisy(scale_ms: float, spread: float, seed: int = 1) -> StepTime:
    """Independent step times with long tails to the right; the same step always takes the same time."""
    return lambda step: round(
        scale_ms * MS * (1 + spread * random.Random(1000 * seed + step).expovariate(1.0))
    )


# --- warm-up -----------------------------------------------------------------------------------------------


def test_blocks_grow_to_a_quarter_second_and_steady_steps_settle_in_half_a_second(watch: Watch) -> None:
    assert warm_up(watch, lambda step: 10 * MS) == ("settled", [1, 2, 4, 8, 16, 25])


def test_a_gpu_is_given_two_seconds_for_its_clocks_to_settle(watch: Watch) -> None:
    end, blocks = warm_up(watch, lambda step: 10 * MS, device="cuda")
    assert end == "settled"
    assert sum(blocks) >= 200


def test_a_small_budget_shortens_the_settling_with_it(watch: Watch) -> None:
    started_s = watch.now_s
    end, _ = warm_up(watch, lambda step: 10 * MS, device="cuda", max_seconds=2)
    assert end == "settled"
    assert watch.now_s - started_s == pytest.approx(0.8, abs=0.05)


def test_a_few_quick_steps_from_a_buffer_do_not_make_an_endless_block(watch: Watch) -> None:
    """A loader delivers in bursts: every fourth step waits 200 ms, the others take 3 ms."""
    started_s = watch.now_s
    warm_up(watch, lambda step: (200 if step % 4 == 0 else 3) * MS, max_seconds=2)
    assert watch.now_s - started_s < 2


def test_the_first_step_is_a_block_of_its_own_and_may_be_slow(watch: Watch) -> None:
    """It compiles and allocates; what comes after is compared with each other."""
    end, blocks = warm_up(watch, lambda step: (900 if step == 0 else 10) * MS)
    assert (end, blocks[0]) == ("settled", 1)
    assert sum(blocks) >= 50


def test_slow_steps_are_compared_one_by_one(watch: Watch) -> None:
    assert warm_up(watch, lambda step: 1000 * MS) == ("settled", [1, 1, 1])


def test_steps_that_get_faster_have_not_settled_yet(watch: Watch) -> None:
    def step_time(step: int) -> int:
        return round(max(10, 300 * 0.9**step) * MS)

    end, blocks = warm_up(watch, step_time, max_seconds=1000)
    assert end == "settled"
    assert step_time(sum(blocks)) == 10 * MS


@pytest.mark.parametrize(("target", "num_blocks"), [(0.01, 4), (0.03, 3)])
def test_settled_means_within_twice_the_target(watch: Watch, target: float, num_blocks: int) -> None:
    # Of the blocks of one step each, the third is 5 % faster than the second, the fourth no more.
    times = [1000, 1000, 950, 950]
    _, blocks = warm_up(watch, lambda step: times[step] * MS, target)
    assert len(blocks) == num_blocks


def test_a_warm_up_that_never_settles_ends_at_its_share_of_the_time(watch: Watch) -> None:
    started_s = watch.now_s
    end, _ = warm_up(watch, lambda step: int(100 * MS * 0.95**step) + 1, max_seconds=2)
    assert end == "time-cap"
    assert watch.now_s - started_s >= 0.8


def test_a_warm_up_that_never_settles_ends_at_its_last_step(watch: Watch) -> None:
    end, blocks = warm_up(
        watch, lambda step: int(100 * MS * 0.98**step) + 1, max_seconds=1000, max_warmup_steps=40
    )
    assert (end, sum(blocks)) == ("step-cap", 40)


def test_a_warm_up_takes_the_fewest_steps_even_when_they_have_settled(watch: Watch) -> None:
    end, blocks = warm_up(watch, lambda step: 100 * MS, min_warmup_steps=37)
    assert end == "settled"
    assert sum(blocks) >= 37


def test_a_warm_up_takes_the_fewest_steps_even_when_the_time_is_over(watch: Watch) -> None:
    end, blocks = warm_up(
        watch, lambda step: (4000 + step % 2 * 1000) * MS, max_seconds=1, min_warmup_steps=4
    )
    assert (end, blocks) == ("time-cap", [1] * 4)


def test_a_warm_up_that_has_settled_when_the_time_is_over_has_settled(watch: Watch) -> None:
    assert warm_up(watch, lambda step: 5000 * MS, max_seconds=1) == ("settled", [1, 1, 1])


@pytest.mark.parametrize("max_warmup_steps", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("step_ns", [0, 1, 1000, MS, 1000 * MS])
def test_a_warm_up_never_takes_more_than_the_most_steps(
    watch: Watch, max_warmup_steps: int, step_ns: int
) -> None:
    end, blocks = warm_up(
        watch,
        lambda step: step_ns * (1 + step % 2),
        1e-9,
        max_seconds=1e5 if step_ns else 20,
        min_warmup_steps=1,
        max_warmup_steps=max_warmup_steps,
    )
    assert sum(blocks) <= max_warmup_steps
    assert (end == "step-cap") == (sum(blocks) == max_warmup_steps)
    assert min(blocks) >= 1


# --- measuring ---------------------------------------------------------------------------------------------


def test_equal_steps_are_known_well_enough_at_once(watch: Watch) -> None:
    assert measure_until_stopped(watch, lambda step: 10 * MS) == ("confidence-interval", [200])


def test_a_gpu_is_measured_for_two_seconds_at_least(watch: Watch) -> None:
    reason, windows = measure_until_stopped(watch, lambda step: MS, device="cuda", max_seconds=10)
    assert (reason, windows) == ("confidence-interval", [1000, 1000])


def test_slow_equal_steps_need_ten(watch: Watch) -> None:
    """Fewer carry an interval, but looking again and again at few of them makes it lie."""
    reason, windows = measure_until_stopped(watch, lambda step: 2000 * MS, max_seconds=100)
    assert (reason, sum(windows)) == ("confidence-interval", 10)
    reason, windows = measure_until_stopped(watch, lambda step: 10_000 * MS, max_seconds=1000)
    assert (reason, sum(windows)) == ("confidence-interval", 10)


def test_bursts_are_measured_over_whole_bursts(watch: Watch) -> None:
    """Windows are sized by the mean step, so the budget is used and not overrun."""
    started_s = watch.now_s
    _, windows = measure_until_stopped(
        watch, lambda step: (200 if step % 4 == 0 else 3) * MS, 1e-6, max_seconds=4
    )
    assert sum(windows) >= 40
    assert watch.now_s - started_s < 6


def test_measuring_goes_on_until_the_interval_is_tight(watch: Watch) -> None:
    loose = measure_until_stopped(watch, noisy(10, 0.1), 0.05)
    tight = measure_until_stopped(watch, noisy(10, 0.1), 0.008)
    assert loose[0] == tight[0] == "confidence-interval"
    assert sum(tight[1]) > sum(loose[1])


def test_measuring_ends_when_the_noise_has_stopped_changing(watch: Watch) -> None:
    reason, windows = measure_until_stopped(watch, noisy(100, 0.5), 1e-6, max_seconds=2000)
    assert reason == "noise-stable"
    assert sum(windows) >= 50
    assert len(windows) >= 4


def test_few_steps_cannot_show_that_noise_is_stable(watch: Watch) -> None:
    reason, windows = measure_until_stopped(
        watch, lambda step: (400 + step % 2 * 100) * MS, 1e-6, max_seconds=20
    )
    assert (reason, sum(windows) < 50) == ("time-budget", True)


def test_measuring_ends_with_its_time_and_not_long_after(watch: Watch) -> None:
    started_s = watch.now_s
    reason, _ = measure_until_stopped(watch, noisy(300, 0.3), 1e-6, max_seconds=10)
    assert reason == "time-budget"
    assert 10 <= watch.now_s - started_s < 10 + 2.0  # a step lasts up to about 2 s here


def test_the_time_already_spent_on_warming_up_counts(watch: Watch) -> None:
    measuring = Measuring(MeasureSettings(max_seconds=10), 1e-6, "cpu", budget_from=watch.now_s - 10)
    assert measuring.reason_to_stop([400 * MS, 500 * MS, 450 * MS]) == "time-budget"


def test_measuring_takes_the_fewest_steps_even_when_the_time_is_over(watch: Watch) -> None:
    reason, windows = measure_until_stopped(
        watch, lambda step: (5000 + step % 3) * MS, 1e-9, max_seconds=1, min_measured_steps=5
    )
    assert (reason, windows) == ("time-budget", [1] * 5)


def test_measuring_takes_the_fewest_steps_even_when_they_are_all_equal(watch: Watch) -> None:
    _, windows = measure_until_stopped(watch, lambda step: 10 * MS, min_measured_steps=450)
    assert sum(windows) >= 450


@pytest.mark.parametrize("max_measured_steps", [1, 2, 7, 100])
@pytest.mark.parametrize("step_ns", [0, 1, 1000, MS, 1000 * MS])
def test_measuring_never_takes_more_than_the_most_steps(
    watch: Watch, max_measured_steps: int, step_ns: int
) -> None:
    """Not even where fewer are allowed than must be taken, which a suite cannot say."""
    reason, windows = measure_until_stopped(
        watch,
        lambda step: step_ns * (1 + step % 2),
        1e-9,
        max_seconds=1e4,
        max_measured_steps=max_measured_steps,
    )
    assert sum(windows) <= max_measured_steps
    assert min(windows) >= 1
    assert reason == "step-cap" or sum(windows) < max_measured_steps


def test_a_window_is_a_tenth_of_the_time_and_never_past_its_end(watch: Watch) -> None:
    measuring = Measuring(MeasureSettings(max_seconds=10), 0.02, "cpu", watch.now_s)
    assert measuring.next_window([], 0.1) == 10
    watch.now_s += 9.75
    assert measuring.next_window([1], 0.1) == 2
    watch.now_s += 5
    assert measuring.next_window([1], 0.1) == 1


@pytest.mark.parametrize(
    ("measure", "device", "target"),
    [
        (MeasureSettings(), "cpu", 0.02),
        (MeasureSettings(), "cuda", 0.005),
        (MeasureSettings(ci_target_pct=1.5), "cpu", 0.015),
        (MeasureSettings(ci_target_pct=1.5), "cuda", 0.015),
    ],
)
def test_the_target_is_the_suites_or_the_devices(
    measure: MeasureSettings, device: str, target: float
) -> None:
    assert ci_target(measure, device) == target
