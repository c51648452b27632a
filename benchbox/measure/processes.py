"""A process and its descendants, read cheaply again and again.

A worker's counters are all in ``/proc/<pid>/stat``. The file is opened once a process: that is half of the
cost, and a file that was opened never speaks of another process that got the same number later. Who descends
from whom takes a look at every process of the machine, so it is asked for apart, and only processes that were
not there before are opened for it (``/proc/<pid>/task/*/children`` would be simpler, but many kernels are
built without it).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

_PPID, _MINOR_FAULTS, _MAJOR_FAULTS, _UTIME, _STIME, _RSS = 1, 7, 9, 11, 12, 21
"""Places in ``/proc/<pid>/stat`` after the command's name, proc(5) minus 3."""
_STAT_BYTES = 2048


class TreeUsage(NamedTuple):
    """Sums over the processes of a tree that are alive, and running counts that include those that ended."""

    page_faults: int
    """Minor and major, running count."""
    rss_bytes: int
    """Of those alive; memory that several of them share is counted for each."""
    user_ticks: int
    """User time since the last reading, of processes that were in it."""
    kernel_ticks: int


class _Reading(NamedTuple):
    faults: int
    rss_pages: int
    utime: int
    stime: int


class ProcessTree:
    """The process ``root`` and all that descend from it, those too whose parents have ended since."""

    def __init__(self, root: int, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._listed: set[int] = set()
        self._files: dict[int, int] = {}
        self._last: dict[int, _Reading] = {}
        self._ended_faults = 0
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")
        self._open(root)

    @property
    def pids(self) -> frozenset[int]:
        """The processes alive at the last look."""
        return frozenset(self._files)

    def look_for_children(self) -> None:
        """Take in processes that were started since the last call."""
        listed = {int(name) for name in os.listdir(self._proc) if name.isdigit()}  # noqa: PTH208
        parents = {pid: self._parent(pid) for pid in listed - self._listed}
        self._listed = listed
        while found := [pid for pid, parent in parents.items() if parent in self._files]:
            for pid in found:
                del parents[pid]
                if pid not in self._files:
                    self._open(pid)

    def read(self) -> TreeUsage | None:
        """One reading of all processes; ``None`` once none is left. One that vanishes is no error."""
        utime = stime = faults = rss_pages = 0
        for pid, file in tuple(self._files.items()):
            reading = _read(file)
            if reading is None:
                self._forget(pid)
                continue
            last = self._last.get(pid)
            if last is not None:
                utime += reading.utime - last.utime
                stime += reading.stime - last.stime
            self._last[pid] = reading
            faults += reading.faults
            rss_pages += reading.rss_pages
        if not self._files:
            return None
        return TreeUsage(self._ended_faults + faults, rss_pages * self._page_bytes, utime, stime)

    def close(self) -> None:
        """Close the files; the tree is empty afterwards."""
        for pid in tuple(self._files):
            self._forget(pid)

    def _open(self, pid: int) -> None:
        try:
            self._files[pid] = os.open(self._proc / str(pid) / "stat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return  # it ended in between

    def _forget(self, pid: int) -> None:
        os.close(self._files.pop(pid))
        last = self._last.pop(pid, None)
        self._ended_faults += last.faults if last is not None else 0

    def _parent(self, pid: int) -> int | None:
        try:
            with open(f"{self._proc}/{pid}/stat", "rb", buffering=0) as file:  # noqa: PTH123
                return int(_fields(file.read(_STAT_BYTES))[_PPID])
        except OSError:
            return None  # it ended in between


def _read(file: int) -> _Reading | None:
    try:
        fields = _fields(os.pread(file, _STAT_BYTES, 0))
    except OSError:
        return None
    if fields[0] in (b"Z", b"X"):  # ended and not yet waited for: memory and time are gone
        return None
    return _Reading(
        faults=int(fields[_MINOR_FAULTS]) + int(fields[_MAJOR_FAULTS]),
        rss_pages=int(fields[_RSS]),
        utime=int(fields[_UTIME]),
        stime=int(fields[_STIME]),
    )


def _fields(stat: bytes) -> list[bytes]:
    """The fields after the command's name, which may itself hold spaces and parentheses."""
    return stat[stat.rindex(b")") + 2 :].split()
