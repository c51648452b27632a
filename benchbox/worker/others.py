"""How much of the machine everything else used while this process was measuring."""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
from pathlib import Path

import psutil

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class OthersWatch:
    """Two readings, one when it is made and one when it is asked; nothing in between."""

    def __init__(self) -> None:
        self._peers = _peers()
        self._at_s = time.monotonic()
        self._busy_s = _machine_busy_s()
        self._own_s = self._read_own_s()

    def used_pct(self) -> float | None:
        """Percent of all processors' time that neither this process, nor its loader processes, nor the ranks
        beside it used; the kernel counts in ticks of 10 ms, so it says little about less than a second.
        ``None`` without /proc/stat."""
        busy_s, passed_s = _machine_busy_s(), time.monotonic() - self._at_s
        if self._busy_s is None or busy_s is None or passed_s <= 0:
            return None
        others_s = (busy_s - self._busy_s) - (self._read_own_s() - self._own_s)
        return max(0.0, 100 * others_s / (passed_s * (os.cpu_count() or 1)))

    def _read_own_s(self) -> float:
        return _own_s() + sum(map(_child_s, self._peers))


def _peers() -> list[int]:
    """The other ranks on this machine and their loader processes: what torchrun started beside this one."""
    if int(os.environ.get("LOCAL_WORLD_SIZE", "1")) == 1:
        return []
    own = {os.getpid(), *(child.pid for child in multiprocessing.active_children())}
    started = psutil.Process(os.getppid()).children(recursive=True)
    return [process.pid for process in started if process.pid not in own]


def _machine_busy_s() -> float | None:
    """Time that all processors together have worked, time stolen by the hypervisor included."""
    try:
        first_line = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0]
    except OSError:
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, first_line.split()[1:9])
    return (user + nice + system + irq + softirq + steal) * _TICK_S


def _own_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime + sum(_child_s(p.pid) for p in multiprocessing.active_children())


def _child_s(pid: int | None) -> float:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0.0
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S
