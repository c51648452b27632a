"""What everything else on the machine uses is told apart from the worker's own work and its children's."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable

import psutil
import pytest

from benchbox.worker.others import OthersWatch

NUM_SECONDS = 1.0
TICKS = 5.0
"""Percent by which readings may differ: the kernel counts in ticks, and two readings are not one moment."""


def keep_busy(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


class Window:
    """What was used in a second, by whom, in percent of all processors' time."""

    def __init__(self, work: Callable[[], None], stranger: int | None = None) -> None:
        watch = OthersWatch()
        at_s, own_s, strange_s = time.monotonic(), time.process_time(), cpu_s(stranger)
        work()
        used = watch.used_pct()
        assert used is not None
        whole_s = (time.monotonic() - at_s) * multiprocessing.cpu_count()
        self.others = used
        self.own = 100 * (time.process_time() - own_s) / whole_s
        self.strange = 100 * (cpu_s(stranger) - strange_s) / whole_s


def cpu_s(pid: int | None) -> float:
    """What a process has used so far."""
    if pid is None:
        return 0.0
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def rest() -> None:
    time.sleep(NUM_SECONDS)


def test_a_stranger_counts() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as stranger:
        window = Window(rest, stranger.pid)
        stranger.kill()
    assert window.strange > TICKS  # it had a processor now and then
    assert window.others >= window.strange - TICKS


def test_own_work_does_not_count() -> None:
    window = Window(lambda: keep_busy(NUM_SECONDS))
    assert window.own > TICKS
    assert window.others <= 100 - window.own + TICKS


def test_loader_processes_count_as_own_work() -> None:
    child = multiprocessing.get_context("fork").Process(target=keep_busy, args=(30.0,))
    child.start()
    try:
        time.sleep(0.2)
        window = Window(rest, child.pid)
    finally:
        child.kill()
        child.join()
    assert window.strange > TICKS
    assert window.others <= 100 - window.strange + TICKS


BESIDE = """
import subprocess, sys
busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
subprocess.run([sys.executable, "-c", '''
import sys
from tests.worker.test_others import Window, rest
window = Window(rest, int(sys.argv[1]))
print(window.others, window.strange)
''', str(busy.pid)])
busy.kill()
"""


@pytest.mark.parametrize(("local_world_size", "is_own"), [("2", True), ("1", False)])
def test_a_rank_beside_this_one_counts_as_own_work(local_world_size: str, is_own: bool) -> None:
    """torchrun starts both, as this script does."""
    done = subprocess.run(
        [sys.executable, "-c", BESIDE],
        env=os.environ | {"LOCAL_WORLD_SIZE": local_world_size, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    others, beside = map(float, done.stdout.split())
    assert beside > TICKS
    assert others <= 100 - beside + TICKS if is_own else others >= beside - TICKS
