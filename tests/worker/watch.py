"""Clocks that only steps move, so that a test of the loop does not depend on how fast a machine is."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from benchbox.worker import loop, stopping


class Watch:
    """A step clock and a wall clock that move together: step number n lasts ``step_ns(n)``."""

    def __init__(self, step_ns: Callable[[int], int]) -> None:
        self.now_ns = 10**12
        self._step_ns = step_ns
        self._num_steps = self._first = 0

    def start(self) -> None:
        self._first = self._num_steps

    def mark(self, step: int) -> None:
        self.now_ns += self._step_ns(self._num_steps)
        self._num_steps += 1

    def wait(self, num_steps: int) -> None:
        pass

    def read_ns(self, num_steps: int) -> list[int]:
        return [self._step_ns(step) for step in range(self._first, self._first + num_steps)]

    def monotonic(self) -> float:
        return self.now_ns / 1e9

    def monotonic_ns(self) -> int:
        return self.now_ns


def put_on(monkeypatch: pytest.MonkeyPatch, step_ns: Callable[[int], int]) -> Watch:
    """Let the loop measure by a new watch, which is returned."""
    watch = Watch(step_ns)
    clock = SimpleNamespace(monotonic=watch.monotonic, monotonic_ns=watch.monotonic_ns)
    monkeypatch.setattr(loop, "make_clock", lambda device, capacity: watch)
    monkeypatch.setattr(loop, "time", clock)
    monkeypatch.setattr(stopping, "time", clock)
    return watch
