"""What everything else on the machine uses is told apart from the worker's own work and its children's."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable

from benchbox.worker.others import OthersWatch

NUM_SECONDS = 1.0


def keep_busy(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def used_during(work: Callable[[], None]) -> float:
    watch = OthersWatch()
    work()
    used = watch.used_pct()
    assert used is not None
    return used


def used_beside_a_stranger() -> float:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as stranger:
        foreign = used_during(lambda: time.sleep(NUM_SECONDS))
        stranger.kill()
    return foreign


def holds_in_some_round(holds: Callable[[], bool]) -> bool:
    """The tests' own neighbours may come and go, so one quiet round of a few decides."""
    return any(holds() for _ in range(5))


def test_a_stranger_shows_and_own_work_does_not() -> None:
    gap = 0.4 * 100 / multiprocessing.cpu_count()

    def holds() -> bool:
        idle = used_during(lambda: time.sleep(NUM_SECONDS))
        own = used_during(lambda: keep_busy(NUM_SECONDS))
        return used_beside_a_stranger() >= max(idle, own) + gap

    assert holds_in_some_round(holds)


def test_loader_processes_count_as_own_work() -> None:
    def holds() -> bool:
        child = multiprocessing.get_context("fork").Process(target=keep_busy, args=(30.0,))
        child.start()
        try:
            time.sleep(0.2)
            own_child = used_during(lambda: time.sleep(NUM_SECONDS))
        finally:
            child.kill()
            child.join()
        return own_child < used_beside_a_stranger()

    assert holds_in_some_round(holds)


BESIDE = """
import subprocess, sys
busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
subprocess.run([sys.executable, "-c", '''
import time
from benchbox.worker.others import OthersWatch
watch = OthersWatch()
time.sleep(1)
print(watch.used_pct())
'''])
busy.kill()
"""


def test_a_rank_beside_this_one_counts_as_own_work() -> None:
    """torchrun starts both, as this script does."""

    def used_beside_a_busy_process(local_world_size: str) -> float:
        environment = os.environ | {"LOCAL_WORLD_SIZE": local_world_size}
        done = subprocess.run(
            [sys.executable, "-c", BESIDE], env=environment, capture_output=True, text=True, check=True
        )
        return float(done.stdout)

    gap = 0.1 * 100 / multiprocessing.cpu_count()
    assert holds_in_some_round(
        lambda: used_beside_a_busy_process("2") + gap <= used_beside_a_busy_process("1")
    )
