"""Does this configuration compute what plain fp32 computes? A fast one that does not is invalid, not fast.

A fresh model is trained for a few steps from the case's seed with dropout off (its random masks differ
between precisions on a GPU), and its losses are set against those of the same model in plain fp32:
contiguous, not compiled, no checkpointing, on one device, on the same global batches.

Of several ranks, each loss is the mean over all of them, and rank 0 alone computes what it is compared with:
one device that accumulates as many micro-batches as all ranks together train on.
"""

from __future__ import annotations

import gc
import hashlib
import itertools
import math
import os
from pathlib import Path

import msgspec
import torch
from torch import nn

from benchbox.schema import Case, LossCheck, WorkerTask
from benchbox.worker.data import MicroBatches, make_batches
from benchbox.worker.engine import Engine
from benchbox.worker.failures import is_out_of_memory
from benchbox.worker.ranks import ALONE, Ranks
from benchbox.worker.strategies import make_engine

# Largest relative difference of any loss. bf16 keeps 8 bits of mantissa, fp16 and tf32 keep 11; losses are
# means over many products, and an error made in one step is carried into the next ones. fp32 differs from
# itself only by the order of sums.
TOLERANCE_REL = {"fp32": 1e-3, "tf32": 1e-2, "fp16": 1e-2, "bf16": 3e-2}

_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_MAX_SKIPPED_STEPS = 20  # fp16 lowers its loss scale from 65536 until the gradients fit


def plain_fp32(case: Case) -> Case:
    """The case that computes the same on one device in the plainest way."""
    return msgspec.structs.replace(
        case,
        precision="fp32",
        memory_format="contiguous",
        compile=False,
        gradient_checkpointing=False,
        strategy="single",
        world_size=1,
        gradient_accumulation_steps=case.gradient_accumulation_steps * case.world_size,
    )


def check_losses(task: WorkerTask, device: torch.device, ranks: Ranks = ALONE) -> LossCheck:
    """Train a few steps and compare. Needs the memory of one more model and its optimizer state.

    All ranks return the same. Where memory runs out on one of several, the error is raised: the others wait
    in a collective, and only the end of this process can tell them.
    """
    case, num_steps = task.case, task.measure.num_trajectory_steps
    batches = list(itertools.islice(make_batches(task, device, ranks), num_steps))
    tolerance = TOLERANCE_REL[case.precision]
    if ranks.world_size > 1:
        losses: list[float | None] | None = train_losses(case, device, task.import_dirs, batches, ranks)
    else:
        losses = _losses_that_fit(case, device, task.import_dirs, batches)
    if losses is None:
        return LossCheck(
            losses=(),
            digest=digest([]),
            reference_losses=None,
            tolerance_rel=tolerance,
            agrees_with_fp32=None,
            reason="a second model of this case does not fit in the device's memory",
        )
    reference: list[float | None] | None = losses
    reason: str | None = None
    if (plain := plain_fp32(case)) != case:
        mine = _reference_losses(plain, task, device, batches) if ranks.place.rank == 0 else None
        reference = ranks.tell(mine)
        reason = None if reference is not None else "the fp32 reference does not fit in the device's memory"
    agrees = None if reference is None else trajectories_agree(losses, reference, tolerance)
    if agrees is False:
        reason = (
            f"losses differ from fp32 by more than {tolerance:g}: {_show(losses)} against {_show(reference)}"
        )
    return LossCheck(
        losses=tuple(losses),
        digest=digest(losses),
        reference_losses=None if reference is None else tuple(reference),
        tolerance_rel=tolerance,
        agrees_with_fp32=agrees,
        reason=reason,
    )


def train_losses(
    case: Case,
    device: torch.device,
    import_dirs: tuple[str, ...],
    batches: list[MicroBatches],
    ranks: Ranks = ALONE,
    *,
    on_host: bool = False,
) -> list[float | None]:
    """The loss of each optimizer step, one batch a step; ``None`` where it is not finite.

    A step that fp16's loss scaling skips is taken again on the same batch.
    """
    _drop_what_is_left()
    engine = make_engine(case, device, import_dirs, on_host=on_host)
    switch_off_dropout(engine.module)
    losses: list[float | None] = []
    for batch in batches:
        for _ in range(_MAX_SKIPPED_STEPS):
            (loss,) = ranks.mean([_mean_loss_of_step(engine, batch)])
            if not engine.was_skipped():
                break
        losses.append(loss if math.isfinite(loss) else None)
    engine.close()
    return losses


def switch_off_dropout(model: nn.Module) -> None:
    """Set all rates to zero that modules keep: those of torch's dropout layers, and every float whose name
    speaks of it, such as ``dropout`` of attention and of recurrent layers. A rate that a forward pass has in
    its own text stays.
    """
    for module in model.modules():
        if isinstance(module, _DROPOUTS):
            module.p = 0.0
        for name, value in vars(module).items():
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)


def _drop_what_is_left() -> None:
    """Free the model before: compiled code and cycles keep it, and there may be no room for two."""
    torch.compiler.reset()
    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


def _mean_loss_of_step(engine: Engine, batch: MicroBatches) -> float:
    """One step; the mean loss over its micro-batches."""
    total = 0.0
    for host_inputs, host_targets in batch:
        inputs, targets = engine.to_device(host_inputs, host_targets)
        loss = engine.forward(inputs, targets)
        engine.backward(loss)
        total += loss.item()
    engine.optimizer_step()
    return total / len(batch)


def _losses_that_fit(
    case: Case,
    device: torch.device,
    import_dirs: tuple[str, ...],
    batches: list[MicroBatches],
    *,
    on_host: bool = False,
) -> list[float | None] | None:
    """As :func:`train_losses`, or ``None`` where memory runs out."""
    try:
        return train_losses(case, device, import_dirs, batches, on_host=on_host)
    except (RuntimeError, MemoryError) as error:  # on a CPU torch has no type of its own for it
        if not is_out_of_memory(error):
            raise
        return None


def _reference_losses(
    plain: Case, task: WorkerTask, device: torch.device, batches: list[MicroBatches]
) -> list[float | None] | None:
    """Plain fp32's losses, computed once a run for all cases that share them; ``None`` if they do not fit."""
    is_parallel = task.case.strategy != "single"
    weights_from = "cpu" if is_parallel else device.type
    fields = {name: getattr(plain, name) for name in plain.__struct_fields__ if name != "case_id"}
    about = [fields, task.measure.num_trajectory_steps, weights_from]
    key = hashlib.blake2s(msgspec.json.encode(about, order="sorted")).hexdigest()[:16]
    path = Path(task.run_dir, f"fp32-losses-{key}.json")
    if path.is_file():
        return msgspec.json.decode(path.read_bytes(), type=list[float | None])
    if task.case.world_size > 1:
        source = make_batches(msgspec.structs.replace(task, case=plain), device)
        batches = list(itertools.islice(source, task.measure.num_trajectory_steps))
    losses = _losses_that_fit(plain, device, task.import_dirs, batches, on_host=is_parallel)
    if losses is None:
        return None
    aside = path.with_suffix(f".{os.getpid()}")
    aside.write_bytes(msgspec.json.encode(losses))
    aside.rename(path)
    return losses


def trajectories_agree(
    losses: list[float | None], reference: list[float | None], tolerance_rel: float
) -> bool:
    """Whether every loss is finite and within ``tolerance_rel`` of the reference's."""
    return len(losses) == len(reference) and all(
        a is not None and b is not None and abs(a - b) <= tolerance_rel * max(abs(b), 1e-3)
        for a, b in zip(losses, reference, strict=True)
    )


def digest(losses: list[float | None]) -> str:
    """Hash of the losses at five significant digits: equal for equal mathematics, run after run."""
    text = " ".join("nan" if loss is None else f"{loss:.4e}" for loss in losses)
    return hashlib.blake2s(text.encode()).hexdigest()[:16]


def _show(losses: list[float | None] | None) -> str:
    return " ".join("nan" if loss is None else f"{loss:.4g}" for loss in losses or ())
