"""The worker's loop and the hand-written one in one process, turn by turn.

Two processes differ by several percent for reasons that are neither loop's: where the kernel put their pages,
who else was on the machine. Here both loops run in one process, by turns of a fraction of a second, each on a
model of its own that is built anew in every round, now before and now after the other's.

Usage: python side_by_side.py TASK NUM_ROUNDS NUM_TURNS NUM_STEPS, with TASK a worker's case.json: writes the
ratio of the two median step times of each round, worker over hand-written, as JSON.
"""

import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path

import hand_written  # beside this file
import msgspec
import torch

from benchbox import stats
from benchbox.schema import WorkerTask
from benchbox.worker.clock import make_clock
from benchbox.worker.data import make_batches
from benchbox.worker.loop import run_steps
from benchbox.worker.strategies.single import SingleEngine

Train = Callable[[int], list[int]]


def prepare_worker(task: WorkerTask, num_steps: int) -> Train:
    """What the worker trains with, as :func:`hand_written.prepare` gives it."""
    device = torch.device(task.device)
    engine, batches = SingleEngine(task.case, device, ()), make_batches(task, device)
    clock = make_clock(device, num_steps)
    return lambda steps: run_steps(engine, batches, clock, steps)[0]


def one_round(task: WorkerTask, number: int, num_turns: int, num_steps: int) -> float:
    """The ratio of the medians over all turns of two new models."""
    makers: dict[str, Callable[[], Train]] = {
        "worker": lambda: prepare_worker(task, num_steps),
        "hand": lambda: hand_written.prepare(task.case.model, task.case.per_device_batch_size),
    }
    order = ["worker", "hand"] if number % 2 else ["hand", "worker"]
    train = {side: makers[side]() for side in order}
    for side in order:
        train[side](max(2, num_steps // 2))
    times: dict[str, list[int]] = {side: [] for side in order}
    for turn in range(num_turns):
        for side in order if turn % 2 else order[::-1]:
            times[side] += train[side](num_steps)
    return stats.median(times["worker"]) / stats.median(times["hand"])


def main() -> None:
    """Print the ratios."""
    task = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=WorkerTask)
    num_rounds, num_turns, num_steps = map(int, sys.argv[2:5])
    ratios = []
    for number in range(num_rounds):
        ratios.append(one_round(task, number, num_turns, num_steps))
        gc.collect()
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()
