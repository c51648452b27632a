"""Two ways to take a step, set side by side: by turns, so that drift of the machine falls on both alike."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from benchbox.schema import Interval
from benchbox.stats import mean, mean_interval
from benchbox.worker.clock import make_clock

TURNS_A_ROUND = 4
"""One, other, other, one."""
_TURN_S = 0.02  # a turn is about this long, so that the clock is not what is measured
_MAX_STEPS_A_TURN = 50

Step = Callable[[], object]
Pair = tuple[float, float]
"""Mean step times of two turns side by side, in ns: of the one way and of the other."""


def steps_a_turn(step_s: float) -> int:
    """How many steps of about ``step_s`` make a turn."""
    return max(1, min(_MAX_STEPS_A_TURN, math.ceil(_TURN_S / max(step_s, 1e-6))))


def steps_of_a_turn(num_steps: int, device: torch.device) -> int:
    """How many steps a turn that times ``num_steps`` takes in all: on a GPU one goes before."""
    return num_steps + (1 if device.type == "cuda" else 0)


def time_turn(step: Step, device: torch.device, num_steps: int) -> float:
    """The mean time of ``num_steps`` steps in a row, in ns."""
    clock = make_clock(device, 1)
    for _ in range(steps_of_a_turn(num_steps, device) - num_steps):
        step()  # the wait before has emptied the launch queue
    clock.start()
    for _ in range(num_steps):
        step()
    clock.mark(0)
    return clock.read_ns(1)[0] / num_steps


def by_turns(one: Step, other: Step, device: torch.device, num_steps: int, num_rounds: int) -> list[Pair]:
    """Two pairs a round, each of neighbours in time, ``num_steps`` steps a turn."""
    pairs: list[Pair] = []
    for _ in range(num_rounds):
        times = [time_turn(step, device, num_steps) for step in (one, other, other, one)]
        pairs += [(times[0], times[1]), (times[3], times[2])]
    return pairs


def interval_of(values: list[float]) -> tuple[int, Interval]:
    """The mean and its Student interval over pairs, which are taken as independent; at least two values."""
    low, high = mean_interval(values, independent=True)
    return round(mean(values)), Interval(low=low, high=high)
