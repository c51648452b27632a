from __future__ import annotations

import itertools
import time

import pytest
import torch

from benchbox.worker.clock import CpuClock, CudaClock, make_clock


def test_a_step_lasts_from_one_mark_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([100, 130, 200, 201])
    monkeypatch.setattr("benchbox.worker.clock.time.perf_counter_ns", lambda: next(readings))
    clock = CpuClock(3)
    clock.start()
    for step in range(3):
        clock.mark(step)
    assert clock.read_ns(3) == [30, 70, 1]
    assert clock.read_ns(2) == [30, 70]


def test_a_clock_can_be_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = itertools.count(0, 7)
    monkeypatch.setattr("benchbox.worker.clock.time.perf_counter_ns", lambda: next(readings))
    clock = CpuClock(10)
    for num_steps in (10, 4):
        clock.start()
        for step in range(num_steps):
            clock.mark(step)
        assert clock.read_ns(num_steps) == [7] * num_steps


def test_a_step_is_as_long_as_what_is_done_in_it() -> None:
    clock = make_clock(torch.device("cpu"), 1)
    clock.start()
    time.sleep(0.02)
    clock.mark(0)
    assert clock.read_ns(1)[0] >= 20_000_000


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpus_clock_waits_for_its_work() -> None:
    device = torch.device("cuda:0")
    clock = make_clock(device, 2)
    assert isinstance(clock, CudaClock)
    clock.start()
    clock.mark(0)
    torch.cuda._sleep(50_000_000)
    clock.mark(1)
    empty, full = clock.read_ns(2)
    assert full > 10 * empty
