"""One optimizer step under torch's profiler: where its time goes, operator by operator.

Its batch lies ready on the device, so what is seen is the step itself and not the input. The profiler slows
a step down, on a host more than on a device: what to read here is shares.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, schedule
from torch.profiler import profile as torch_profile

from benchbox.schema import OperatorClass, OperatorTime, ProfiledStep
from benchbox.worker.counting import StepCounter
from benchbox.worker.data import MicroBatches
from benchbox.worker.engine import Engine
from benchbox.worker.operators import classify

STEPS_COUNTED = 1
STEPS_A_LOOK = 2
"""One to warm the profiler up, one profiled."""


def profile_step(
    engine: Engine, batch: MicroBatches, *, num_looks: int, compiled: bool, trace_path: Path | None
) -> ProfiledStep:
    """Count one step, then profile ``num_looks`` and keep the quickest; ``batch`` lies on the device.

    The quickest is the one that others on the machine disturbed least. A compiled step fuses operators, so
    the bytes that it must move are not those of its operators: they stay unknown. The trace of the kept step
    goes to ``trace_path`` (gzipped where it ends in ``.gz``).
    """
    counter = StepCounter()
    with counter:
        engine.step(batch)
    kept: ProfiledStep | None = None
    for _ in range(num_looks):
        profiler, step_time_ns = _look(engine, batch)
        if kept is None or step_time_ns < kept.step_time_ns:
            kept = _read(profiler, step_time_ns, counter, engine.device, compiled=compiled)
            if trace_path is not None:
                trace_path.parent.mkdir(parents=True, exist_ok=True)
                profiler.export_chrome_trace(str(trace_path))
    assert kept is not None
    return kept


def _look(engine: Engine, batch: MicroBatches) -> tuple[torch_profile, int]:
    on_gpu = engine.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with torch_profile(activities=activities, schedule=schedule(wait=0, warmup=1, active=1)) as profiler:
        engine.step(batch)
        _wait(engine.device)
        profiler.step()
        began_ns = time.perf_counter_ns()
        engine.step(batch)
        _wait(engine.device)
        step_time_ns = time.perf_counter_ns() - began_ns
    return profiler, step_time_ns


def _read(
    profiler: torch_profile, step_time_ns: int, counter: StepCounter, device: torch.device, *, compiled: bool
) -> ProfiledStep:
    on_gpu = device.type == "cuda"
    events = list(profiler.events() or ())  # type: ignore[no-untyped-call]
    calls, time_us = _by_class(events, on_gpu)
    kernels = [e for e in events if e.device_type == DeviceType.CUDA and not e.is_user_annotation]
    # Without CUPTI the profiler sees no kernel, and nothing is known of the device.
    seen = on_gpu and bool(kernels)
    return ProfiledStep(
        step_time_ns=step_time_ns,
        operators=tuple(
            OperatorTime(
                operator_class=name,
                num_calls=calls[name],
                time_ns=round(1000 * time_us[name]),
                flops=counter.flops.get(name),
                least_bytes=None if compiled else counter.least_bytes.get(name),
            )
            for name in sorted(time_us, key=lambda name: -time_us[name])
        ),
        device_idle_ns=max(0, step_time_ns - _busy_ns(kernels)) if seen else None,
        num_kernels=sum(not e.name.startswith(("Memcpy", "Memset")) for e in kernels) if seen else None,
    )


def on_device(engine: Engine, batch: MicroBatches) -> MicroBatches:
    """The micro-batches where the engine would copy them to."""
    return tuple(engine.to_device(inputs, targets) for inputs, targets in batch)


def _by_class(events: Iterable[Any], on_gpu: bool) -> tuple[Counter[OperatorClass], Counter[OperatorClass]]:
    """Calls and own time in microseconds by class: what an operator calls belongs to the operator's class."""
    classes: dict[int, OperatorClass | None] = {}
    calls: Counter[OperatorClass] = Counter()
    time_us: Counter[OperatorClass] = Counter()
    unclaimed: Counter[str] = Counter()
    for event in events:
        if event.device_type != DeviceType.CPU:
            if not event.is_user_annotation:
                unclaimed[event.name] += event.time_range.elapsed_us()
            continue
        above = _class_of(event.cpu_parent, classes)
        own = _class_of(event, classes)
        if own is not None and above is None:
            calls[own] += 1
        if on_gpu:
            for kernel in event.kernels:
                unclaimed[kernel.name] -= kernel.duration
        spent = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        if spent > 0:
            time_us[own or "other"] += spent
            calls["other"] += own is None
    # Kernels that no operator launched: a replayed graph's.
    for name, spent in unclaimed.items():
        if spent > 0.5:
            time_us[classify(name) or "other"] += spent
    return calls, time_us


def _class_of(event: Any, classes: dict[int, OperatorClass | None]) -> OperatorClass | None:
    if event is None:
        return None
    if id(event) not in classes:
        classes[id(event)] = _class_of(event.cpu_parent, classes) or classify(event.name)
    return classes[id(event)]


def _busy_ns(kernels: Iterable[Any]) -> int:
    """Time in which at least one of ``kernels`` ran."""
    busy_us, until_us = 0.0, 0.0
    for kernel in sorted(kernels, key=lambda kernel: kernel.time_range.start):
        start, end = max(kernel.time_range.start, until_us), kernel.time_range.end
        busy_us += max(0.0, end - start)
        until_us = max(until_us, end)
    return round(1000 * busy_us)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
