"""What everything else on the machine uses is told apart from the worker's own work and its children's."""

from __future__ import annotations

import multiprocessing
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


def test_a_stranger_shows_and_own_work_does_not() -> None:
    idle = used_during(lambda: time.sleep(NUM_SECONDS))
    own = used_during(lambda: keep_busy(NUM_SECONDS))
    code = "import time\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", code]) as stranger:
        foreign = used_during(lambda: time.sleep(NUM_SECONDS))
        stranger.kill()
    share_of_one = 100 / (multiprocessing.cpu_count())
    assert foreign >= idle + 0.4 * share_of_one
    assert foreign >= own + 0.4 * share_of_one


def test_loader_processes_count_as_own_work() -> None:
    child = multiprocessing.get_context("fork").Process(target=keep_busy, args=(30.0,))
    child.start()
    try:
        time.sleep(0.2)
        own_child = used_during(lambda: time.sleep(NUM_SECONDS))
    finally:
        child.kill()
        child.join()
    code = "import time\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", code]) as stranger:
        foreign = used_during(lambda: time.sleep(NUM_SECONDS))
        stranger.kill()
    assert own_child < foreign
