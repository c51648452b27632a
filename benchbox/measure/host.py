"""What the host does right now, for the worker and altogether."""

from __future__ import annotations

import os
import time
from typing import NamedTuple

import psutil

from benchbox.measure.processes import ProcessTree


class HostSample(NamedTuple):
    """One reading; fields and units as in :class:`benchbox.schema.HostTelemetry`."""

    host_cpu_user_pct: float | None = None
    host_cpu_kernel_pct: float | None = None
    worker_cpu_user_pct: float | None = None
    worker_cpu_kernel_pct: float | None = None
    worker_page_faults: float | None = None
    worker_rss_bytes: float | None = None
    load_1min: float | None = None


class HostWatch:
    """Reads the host and one worker's processes. Shares of time are means since the last reading.

    What takes longer on a larger machine (the times of all processors, the list of all processes) or changes
    slowly (the load) is read only where the caller says ``slow``, and is ``None`` in between. Processes that
    start and end between two slow readings go unseen.
    """

    def __init__(self, worker_pid: int) -> None:
        self._tree = ProcessTree(worker_pid)
        self._ticks_per_s = os.sysconf("SC_CLK_TCK")
        self._last_host: tuple[float, float, float] | None = None
        self._last_worker_at_ns: int | None = None

    @property
    def worker_pids(self) -> frozenset[int]:
        """The worker and its descendants at the last slow reading, less those that have ended."""
        return self._tree.pids

    def sample(self, *, slow: bool) -> HostSample:
        """One reading. A worker that has ended leaves ``None`` in its fields, as does a first share."""
        if slow:
            self._tree.look_for_children()
        usage = self._tree.read()
        now_ns = time.monotonic_ns()
        user, kernel = self._host_shares() if slow else (None, None)
        load = os.getloadavg()[0] if slow else None
        if usage is None:
            return HostSample(host_cpu_user_pct=user, host_cpu_kernel_pct=kernel, load_1min=load)
        last_ns, self._last_worker_at_ns = self._last_worker_at_ns, now_ns
        ticks_to_pct = None if last_ns is None else 1e11 / (self._ticks_per_s * max(now_ns - last_ns, 1))
        return HostSample(
            host_cpu_user_pct=user,
            host_cpu_kernel_pct=kernel,
            worker_cpu_user_pct=None if ticks_to_pct is None else usage.user_ticks * ticks_to_pct,
            worker_cpu_kernel_pct=None if ticks_to_pct is None else usage.kernel_ticks * ticks_to_pct,
            worker_page_faults=usage.page_faults,
            worker_rss_bytes=usage.rss_bytes,
            load_1min=load,
        )

    def close(self) -> None:
        """Close what is open; later samples know no worker."""
        self._tree.close()

    def _host_shares(self) -> tuple[float | None, float | None]:
        """User and kernel time in percent of all processors' time since the last call."""
        times = psutil.cpu_times()
        user = times.user + times.nice
        kernel = times.system + times.irq + times.softirq
        total = user + kernel + times.idle + times.iowait + times.steal
        last, self._last_host = self._last_host, (user, kernel, total)
        if last is None or total <= last[2]:
            return None, None
        passed = total - last[2]
        return _share(user - last[0], passed), _share(kernel - last[1], passed)


def _share(part: float, whole: float) -> float:
    """In percent. The kernel's counters may step back a little; a share outside of 0 to 100 is not meant."""
    return min(max(100 * part / whole, 0.0), 100.0)
