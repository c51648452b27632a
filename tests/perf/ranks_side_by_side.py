"""The worker's loop and the hand-written one in the same two ranks, turn by turn.

As :mod:`side_by_side` does for one process: both loops train in the same processes, by turns of a fraction of
a second, each on a model of its own that is built anew in every round, now before and now after the other's.
Ranks wait for each other before every turn.

Usage, under torchrun: ranks_side_by_side.py TASK NUM_ROUNDS NUM_TURNS NUM_STEPS, with TASK a worker's
case.json: rank 0 writes the ratio of the two median step times of each round, worker over hand-written, as
JSON. A median is over the steps of all ranks.
"""

import gc
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import hand_written_ranks  # beside this file
import msgspec
import torch
import torch.distributed as dist

from benchbox import stats
from benchbox.schema import WorkerTask
from benchbox.worker.clock import make_clock
from benchbox.worker.data import make_batches
from benchbox.worker.loop import run_steps
from benchbox.worker.ranks import Place, Ranks, join
from benchbox.worker.strategies import make_engine

CPU = torch.device("cpu")
Train = Callable[[int], list[int]]


def prepare_worker(task: WorkerTask, ranks: Ranks, num_steps: int) -> Train:
    """What the worker trains with, as :func:`hand_written_ranks.prepare` gives it."""
    engine, batches = make_engine(task.case, CPU, ()), make_batches(task, CPU, ranks)
    clock = make_clock(CPU, num_steps)
    return lambda steps: run_steps(engine, batches, clock, steps)[0]


def one_round(task: WorkerTask, ranks: Ranks, number: int, num_turns: int, num_steps: int) -> float:
    """The ratio of the medians over all turns and ranks of two new models."""
    case = task.case
    makers: dict[str, Callable[[], Train]] = {
        "worker": lambda: prepare_worker(task, ranks, num_steps),
        "hand": lambda: hand_written_ranks.prepare(case.strategy, case.model, case.per_device_batch_size),
    }
    order = ["worker", "hand"] if number % 2 else ["hand", "worker"]
    train = {side: makers[side]() for side in order}
    for side in order:
        train[side](max(3, num_steps // 2))
    times: dict[str, list[int]] = {side: [] for side in order}
    for turn in range(num_turns):
        for side in order if turn % 2 else order[::-1]:
            ranks.wait()
            times[side] += train[side](num_steps)
    return median_over_ranks(times["worker"]) / median_over_ranks(times["hand"])


def median_over_ranks(times: list[int]) -> float:
    """The median of what all ranks took."""
    told: list[list[int]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(told, times)
    return stats.median([time_ns for of_rank in told for time_ns in of_rank])


def main() -> None:
    """Print the ratios."""
    task = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=WorkerTask)
    num_rounds, num_turns, num_steps = map(int, sys.argv[2:5])
    rank = int(os.environ["RANK"])
    ranks = join(Place(rank=rank, local_rank=rank, world_size=int(os.environ["WORLD_SIZE"])), CPU)
    ratios = []
    for number in range(num_rounds):
        ratios.append(one_round(task, ranks, number, num_turns, num_steps))
        gc.collect()
    if rank == 0:
        Path(task.attempt_dir, "ratios.json").write_text(json.dumps(ratios))
    ranks.wait()
    sys.stdout.flush()
    os._exit(0)  # taking process groups down in order waits for hooks that both loops hold


if __name__ == "__main__":
    main()
