"""Watches host and devices from a thread of the controller while a worker runs.

The schedule is absolute: a late sample does not push the later ones back, and a tick that was missed is left
out. In each tick the host comes first, for it never blocks; then each device. What is costly is read once a
second and is ``None`` in between: the times of all processors and the load, the list of processes on the host
and on each device, and PCIe traffic, which blocks in the driver for 20 ms a direction. Of PCIe, one tick
reads one direction of one device, so that no tick is held up for longer, however many devices there are.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from benchbox.measure.columns import Columns
from benchbox.measure.host import HostSample, HostWatch
from benchbox.measure.nvml import DeviceSample, Nvml, NvmlDevice, PcieDirection
from benchbox.schema import DeviceTelemetry, HostTelemetry, Window

SLOW_READING_EVERY_NS = 1_000_000_000
_SLACK_NS = 5_000_000
"""A tick that comes this little before the second is over counts as being in time."""
_JOIN_S = 5.0
_INTEGERS = frozenset(
    {
        "memory_used_bytes",
        "throttle_reasons",
        "num_foreign_processes",
        "worker_page_faults",
        "worker_rss_bytes",
    }
)


class Latest(NamedTuple):
    """The newest readings, for a display; ``None`` where there is none yet."""

    device_memory_used_bytes: int | None
    """Of the fullest device."""
    host_rss_bytes: int | None
    """Of the worker and its children."""


class Toggle(NamedTuple):
    """A moment on the monotonic clock at which watching went on or off."""

    at_ns: int
    is_on: bool


class _PcieTurn(NamedTuple):
    due_at_ns: int
    device: int
    direction: PcieDirection


class Sampler:
    """Samples at ``hz`` from :meth:`start` to :meth:`stop`; made for one attempt.

    Args:
        hz: samples a second; 0 takes none.
        devices: UUIDs of the devices to watch; one that the driver does not know is left out.
        nvml: the open driver, or ``None`` for none. It must stay open until :meth:`stop`.

    A failure that is no missing reading ends the samples, never the measurement; ``failure`` then says why.
    """

    def __init__(self, hz: float, devices: Sequence[str], nvml: Nvml | None) -> None:
        self.failure: str | None = None
        self._nvml = nvml
        if nvml is not None and nvml.is_stuck():
            self.failure = "the driver has not answered since an earlier attempt"
        self._period_ns = round(1e9 / hz) if hz > 0 else None
        found = [] if nvml is None else [nvml.find(uuid) for uuid in devices]
        self._devices: tuple[NvmlDevice, ...] = tuple(device for device in found if device is not None)
        self._device_columns = tuple(Columns(DeviceSample._fields, integers=_INTEGERS) for _ in self._devices)
        self._host_columns = Columns(HostSample._fields, integers=_INTEGERS)
        self._slow_due_at_ns = 0
        self._pcie_turns = deque(
            _PcieTurn(0, number, direction)
            for number in range(len(self._devices))
            for direction in ("tx", "rx")
        )
        self._thread: threading.Thread | None = None
        self._on = threading.Event()
        self._is_stopping = False
        self._wake = threading.Lock()  # held until the stop; waiting for it costs half of what an Event does
        self._wake.acquire()
        self._toggles: list[Toggle] = []
        self._cpu_time_ns = 0

    def start(self, worker_pid: int) -> None:
        """Begin to sample around the worker with this process number."""
        if self._period_ns is None:
            return
        self._thread = threading.Thread(
            target=self._run, args=(worker_pid, self._period_ns), name="benchbox-sampler", daemon=True
        )
        self._toggle(True)
        self._thread.start()

    def pause(self) -> None:
        """Take no further sample until :meth:`resume`; one that is being taken is finished."""
        self._toggle(False)

    def resume(self) -> None:
        """Go on with sampling."""
        self._toggle(True)

    def stop(self) -> None:
        """End sampling. A driver that does not answer holds this up for five seconds at most, and is then
        left to the thread that waits for it, with what they share."""
        if self._thread is None or self._is_stopping:
            return
        self._toggle(False)
        self._is_stopping = True
        self._wake.release()
        self._on.set()  # for a thread that is paused
        self._thread.join(_JOIN_S)
        if self._thread.is_alive():
            self.failure = f"a reading had not ended after {_JOIN_S:g} s"
            if self._nvml is not None:
                self._nvml.leave_to(self._thread)

    @property
    def toggles(self) -> tuple[Toggle, ...]:
        """Every start, pause, resume and stop that changed something, in order."""
        return tuple(self._toggles)

    @property
    def cpu_time_ns(self) -> int:
        """Processor time, user and kernel, that the sampling thread has used itself."""
        return self._cpu_time_ns

    @property
    def on_time_ns(self) -> int:
        """For how long watching has been on, up to now or to the stop."""
        ends = [toggle.at_ns for toggle in self._toggles[1:]] + [time.monotonic_ns()]
        return sum(
            end - toggle.at_ns for toggle, end in zip(self._toggles, ends, strict=False) if toggle.is_on
        )

    @property
    def cpu_share_pct(self) -> float:
        """Share of one processor that sampling took while it was on, in percent."""
        on_time_ns = self.on_time_ns
        return 100 * self._cpu_time_ns / on_time_ns if on_time_ns else 0.0

    def latest(self) -> Latest:
        """The newest readings."""
        memory = [columns.last("memory_used_bytes") for columns in self._device_columns]
        fullest = max((value for value in memory if value is not None), default=None)
        rss = self._host_columns.last("worker_rss_bytes")
        return Latest(None if fullest is None else int(fullest), None if rss is None else int(rss))

    def telemetry(
        self, windows: Sequence[Window]
    ) -> tuple[tuple[DeviceTelemetry, ...], HostTelemetry | None]:
        """The samples within the windows; one record a device that the driver knows, by the driver's UUID.

        A share of time or an activity is a mean since the sample before, so the first in a window also
        speaks of up to one period before it (one second for what is read once a second).

        Returns:
            No record at all where sampling was never on.
        """
        if not self._toggles:
            return (), None
        devices = []
        for device, columns in zip(self._devices, self._device_columns, strict=True):
            times, values = columns.within(windows)
            devices.append(DeviceTelemetry(uuid=device.uuid or "", sample_at_ns=times, **values))
        times, values = self._host_columns.within(windows)
        return tuple(devices), HostTelemetry(sample_at_ns=times, **values)

    def _toggle(self, is_on: bool) -> None:
        if self._thread is None or self._on.is_set() == is_on or self._is_stopping:
            return
        self._toggles.append(Toggle(time.monotonic_ns(), is_on))
        if is_on:
            self._on.set()
        else:
            self._on.clear()

    def _run(self, worker_pid: int, period_ns: int) -> None:
        host = HostWatch(worker_pid)
        try:
            self._sample_until_stopped(host, period_ns)
        except Exception as error:  # noqa: BLE001 - whatever it is, the attempt goes on without samples
            self.failure = f"{type(error).__name__}: {error}"
        finally:
            host.close()

    def _sample_until_stopped(self, host: HostWatch, period_ns: int) -> None:
        next_at_ns = time.monotonic_ns()
        while not self._is_stopping:
            if not self._on.is_set():
                self._on.wait()
                continue
            self._sample(host)
            self._cpu_time_ns = time.thread_time_ns()
            now_ns = time.monotonic_ns()
            num_periods = max((now_ns - next_at_ns) // period_ns + 1, 1)
            next_at_ns += num_periods * period_ns
            self._wake.acquire(timeout=(next_at_ns - now_ns) / 1e9)

    def _sample(self, host: HostWatch) -> None:
        now_ns = time.monotonic_ns()
        is_slow = now_ns >= self._slow_due_at_ns
        if is_slow:
            self._slow_due_at_ns = now_ns + SLOW_READING_EVERY_NS - _SLACK_NS
        self._host_columns.append(now_ns, host.sample(slow=is_slow))
        turn = self._next_pcie_turn(now_ns)
        own_pids = host.worker_pids if is_slow else None
        for number, (device, columns) in enumerate(zip(self._devices, self._device_columns, strict=True)):
            direction = turn.direction if turn is not None and turn.device == number else None
            at_ns = time.monotonic_ns()
            columns.append(at_ns, device.sample(own_pids=own_pids, pcie=direction))

    def _next_pcie_turn(self, now_ns: int) -> _PcieTurn | None:
        if not self._pcie_turns or self._pcie_turns[0].due_at_ns > now_ns:
            return None
        turn = self._pcie_turns.popleft()
        self._pcie_turns.append(turn._replace(due_at_ns=now_ns + SLOW_READING_EVERY_NS - _SLACK_NS))
        return turn
