"""Memory of cases, foretold: traced under fake tensors, put together by strategy, set against a device."""

from __future__ import annotations

import traceback
from pathlib import Path

import msgspec

from benchbox.schema import Case, CaseEstimate, EstimateTask, Interval, MemoryEstimate
from benchbox.worker.device_memory import Between, Surroundings, major_of, surroundings
from benchbox.worker.failures import classify
from benchbox.worker.step_memory import (
    TRACED_BATCH_SIZES,
    StepMemory,
    allocator_after,
    bytes_alive_at_peak,
    constant,
    holds,
    peak_of,
    step_memory,
)
from benchbox.worker.step_trace import TraceSetup, trace_fake, trace_setup
from benchbox.worker.strategy_memory import Layout, layout_of

_LARGEST_BATCH = 2**40
# Guesses. Formulas leave out what DeepSpeed and FSDP2 allocate for a moment; fused kernels keep less than
# eager ones, and CUDA graphs keep pools of their own.
_FORMULA_IS_WITHIN = (0.75, 1.25)
_COMPILED_IS_WITHIN = (0.6, 1.4)
# On a CPU, libraries pack and convert inside their kernels and glibc keeps what was freed: resident memory
# over the bytes of live tensors, see docs/memory.md for where it was seen.
_RESIDENT_PER_BYTE = (1.0, 1.25, 1.6)
# A guess. A GPU's driver keeps a part of the memory that it reports: in published out-of-memory messages
# torch names 79.1 to 79.3 GiB as the whole of an A100 of 79.4, and 23.7 as that of an RTX 4090 of 24.0.
_DRIVER_KEEPS = 0.015


def run_estimates(task: EstimateTask) -> None:
    """Write a line for each case of ``task``; a case that cannot be traced says why and ends none other."""
    estimator = Estimator(task)
    with Path(task.out).open("ab") as file:
        for case in task.cases:
            file.write(msgspec.json.encode(estimator.answer(case)) + b"\n")
            file.flush()


class Estimator:
    """Estimates for one device. Cases that differ by batch size or strategy share their traces."""

    def __init__(self, task: EstimateTask) -> None:
        self._is_gpu = task.device == "gpu"
        self._capability = task.compute_capability
        self._memory_bytes = task.device_memory_bytes
        self._import_dirs = task.import_dirs
        self._traced: dict[TraceSetup, StepMemory | None] = {}
        self._untraceable: dict[TraceSetup, str] = {}
        self._largest: dict[Case, int | None] = {}
        self._check_at: dict[TraceSetup, int] = {}
        for case in task.cases:
            setup = trace_setup(case, as_gpu=self._is_gpu)
            self._check_at[setup] = max(case.per_device_batch_size, self._check_at.get(setup, 1))

    def answer(self, case: Case) -> CaseEstimate:
        """The case's estimate, or the reason why there is none."""
        reason = self._unsupported(case)
        if reason is not None:
            return CaseEstimate(case_id=case.case_id, estimate=None, unknown_reason=reason)
        setup = trace_setup(case, as_gpu=self._is_gpu)
        if setup in self._untraceable:
            return CaseEstimate(case_id=case.case_id, estimate=None, unknown_reason=self._untraceable[setup])
        try:
            if setup not in self._traced:
                self._traced[setup] = self._trace(setup, case)
            estimate = self._estimate(case, setup, self._traced[setup])
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the model raises
            traceback.print_exc()
            self._untraceable[setup] = f"cannot be traced under fake tensors: {classify(error)[1]}"
            return self.answer(case)
        return CaseEstimate(case_id=case.case_id, estimate=estimate)

    def _unsupported(self, case: Case) -> str | None:
        if not self._is_gpu and case.precision in ("tf32", "fp16"):
            return f"{case.precision} is not trained on a CPU"
        major = major_of(self._capability)
        if self._is_gpu and case.precision in ("tf32", "bf16") and major is not None and major < 8:
            return f"{case.precision} needs compute capability 8.0 or later, not {self._capability}"
        return None

    def _trace(self, setup: TraceSetup, case: Case) -> StepMemory | None:
        """``None``: each batch size has to be traced by itself."""
        check_at = self._check_at.get(setup, case.per_device_batch_size)
        first, second, third = (
            trace_fake(setup, case, size, self._import_dirs) for size in (*TRACED_BATCH_SIZES, check_at)
        )
        memory = step_memory(first, second)
        return memory if memory is not None and holds(memory, third, check_at) else None

    def _estimate(self, case: Case, setup: TraceSetup, memory: StepMemory | None) -> MemoryEstimate:
        around = surroundings(is_gpu=self._is_gpu, compute_capability=self._capability)
        is_linear = memory is not None
        if memory is None:
            memory = constant(trace_fake(setup, case, case.per_device_batch_size, self._import_dirs))
        layout = layout_of(case, memory, is_gpu=self._is_gpu)
        estimate = _put_together(case, memory, layout, around)
        if self._memory_bytes is None:
            return estimate
        # Each rank has a GPU to itself; on a CPU they share one memory.
        limit = self._memory_bytes if self._is_gpu else self._memory_bytes // case.world_size
        usable = int(limit * (1 - _DRIVER_KEEPS)) if self._is_gpu else limit
        largest = None
        if is_linear:
            key = msgspec.structs.replace(case, case_id="", per_device_batch_size=1)
            if key not in self._largest:
                self._largest[key] = _largest_batch(case, memory, layout, around, usable)
            largest = self._largest[key]
        return msgspec.structs.replace(
            estimate,
            device_memory_bytes=limit,
            fits=_fits(estimate.peak_device_interval_bytes, usable, limit),
            largest_per_device_batch_size=largest,
        )


def _fits(needed: Interval, usable_bytes: int, limit_bytes: int) -> bool | None:
    """``usable_bytes`` are there for sure, more than ``limit_bytes`` are not."""
    if needed.high <= usable_bytes:
        return True
    return False if needed.low > limit_bytes else None


def _put_together(case: Case, memory: StepMemory, layout: Layout, around: Surroundings) -> MemoryEstimate:
    trace, batch_size = memory.trace, case.per_device_batch_size
    sizes = layout.sizes(memory, batch_size)
    untraced = _untraced_batches_bytes(case, memory, around, batch_size)
    allocated, reserved, device = _peaks(case, memory, layout, around, batch_size)
    return MemoryEstimate(
        parameters_bytes=peak_of(("parameter",), trace, sizes),
        gradients_bytes=peak_of(("gradient",), trace, sizes),
        optimizer_state_bytes=peak_of(("optimizer",), trace, sizes),
        saved_activations_bytes=sum(sizes[number] for number in trace.saved),
        batch_bytes=peak_of(("batch",), trace, sizes) + untraced,
        largest_temporary_bytes=peak_of(("temporary",), trace, sizes),
        communication_buffers_bytes=layout.communication_bytes,
        context_bytes=around.context.middle,
        peak_allocated_bytes=allocated.middle,
        peak_allocated_interval_bytes=Interval(low=allocated.low, high=allocated.high),
        peak_reserved_bytes=reserved,
        peak_device_bytes=device.middle,
        peak_device_interval_bytes=Interval(low=device.low, high=device.high),
        host_bytes=layout.host_bytes,
    )


def _untraced_batches_bytes(case: Case, memory: StepMemory, around: Surroundings, batch_size: int) -> int:
    """Micro-batches that lie on the device beside those that were traced; they only lie there.

    A GPU gets them one by one where they do not lie there from the start. A CPU's memory has them all.
    """
    if around.is_gpu and case.data != "device":
        return 0
    trace = memory.trace
    batches = [
        size for size, kind in zip(memory.sizes(batch_size), trace.kinds, strict=True) if kind == "batch"
    ]
    num_traced = len(batches) // 2  # inputs and targets
    return max(0, case.gradient_accumulation_steps - num_traced) * sum(batches) // max(1, num_traced)


def _peaks(
    case: Case, memory: StepMemory, layout: Layout, around: Surroundings, batch_size: int
) -> tuple[Between, int | None, Between]:
    """Peak of the tensors in torch's account, reserved at the end, and the peak as the driver sees it."""
    trace, sizes = memory.trace, layout.sizes(memory, batch_size)
    standing = (
        layout.communication_bytes,
        layout.gathered_bytes,
        _untraced_batches_bytes(case, memory, around, batch_size),
    )
    alive = bytes_alive_at_peak(trace, sizes, is_rounded=around.is_gpu) + sum(standing)
    states = sum(peak_of((kind,), trace, sizes) for kind in ("parameter", "gradient", "optimizer"))
    alive = max(alive, states + sum(standing) + layout.update_bytes)
    if not around.is_gpu:
        alive += layout.host_bytes  # what is offloaded stays in the one memory that there is
        low, high = _widened(case, layout, states, alive, alive)
        base, more, share = around.context, layout.resident_bytes, _RESIDENT_PER_BYTE
        resident = Between(
            base.low + more.low + int(share[0] * low),
            base.middle + more.middle + int(share[1] * alive),
            base.high + more.high + int(share[2] * high),
        )
        return Between(low, alive, high), None, resident
    taken = [size for size in (*around.workspaces, *standing) if size]
    allocator = allocator_after(trace, sizes, taken)
    middle = max(allocator.peak_allocated_bytes, alive + sum(around.workspaces))
    reserved = max(allocator.reserved_bytes, middle)
    # A guess: cuDNN's scratch is at most as large as the step's largest tensor.
    scratch = max(sizes, default=0) if trace.has_convolutions else 0
    low, high = _widened(case, layout, states, alive, middle + scratch)
    device = Between(
        # Before it fails, the allocator gives back what it holds and does not use.
        low + around.context.low,
        reserved + around.context.middle,
        max(reserved + scratch, high) + around.context.high,
    )
    return Between(low, middle, high), reserved, device


def _widened(case: Case, layout: Layout, states: int, low: int, high: int) -> tuple[int, int]:
    """Bounds with what formulas and compilers leave open. What a compiler changes lies above the states."""
    if layout.is_formula:
        low, high = int(low * _FORMULA_IS_WITHIN[0]), int(high * _FORMULA_IS_WITHIN[1])
    if case.compile:
        low = min(low, states + int((low - states) * _COMPILED_IS_WITHIN[0]))
        high = states + int((high - states) * _COMPILED_IS_WITHIN[1])
    return low, high


def _largest_batch(
    case: Case, memory: StepMemory, layout: Layout, around: Surroundings, limit_bytes: int
) -> int | None:
    """The largest batch whose whole interval is within the limit, by doubling and bisection."""

    def fits(batch_size: int) -> bool:
        return _peaks(case, memory, layout, around, batch_size)[2].high <= limit_bytes

    if not fits(1):
        return None
    good, bad = 1, 2
    while bad < _LARGEST_BATCH and fits(bad):
        good, bad = bad, bad * 2
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good
