"""One attempt in this process: build, measure, then the passes of their own, and one file with the result."""

from __future__ import annotations

import contextlib
import os
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch

from benchbox.schema import PASSES_CUT_SHORT, MeasureSettings, Outcome, RankResult, WorkerMemory, WorkerTask
from benchbox.worker.data import make_batches, num_buffered_steps
from benchbox.worker.engine import Engine, check_supported
from benchbox.worker.failures import classify
from benchbox.worker.limits import bound_memory, tightest_limit
from benchbox.worker.loop import LossNotFiniteError, Measured, measure
from benchbox.worker.models import UnsupportedCase
from benchbox.worker.passes import extra_passes
from benchbox.worker.ranks import ALONE, Place, Ranks, join
from benchbox.worker.strategies import make_engine

_MUST_FALL = 0.9  # on the digits the last loss is below this share of the first


def run_attempt(task: WorkerTask, place: Place | None = None) -> bool:
    """Run ``task`` and write ``rank{N}.json`` into its folder, whatever happens short of a killed process.

    ``place`` is what torchrun made of this process; without one it trains alone. Returns whether all went
    well. Where it did not, a rank of several must end at once: the others may wait for it in a collective.
    """
    place_or_alone = place or Place()
    record = RankRecord(task, place_or_alone)
    has_peers = place_or_alone.world_size > 1
    ranks = ALONE
    try:
        device = _prepare(task, place_or_alone)
        if place is not None:
            ranks = join(place, device)
        outcome, reason = _run(task, device, ranks, record)
    except UnsupportedCase as error:
        outcome, reason = "unsupported", str(error)
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - whatever the model raises
        outcome, reason = classify(error, has_peers=has_peers)
        traceback.print_exc()
        ranks = ALONE  # nothing is agreed: do not wait for them
    record.write(outcome, reason)
    if record.fields["extra_passes_failed_reason"] is not None:
        return False
    with contextlib.suppress(RuntimeError):  # a rank that is gone has left its own word
        ranks.wait()  # torchrun ends the others when the first ends badly: all shall have written
    return outcome == "ok"


class RankRecord:
    """What this rank's file will say, filled in as the attempt goes on."""

    def __init__(self, task: WorkerTask, place: Place) -> None:
        self._path = Path(task.attempt_dir, f"rank{place.rank}.json")
        self.fields: dict[str, Any] = {
            "rank": place.rank,
            "local_rank": place.local_rank,
            "node": place.node,
            "process_start_at_ns": time.monotonic_ns(),
            "ready_at_ns": None,
            "extra_passes_s": 0.0,
            "extra_passes_failed_reason": None,
        }

    def write(self, outcome: Outcome, reason: str | None) -> None:
        """Write the file, or write it anew.

        Raises:
            SystemExit: it cannot be written. That is no outcome of the case, and the controller must not take
                it for one.
        """
        try:
            self._write(outcome, reason, self.fields)
        except OSError as error:
            raise SystemExit(os.EX_IOERR) from error

    def write_so_far(self) -> None:
        """Leave what there is: the passes to come may end this process, or take it past its time.

        Where it cannot be written the passes go on. The word at the end counts, and tells of a full disk.
        """
        outcome, reason = _outcome(self.fields)
        ended = {"extra_passes_failed_reason": PASSES_CUT_SHORT}
        with contextlib.suppress(OSError):
            self._write(outcome, reason, self.fields | ended)

    def _write(self, outcome: Outcome, reason: str | None, fields: Mapping[str, Any]) -> None:
        rank = RankResult(outcome=outcome, reason=reason, finished_at_ns=time.monotonic_ns(), **fields)
        write_aside(self._path, msgspec.json.encode(rank))


def write_aside(path: Path, data: bytes) -> None:
    """Write to a temporary file and rename, so that a file that exists is whole."""
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    aside.write_bytes(data)
    aside.rename(path)


def _prepare(task: WorkerTask, place: Place) -> torch.device:
    """Set what holds for the whole process; the device that this rank trains on."""
    torch.set_flush_denormal(True)  # before there are threads: each takes it over from the one that starts it
    if task.memory_limit_bytes is not None:
        bound_memory(task.memory_limit_bytes)
    device = torch.device(task.device)
    if device.type == "cuda" and place.world_size > 1:
        device = torch.device("cuda", place.local_rank)
    if task.measure.num_threads is not None:
        torch.set_num_threads(task.measure.num_threads)
    torch.backends.cudnn.benchmark = task.measure.cudnn_benchmark
    check_supported(task.case, device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def _run(
    task: WorkerTask, device: torch.device, ranks: Ranks, record: RankRecord
) -> tuple[Outcome, str | None]:
    fields = record.fields
    fields["device_uuid"] = _uuid(device)
    engine = make_engine(task.case, device, task.import_dirs)
    batches = make_batches(task, device, ranks)
    fields["ready_at_ns"] = time.monotonic_ns()
    fields["num_threads"] = torch.get_num_threads()
    fields["optimizer"] = engine.optimizer_name

    try:
        measured = measure(
            engine,
            batches,
            _settings_for(task),
            compiles=task.case.compile,
            report_progress=_progress_writer(task, ranks),
            ranks=ranks,
        )
    except LossNotFiniteError as error:
        fields["memory"] = _memory(engine)
        return "invalid", str(error)
    fields |= _as_fields(measured)
    fields["memory"] = _memory(engine)
    if (trouble := _does_not_learn(task, measured, ranks)) is not None:
        return "invalid", trouble
    if not task.extra_passes:
        return "ok", None

    started_at = time.monotonic()
    passes = extra_passes(
        task, device, ranks, engine, batches, measured.step_time_ns, fields["process_start_at_ns"]
    )
    del engine, batches
    try:
        record.write_so_far()
        for found in passes:
            fields |= found
            fields["extra_passes_s"] = time.monotonic() - started_at
            record.write_so_far()
    except Exception as error:  # noqa: BLE001 - what was measured before stays measured
        traceback.print_exc()
        fields["extra_passes_s"] = time.monotonic() - started_at
        fields["extra_passes_failed_reason"] = classify(error, has_peers=ranks.world_size > 1)[1]
    return _outcome(fields)


def _outcome(fields: Mapping[str, Any]) -> tuple[Outcome, str | None]:
    """Of a rank that has measured: only losses that were compared can still take that away."""
    check = fields.get("loss_check")
    if check is not None and check.agrees_with_fp32 is False:
        return "invalid", check.reason
    return "ok", None


def _uuid(device: torch.device) -> str | None:
    return str(torch.cuda.get_device_properties(device).uuid) if device.type == "cuda" else None


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
    return fields


def _does_not_learn(task: WorkerTask, measured: Measured, ranks: Ranks) -> str | None:
    """What is wrong with the losses on a task that can be learned, or ``None``; all ranks tell it at once."""
    first, last = ranks.mean([measured.first_loss, measured.last_loss])
    if task.case.data == "digits" and last >= _MUST_FALL * first:
        return f"the loss on the digits did not fall: {first:.4g} to {last:.4g}"
    return None


def _memory(engine: Engine) -> WorkerMemory:
    device, on_gpu = engine.device, engine.device.type == "cuda"
    # A replayed graph works in memory that torch counted when the graph was made, and does not count again.
    counts = on_gpu and not engine.replays_graphs
    return WorkerMemory(
        peak_memory_allocated_bytes=torch.cuda.max_memory_allocated(device) if counts else None,
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


def _progress_writer(task: WorkerTask, ranks: Ranks) -> Callable[[str, int, float], None]:
    """Has rank 0 write where the attempt stands into ``progress.json``, for the live display."""
    path = Path(task.attempt_dir, "progress.json")

    def write(phase: str, num_steps: int, step_s: float) -> None:
        if ranks.place.rank == 0:
            write_aside(path, msgspec.json.encode({"phase": phase, "num_steps": num_steps, "step_s": step_s}))

    return write
