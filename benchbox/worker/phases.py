"""Phase times of a step, from a pass of their own, so that watching never slows what is measured."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch

from benchbox import stats
from benchbox.schema import PhaseTimes
from benchbox.worker.data import MicroBatches
from benchbox.worker.engine import Engine

_PHASES = ("input_wait", "host_to_device", "forward", "backward", "optimizer")


class _HostLap:
    """Time since the last call on the host's clock."""

    def __init__(self) -> None:
        self._last_ns = time.perf_counter_ns()

    def lap_ns(self) -> int:
        """Nanoseconds since the last call."""
        now = time.perf_counter_ns()
        elapsed, self._last_ns = now - self._last_ns, now
        return elapsed


class _DeviceLap(_HostLap):
    """Waits for the device first, so that a phase's time is the time until its work is done."""

    def lap_ns(self) -> int:
        """Nanoseconds since the last call, the device's work included."""
        torch.cuda.synchronize()
        return super().lap_ns()


def time_phases(engine: Engine, batches: Iterator[MicroBatches], num_steps: int) -> PhaseTimes:
    """Median time of each phase over ``num_steps`` steps.

    Every phase is waited for, so on a GPU the phases together last longer than a measured step, in which
    the host runs ahead.
    """
    columns: dict[str, list[int]] = {name: [] for name in _PHASES}
    for _ in range(num_steps):
        for name, elapsed_ns in _one_step(engine, batches).items():
            columns[name].append(elapsed_ns)
    middle = {f"{name}_ns": round(stats.median(times)) for name, times in columns.items()}
    return PhaseTimes(num_steps=num_steps, **middle)


def _one_step(engine: Engine, batches: Iterator[MicroBatches]) -> dict[str, int]:
    spent = dict.fromkeys(_PHASES, 0)
    clock = _DeviceLap() if engine.device.type == "cuda" else _HostLap()
    clock.lap_ns()
    micro_batches = next(batches)
    spent["input_wait"] += clock.lap_ns()
    for host_inputs, host_targets in micro_batches:
        inputs, targets = engine.to_device(host_inputs, host_targets)
        spent["host_to_device"] += clock.lap_ns()
        loss = engine.forward(inputs, targets)
        spent["forward"] += clock.lap_ns()
        engine.backward(loss)
        spent["backward"] += clock.lap_ns()
    engine.optimizer_step()
    spent["optimizer"] += clock.lap_ns()
    return spent
