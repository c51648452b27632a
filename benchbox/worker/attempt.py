"""One attempt in this process: build, measure, then the passes of their own, and one file with the result."""

from __future__ import annotations

import math
import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import torch

from benchbox.schema import Flops, MeasureSettings, Outcome, RankResult, WorkerMemory, WorkerTask
from benchbox.worker.data import make_batches, num_buffered_steps
from benchbox.worker.engine import Engine, check_supported
from benchbox.worker.evidence import collect_evidence
from benchbox.worker.failures import classify
from benchbox.worker.flops import count_flops
from benchbox.worker.limits import tightest_limit
from benchbox.worker.loop import Measured, measure
from benchbox.worker.models import UnsupportedCase
from benchbox.worker.phases import time_phases
from benchbox.worker.trajectory import check_losses

_MUST_FALL = 0.9  # on the digits the last loss is below this share of the first


def run_attempt(task: WorkerTask) -> None:
    """Run ``task`` and write ``rank0.json`` into its folder, whatever happens short of a killed process."""
    started_at_ns = time.monotonic_ns()
    result: dict[str, Any] = {"ready_at_ns": None, "extra_passes_s": 0.0}
    try:
        outcome, reason = _run(task, result)
    except UnsupportedCase as error:
        outcome, reason = "unsupported", str(error)
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - whatever the model raises
        outcome, reason = classify(error)
        traceback.print_exc()
    rank = RankResult(
        rank=0,
        outcome=outcome,
        reason=reason,
        process_start_at_ns=started_at_ns,
        finished_at_ns=time.monotonic_ns(),
        **result,
    )
    try:
        write_aside(Path(task.attempt_dir, "rank0.json"), msgspec.json.encode(rank))
    except OSError as error:  # no outcome of the case: the controller must not take it for one
        raise SystemExit(os.EX_IOERR) from error


def write_aside(path: Path, data: bytes) -> None:
    """Write to a temporary file and rename, so that a file that exists is whole."""
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    aside.write_bytes(data)
    aside.rename(path)


def _run(task: WorkerTask, result: dict[str, Any]) -> tuple[Outcome, str | None]:
    case, settings = task.case, _settings_for(task)
    device = torch.device(task.device)
    if settings.num_threads is not None:
        torch.set_num_threads(settings.num_threads)
    torch.backends.cudnn.benchmark = settings.cudnn_benchmark
    check_supported(case, device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    engine = Engine(case, device, task.import_dirs)
    batches = make_batches(task, device)
    result["ready_at_ns"] = time.monotonic_ns()
    result["num_threads"] = torch.get_num_threads()

    measured = measure(
        engine, batches, settings, compiles=case.compile, report_progress=_progress_writer(task)
    )
    result |= _as_fields(measured)
    result["memory"] = _memory(device)
    if (trouble := _wrong_losses(task, measured)) is not None:
        return "invalid", trouble
    if not task.extra_passes:
        return "ok", None

    extra_from = time.monotonic()
    try:
        if settings.num_phase_steps:
            result["phases"] = time_phases(engine, batches, settings.num_phase_steps)
        spent_s = time.monotonic() - extra_from
        result |= collect_evidence(engine, batches, task, measured.step_time_ns, spent_s=spent_s)
        del engine, batches
        result["flops"], result["flops_unknown_reason"] = _flops(task)
        if settings.num_trajectory_steps:
            result["loss_check"] = check_losses(task, device)
    except Exception as error:  # noqa: BLE001 - what was measured before stays measured
        traceback.print_exc()
        result["extra_passes_failed_reason"] = classify(error)[1]
    finally:
        result["extra_passes_s"] = time.monotonic() - extra_from
    check = result.get("loss_check")
    if check is not None and check.agrees_with_fp32 is False:
        return "invalid", check.reason
    return "ok", None


def _settings_for(task: WorkerTask) -> MeasureSettings:
    """The suite's settings, with enough steps to outlast what a loader holds ready."""
    settings, num_buffered = task.measure, num_buffered_steps(task.case)
    min_warmup = max(settings.min_warmup_steps, num_buffered)
    min_measured = max(settings.min_measured_steps, 2 * num_buffered)
    return msgspec.structs.replace(
        settings,
        min_warmup_steps=min_warmup,
        max_warmup_steps=max(settings.max_warmup_steps, min_warmup),
        min_measured_steps=min_measured,
        max_measured_steps=max(settings.max_measured_steps, min_measured),
    )


def _as_fields(measured: Measured) -> dict[str, Any]:
    fields = msgspec.structs.asdict(measured)
    for name in ("warmup_step_time_ns", "step_time_ns", "windows"):
        fields[name] = tuple(fields[name])
    for name in ("first_loss", "last_loss"):
        fields[name] = fields[name] if math.isfinite(fields[name]) else None
    return fields


def _wrong_losses(task: WorkerTask, measured: Measured) -> str | None:
    """What is wrong with the losses of the measured training itself, or ``None``."""
    if not (math.isfinite(measured.first_loss) and math.isfinite(measured.last_loss)):
        return f"the loss is not finite: first {measured.first_loss}, last {measured.last_loss}"
    if task.case.data == "digits" and measured.last_loss >= _MUST_FALL * measured.first_loss:
        return f"the loss on the digits did not fall: {measured.first_loss:.4g} to {measured.last_loss:.4g}"
    return None


def _memory(device: torch.device) -> WorkerMemory:
    on_gpu = device.type == "cuda"
    return WorkerMemory(
        peak_memory_allocated_bytes=torch.cuda.max_memory_allocated(device) if on_gpu else None,
        peak_memory_reserved_bytes=torch.cuda.max_memory_reserved(device) if on_gpu else None,
        peak_host_rss_bytes=_peak_rss_bytes(),
        **tightest_limit(),
    )


def _peak_rss_bytes() -> int | None:
    """The kernel's high-water mark of this process; it starts anew at a fork."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def _flops(task: WorkerTask) -> tuple[Flops | None, str | None]:
    try:
        return count_flops(task.case, task.import_dirs), None
    except Exception as error:  # noqa: BLE001 - a model that cannot run on the meta device has unknown FLOPs
        return None, f"not countable on the meta device: {classify(error)[1]}"


def _progress_writer(task: WorkerTask) -> Callable[[str, int, float], None]:
    """Writes where the attempt stands into ``progress.json``, for the live display."""
    path = Path(task.attempt_dir, "progress.json")

    def write(phase: str, num_steps: int, step_s: float) -> None:
        write_aside(path, msgspec.json.encode({"phase": phase, "num_steps": num_steps, "step_s": step_s}))

    return write
