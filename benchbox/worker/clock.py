"""Step clocks: CUDA events on a GPU, read after the window; the monotonic clock on a CPU."""

from __future__ import annotations

import time
from array import array
from typing import Protocol

import torch


class StepClock(Protocol):
    """Marks the ends of steps without waiting for them."""

    def start(self) -> None:
        """Mark the beginning of step 0."""

    def mark(self, step: int) -> None:
        """Mark the end of ``step``."""

    def wait(self, num_steps: int) -> None:
        """Wait for the end of the last of ``num_steps`` steps."""

    def read_ns(self, num_steps: int) -> list[int]:
        """Wait as :meth:`wait` does and return the duration of each of the first ``num_steps`` steps."""


class CpuClock:
    """Work on a CPU is finished when the call returns."""

    def __init__(self, capacity: int) -> None:
        self._at_ns = array("q", bytes(8 * (capacity + 1)))

    def start(self) -> None:
        """Mark the beginning of step 0."""
        self._at_ns[0] = time.perf_counter_ns()

    def mark(self, step: int) -> None:
        """Mark the end of ``step``."""
        self._at_ns[step + 1] = time.perf_counter_ns()

    def wait(self, num_steps: int) -> None:
        """Nothing is left to wait for."""

    def read_ns(self, num_steps: int) -> list[int]:
        """Return the duration of each step in nanoseconds."""
        at = self._at_ns
        return [at[i + 1] - at[i] for i in range(num_steps)]


class CudaClock:
    """Events are recorded into the stream between steps; nothing waits for them inside the window."""

    def __init__(self, capacity: int) -> None:
        self._events = [torch.cuda.Event(enable_timing=True) for _ in range(capacity + 1)]  # type: ignore[no-untyped-call]

    def start(self) -> None:
        """Record the event in front of step 0."""
        self._events[0].record()

    def mark(self, step: int) -> None:
        """Record the event behind ``step``."""
        self._events[step + 1].record()

    def wait(self, num_steps: int) -> None:
        """Wait for the event behind the last of ``num_steps`` steps."""
        self._events[num_steps].synchronize()

    def read_ns(self, num_steps: int) -> list[int]:
        """Wait for the last event and return the duration of each step in nanoseconds."""
        events = self._events
        self.wait(num_steps)
        return [round(events[i].elapsed_time(events[i + 1]) * 1e6) for i in range(num_steps)]


def make_clock(device: torch.device, capacity: int) -> StepClock:
    """A clock that can hold ``capacity`` steps."""
    return CudaClock(capacity) if device.type == "cuda" else CpuClock(capacity)
