"""Who is slow, and what collectives cost, against values computed by hand."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchbox.analyze.ranks import (
    RankSummary,
    all_reduce_ceilings,
    best_all_reduce,
    own_work_ns,
    steps_that_differ,
    summarize_ranks,
)
from benchbox.analyze.summary import summarize_case
from benchbox.schema import AllReduceRate, AttemptResult, CaseResult, Interval
from tests.factories import make_attempt, make_case, make_communication, make_rank

MS = 1_000_000
CASE = make_case(strategy="ddp", world_size=4)


def attempt_with(*off_ms: float, on_ms: float = 20.0, half_width_ms: float = 0.2) -> AttemptResult:
    """One rank for each own work; all of them step in ``on_ms``."""
    ranks = []
    for number, off in enumerate(off_ms):
        exposed_ns = (on_ms - off) * 1e6
        interval = Interval(low=exposed_ns - half_width_ms * 1e6, high=exposed_ns + half_width_ms * 1e6)
        communication = make_communication(on_ms, off, exposed_interval_ns=interval, bytes_per_step=10**9)
        ranks.append(make_rank([round(on_ms * MS)] * 10, rank=number, communication=communication))
    return make_attempt(CASE, 0, *ranks)


def test_the_rank_with_the_most_work_of_its_own_is_the_slowest() -> None:
    summary = summarize_ranks([attempt_with(10, 10.2, 15, 10.1)])
    assert summary.slowest_rank == 2
    assert summary.straggler_ranks == (2,)
    assert summary.rank_spread_pct == pytest.approx(50)


def test_the_share_is_the_slowest_ranks_so_that_waiting_for_it_is_not_communication() -> None:
    # Rank 1 needs the whole step for itself: a wire that takes no time would change nothing.
    summary = summarize_ranks([attempt_with(10, 20)])
    assert summary.slowest_rank == 1
    assert summary.communication_share == pytest.approx(0)
    assert summary.communication_bytes_per_s is None
    assert summary.straggler_ranks == (1,)


def test_share_interval_and_bandwidth() -> None:
    summary = summarize_ranks([attempt_with(15, 15)])
    assert summary.communication_share == pytest.approx(0.25)
    assert summary.communication_share_interval is not None
    assert summary.communication_share_interval.low == pytest.approx(4.8 / 20)
    assert summary.communication_share_interval.high == pytest.approx(5.2 / 20)
    assert summary.communication_bytes_per_step == 10**9
    assert summary.communication_bytes_per_s == pytest.approx(10**9 / 0.005)  # 5 ms exposed
    assert summary.straggler_ranks == ()


def test_a_share_is_never_said_to_be_above_the_whole() -> None:
    summary = summarize_ranks([attempt_with(2, 2, half_width_ms=9)])
    assert summary.communication_share == pytest.approx(0.9)
    assert summary.communication_share_interval is not None
    assert summary.communication_share_interval.low == pytest.approx(0.45)
    assert summary.communication_share_interval.high == 1.0


def test_no_bandwidth_from_time_that_may_be_none() -> None:
    summary = summarize_ranks([attempt_with(19.9, 19.9, half_width_ms=0.2)])
    assert summary.communication_share == pytest.approx(0.005)
    assert summary.communication_bytes_per_s is None
    negative = summarize_ranks([attempt_with(20.5, 20.5)])
    assert negative.communication_share == pytest.approx(-0.025)
    assert negative.communication_bytes_per_s is None


@pytest.mark.parametrize(
    ("off_ms", "half_width_ms", "named"),
    [
        ((10, 10.4), 0.0, ()),  # sure, and too little to act on
        ((10, 10.6), 0.2, (1,)),
        ((10, 10.6), 0.31, ()),  # the intervals overlap
        ((10, 20, 20), 0.0, ()),  # the middle rank is one of the slow ones: rank 0 is quick, nobody straggles
        ((10, 10, 20, 30), 0.1, (2, 3)),
    ],
)
def test_stragglers_only_beyond_noise(
    off_ms: tuple[float, ...], half_width_ms: float, named: tuple[int, ...]
) -> None:
    attempt = attempt_with(*off_ms, on_ms=40, half_width_ms=half_width_ms)
    assert summarize_ranks([attempt]).straggler_ranks == named


@pytest.mark.parametrize(
    ("measured_ms", "half_width_ms", "differ"),
    [
        (20, 0.0, False),
        (20.9, 0.0, False),  # sure, and too little to speak of
        (22, 1.9, True),
        (22, 2.1, False),  # within the pass's interval
        (18, 1.9, True),
    ],
)
def test_a_communication_pass_of_other_steps_than_the_measured_ones_is_found_out(
    measured_ms: float, half_width_ms: float, differ: bool
) -> None:
    attempt = attempt_with(10, 15, on_ms=20, half_width_ms=half_width_ms)
    ranks = tuple(
        msgspec.structs.replace(rank, step_time_ns=(round(measured_ms * MS),) * 10) for rank in attempt.ranks
    )
    attempts = [msgspec.structs.replace(attempt, ranks=ranks)]
    found = steps_that_differ(attempts, 1)
    assert found == ((measured_ms * MS, 20 * MS) if differ else None)
    assert steps_that_differ(attempts, None) is None


def test_noise_of_the_measured_steps_counts_as_well() -> None:
    attempt = attempt_with(10, 15, on_ms=20, half_width_ms=0.0)
    noisy = msgspec.structs.replace(attempt.ranks[1], step_time_ns=(10 * MS, 34 * MS, 10 * MS, 34 * MS))
    attempts = [msgspec.structs.replace(attempt, ranks=(attempt.ranks[0], noisy))]
    assert steps_that_differ(attempts, 1) is None


@pytest.mark.parametrize(("quickest_ms", "named"), [(14.0, (1,)), (10.3, (1,)), (10.1, ()), (None, (1,))])
def test_a_rank_that_was_slow_for_a_while_is_no_straggler(
    quickest_ms: float | None, named: tuple[int, ...]
) -> None:
    whole = attempt_with(10, 15)
    communication = whole.ranks[1].communication
    assert communication is not None
    quickest_ns = None if quickest_ms is None else round(quickest_ms * MS)
    changed = msgspec.structs.replace(communication, step_time_off_quickest_ns=quickest_ns)
    rank = msgspec.structs.replace(whole.ranks[1], communication=changed)
    assert summarize_ranks([make_attempt(CASE, 0, whole.ranks[0], rank)]).straggler_ranks == named


def test_one_rank_has_nothing_to_be_compared_with() -> None:
    assert summarize_ranks([make_attempt(make_case())]) == RankSummary()
    assert summarize_ranks([]) == RankSummary()


class TestWithoutThePass:
    def attempt(self, *step_ms: float) -> AttemptResult:
        ranks = [make_rank([round(ms * MS)] * 10, rank=number) for number, ms in enumerate(step_ms)]
        return make_attempt(CASE, 0, *ranks)

    def test_ranks_that_wait_for_each_other_tell_nothing(self) -> None:
        assert summarize_ranks([self.attempt(20, 20.1)]) == RankSummary()

    def test_ranks_that_do_not_wait_show_the_straggler(self) -> None:
        summary = summarize_ranks([self.attempt(10, 10, 20)])
        assert summary == RankSummary(slowest_rank=2, straggler_ranks=(2,))

    def test_a_pass_that_one_rank_lacks_is_none(self) -> None:
        whole = attempt_with(10, 15)
        lame = make_attempt(CASE, 0, whole.ranks[0], make_rank([20 * MS] * 10, rank=1))
        assert summarize_ranks([lame]) == RankSummary()
        assert summarize_ranks([lame, whole]).slowest_rank == 1


def test_own_work_is_that_of_the_first_attempt_that_knows_it() -> None:
    attempts = [make_attempt(CASE), attempt_with(10, 11), attempt_with(12, 13)]
    assert own_work_ns(attempts) == {0: 10 * MS, 1: 11 * MS}


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("world_size", [2, 8])
def test_the_global_rate_counts_every_ranks_samples_over_the_slowest_step(
    world_size: int, accumulation: int
) -> None:
    case = make_case(
        strategy="ddp",
        world_size=world_size,
        per_device_batch_size=16,
        gradient_accumulation_steps=accumulation,
    )
    ranks = [make_rank([(10 + number) * MS] * 5, rank=number) for number in range(world_size)]
    summary = summarize_case(case, [make_attempt(case, 0, *reversed(ranks))], None)
    assert summary is not None
    slowest_s = (10 + world_size - 1) / 1000
    assert summary.samples_per_second == pytest.approx(world_size * 16 * accumulation / slowest_s)
    assert summary.num_measured_steps == 5


times = st.floats(min_value=0.1, max_value=1000)


@settings(max_examples=100)
@given(st.lists(times, min_size=2, max_size=9), st.floats(min_value=0, max_value=20), st.randoms())
def test_names_go_with_the_times_and_at_most_half_of_the_ranks_straggle(
    off_ms: list[float], half_width_ms: float, rng: object
) -> None:
    attempt = attempt_with(*off_ms, on_ms=1000, half_width_ms=half_width_ms)
    summary = summarize_ranks([attempt])
    own = own_work_ns([attempt])
    assert own[summary.slowest_rank or 0] == max(own.values())
    assert summary.rank_spread_pct is not None
    assert summary.rank_spread_pct >= 0
    assert len(summary.straggler_ranks) <= len(off_ms) // 2
    if summary.straggler_ranks:
        slow = min(own[rank] for rank in summary.straggler_ranks)
        assert slow > max(own[rank] for rank in own if rank not in summary.straggler_ranks)
    ranks = list(attempt.ranks)
    rng.shuffle(ranks)  # type: ignore[attr-defined]
    shuffled = summarize_ranks([make_attempt(CASE, 0, *ranks)])
    assert set(shuffled.straggler_ranks) == set(summary.straggler_ranks)
    assert shuffled.rank_spread_pct == summary.rank_spread_pct


# --- all-reduce --------------------------------------------------------------------------------------------


def timed(*of_ranks: tuple[float, ...]) -> AttemptResult:
    """For each rank the rates at bucket sizes of 1 and 2 bytes."""
    ranks = [
        make_rank(
            rank=number,
            all_reduce=tuple(AllReduceRate(num_bytes=1 + i, bytes_per_s=r) for i, r in enumerate(rates)),
        )
        for number, rates in enumerate(of_ranks)
    ]
    return make_attempt(CASE, 0, *ranks)


def test_an_all_reduce_is_as_fast_as_its_slowest_rank_saw_it_at_the_best_size() -> None:
    assert best_all_reduce([timed((5.0, 9.0), (4.0, 7.0))]) == 7
    assert best_all_reduce([timed((5.0, 9.0), (4.0, 2.0))]) == 4
    assert best_all_reduce([timed((), ()), timed((5.0,), (6.0,))]) == 5


@pytest.mark.parametrize("attempts", [[], [timed((), ())], [timed((5.0,), ())]])
def test_an_all_reduce_that_some_rank_did_not_time_is_not_known(attempts: list[AttemptResult]) -> None:
    assert best_all_reduce(attempts) is None


def test_one_ceiling_for_each_world_size_the_best_of_its_cases() -> None:
    def result(world_size: int, *rates: float) -> CaseResult:
        case = make_case(strategy="ddp", world_size=world_size)
        attempts = tuple(timed((rate,), (rate,)) for rate in rates)
        return CaseResult(case=case, outcome="ok", reason=None, attempts=attempts, summary=None)

    found = all_reduce_ceilings([result(4, 3.0), result(2, 5.0, 6.0), result(2, 4.0), result(8)])
    assert [(one.world_size, one.bytes_per_s) for one in found] == [(2, 6.0), (4, 3.0)]
