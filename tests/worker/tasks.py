"""Small cases and tasks that train in milliseconds."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchbox.plan.suite import case_id
from benchbox.schema import Case, MeasureSettings, WorkerTask
from benchbox.worker.data import MicroBatches

CPU = torch.device("cpu")

SMALL_CNN: dict[str, Any] = {
    "model": "small-cnn",
    "input_shape": (1, 28, 28),
    "num_classes": 10,
    "hidden_size": None,
}
REFERENCE_CNN: dict[str, Any] = {
    "model": "reference-cnn",
    "input_shape": (3, 224, 224),
    "num_classes": 1000,
    "hidden_size": None,
    "learning_rate": 1e-5,
}
IMAGES: dict[str, Any] = {"input_shape": (3, 8, 8), "num_classes": 5, "hidden_size": None}
"""For models of one's own."""

QUICK: dict[str, Any] = {
    "max_seconds": 0.2,
    "max_measured_steps": 20,
    "max_warmup_steps": 12,
    "num_phase_steps": 2,
    "num_trajectory_steps": 2,
}

_numbers = itertools.count()


def make_case(*bases: dict[str, Any], **changes: Any) -> Case:
    """An mlp of 16, 8 and 4 in fp32 at batch 4, unless said otherwise."""
    fields: dict[str, Any] = {
        "model": "mlp",
        "data": "device",
        "per_device_batch_size": 4,
        "precision": "fp32",
        "gradient_checkpointing": False,
        "strategy": "single",
        "world_size": 1,
        "gradient_accumulation_steps": 1,
        "memory_format": "contiguous",
        "compile": False,
        "input_shape": (16,),
        "num_classes": 4,
        "hidden_size": 8,
        "learning_rate": 1e-3,
        "seed": 0,
        "data_dir": None,
        "num_generated_images": None,
        "num_loader_workers": None,
    }
    for more in (*bases, changes):
        fields |= more
    case = Case(case_id="", **fields)
    return Case(case_id=case_id(case), **fields)


def make_task(
    folder: Path, case: Case, *, extra_passes: bool = False, import_dirs: tuple[str, ...] = (), **measure: Any
) -> WorkerTask:
    """A quick attempt; ``measure`` changes how it is measured. Attempts in one folder share a run."""
    run_dir, attempt_dir = folder / "run", folder / f"attempt-{next(_numbers)}"
    run_dir.mkdir(exist_ok=True)
    attempt_dir.mkdir()
    return WorkerTask(
        case=case,
        measure=MeasureSettings(**(QUICK | measure)),
        attempt=0,
        device="cpu",
        extra_passes=extra_passes,
        run_dir=str(run_dir),
        attempt_dir=str(attempt_dir),
        import_dirs=import_dirs,
        data_root=str(folder),
    )


def first_error(batches: Iterator[MicroBatches]) -> Exception:
    """What the first batch raises, without its traceback.

    That of an error in a loader's process is a cycle with the loader in it, and a loader that is found by
    the garbage collector waits five seconds for its processes.
    """
    try:
        next(batches)
    except Exception as error:  # noqa: BLE001 - whatever it is
        return error.with_traceback(None)
    raise AssertionError("the first batch is all right")


def write_model(folder: Path, source: str) -> str:
    """Write a module of one's own into ``folder``; its name, which no other test's has."""
    name = f"own_{next(_numbers)}"
    head = "import torch\nfrom torch import nn\n"
    (folder / f"{name}.py").write_text(head + textwrap.dedent(source))
    return name


def write_forward(folder: Path, body: str) -> str:
    """A model of one's own for ``IMAGES``, with ``body`` between its logits ``y`` and the return of ``y``."""
    source = """
        class Own(nn.Module):
            def __init__(self):
                super().__init__()
                self.linear = nn.Linear(3 * 8 * 8, 5)

            def forward(self, x):
                y = self.linear(x.flatten(1))
                {body}
                return y
        """
    body = textwrap.indent(textwrap.dedent(body).strip(), " " * 16).strip()
    return f"{write_model(folder, source.format(body=body))}:Own"
