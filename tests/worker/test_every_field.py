"""Nothing is configurable that no one reads: every field of a case and of the settings has an effect.

Each test changes one field and looks at what the worker does, not at what it reads: the model it builds, the
batches it takes, what flows through the layers of a step, which weights come out, and for the settings how
many steps of which kind are taken. A field that the worker ignores changes nothing of that, and its test
fails; so does a new field for which nobody has said what change it should be tested with. That the same case
is observed twice as the same keeps chance out of it.
"""

from __future__ import annotations

import ast
import gc
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
import torch.distributed
from torch import nn

import benchbox
from benchbox.schema import Case, MeasureSettings, RankResult
from benchbox.worker.attempt import run_attempt
from benchbox.worker.data import generate_images, make_batches
from benchbox.worker.engine import check_supported
from benchbox.worker.models import UnsupportedCase
from benchbox.worker.ranks import Place, Ranks
from benchbox.worker.strategies import make_engine
from benchbox.worker.strategies.single import TorchEngine
from tests.worker.tasks import CPU, IMAGES, make_case, make_task, write_model
from tests.worker.watch import put_on

NETWORK = """
    from benchbox.worker.models import StagedModel

    def make(width=4):
        return StagedModel(
            nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()),
            nn.Linear(4 * width, 5),
        )

    def wider():
        return make(6)
    """
FOLDER = {"data": "folder", "data_dir": "some-images", "num_loader_workers": 0}
GENERATED = {"data": "folder", "num_generated_images": 4, "num_loader_workers": 0}
LOADER = {"data": "loader", "num_loader_workers": 0}

# Field: the case to start from (a small network of one's own unless it says mlp), and what is changed.
CASE_CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "model": ({}, {"model": "wider"}),
    "data": ({}, LOADER),
    "per_device_batch_size": ({}, {"per_device_batch_size": 5}),
    "precision": ({}, {"precision": "bf16"}),
    "gradient_checkpointing": ({}, {"gradient_checkpointing": True}),
    "strategy": ({}, {"strategy": "ddp"}),
    "world_size": ({"strategy": "ddp"}, {"world_size": 2}),
    "gradient_accumulation_steps": ({}, {"gradient_accumulation_steps": 2}),
    "memory_format": ({}, {"memory_format": "channels_last"}),
    "compile": ({}, {"compile": True}),
    "input_shape": ({}, {"input_shape": (3, 8, 9)}),
    "num_classes": ({}, {"num_classes": 4}),
    "hidden_size": ({"model": "mlp", "input_shape": (16,), "hidden_size": 8}, {"hidden_size": 9}),
    "learning_rate": ({}, {"learning_rate": 0.1}),
    "seed": ({}, {"seed": 1}),
    "data_dir": (FOLDER, {"data_dir": "other-images"}),
    "num_generated_images": (GENERATED, {"num_generated_images": 7}),
    "num_loader_workers": (LOADER, {"num_loader_workers": 1}),
}
NAMES_THE_CASE = {"case_id"}

BASE_SETTINGS: dict[str, Any] = {
    "max_seconds": 1.0,
    "ci_target_pct": 1e-6,
    "num_phase_steps": 3,
    "num_trajectory_steps": 2,
    "num_threads": 1,
    "repetitions": 1000,  # time enough for all passes on any machine: other settings say how long they are
}
SETTINGS_CHANGES: dict[str, dict[str, Any]] = {
    "max_seconds": {"max_seconds": 3.0},
    "min_warmup_steps": {"min_warmup_steps": 90},
    "max_warmup_steps": {"max_warmup_steps": 5},
    "min_measured_steps": {"min_measured_steps": 500},
    "max_measured_steps": {"max_measured_steps": 7},
    "ci_target_pct": {"ci_target_pct": 50.0},
    "num_threads": {"num_threads": 2},
    "cudnn_benchmark": {"cudnn_benchmark": False},
    "num_phase_steps": {"num_phase_steps": 0},
    "profile_step": {"profile_step": False},
    "num_input_rounds": {"num_input_rounds": 1},
    "num_split_rounds": {"num_split_rounds": 1},
    "num_trajectory_steps": {"num_trajectory_steps": 0},
}
READ_BY_THE_CONTROLLER = {
    "repetitions": "measure/order.py",
    "telemetry_hz": "measure/runner.py",
    "timeout_s": "schema/case.py",  # as effective_timeout_s, which measure/attempt.py reads
    "host_allocator": "measure/launch.py",
    "ceiling_seconds": "measure/ceilings.py",
}
READ_BY_SEVERAL_RANKS = {"num_communication_steps": "worker/passes.py"}  # tried in test_strategies.py
READ_ELSEWHERE = READ_BY_THE_CONTROLLER | READ_BY_SEVERAL_RANKS


# --- cases -------------------------------------------------------------------------------------------------


def observe(folder: Path, case: Case) -> dict[str, Any]:
    """What the worker does for ``case``: builds, takes batches, and trains one step."""
    try:
        check_supported(case, CPU)
    except UnsupportedCase as reason:
        return {"unsupported": str(reason)}
    engine = make_engine(case, CPU, (str(folder),))
    gc.collect()
    helpers = len(multiprocessing.active_children())
    last_of_all = Ranks(Place(rank=case.world_size - 1, world_size=case.world_size), None)
    batches = make_batches(make_task(folder, case, import_dirs=(str(folder),)), CPU, last_of_all)
    step = next(batches)
    assert isinstance(engine, TorchEngine)
    seen: dict[str, Any] = {
        "engine": type(engine).__name__,
        "compiled": isinstance(engine._forward, torch._dynamo.OptimizedModule),
        "loader processes": len(multiprocessing.active_children()) - helpers,
        "batch": [(inputs.shape, inputs.double().sum().item(), targets.tolist()) for inputs, targets in step],
        "parameters": [tuple(parameter.shape) for parameter in engine.module.parameters()],
    }
    if not seen["compiled"]:  # compiling takes long, and another test does it
        seen["layers"] = layers = []

        def look(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
            layers.append((type(module).__name__, inputs[0].stride(), output.dtype))

        for module in engine.module.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.register_forward_hook(look)
        engine.step(step)
        seen["weights"] = [parameter.double().sum().item() for parameter in engine.module.parameters()]
    return seen


@pytest.fixture
def group_of_one() -> Iterator[None]:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("group_of_one")
@pytest.mark.parametrize("field", [name for name in Case.__struct_fields__ if name not in NAMES_THE_CASE])
def test_the_worker_acts_on_every_field_of_a_case(tmp_path: Path, field: str) -> None:
    base, change = CASE_CHANGES[field]
    module = write_model(tmp_path, NETWORK)
    generate_images(tmp_path / "some-images", 4, 2, seed=0)
    generate_images(tmp_path / "other-images", 4, 2, seed=1)

    def case(**changes: Any) -> Case:
        fields = IMAGES | {"model": "make"} | base | changes
        if fields["model"] in ("make", "wider"):
            fields["model"] = f"{module}:{fields['model']}"
        return make_case(fields)

    assert getattr(case(**change), field) != getattr(case(), field)
    before = observe(tmp_path, case())
    assert observe(tmp_path, case()) == before
    assert observe(tmp_path, case(**change)) != before


# --- settings ----------------------------------------------------------------------------------------------


def a_little_noisily(step: int) -> int:
    return 10_000_000 + step * 7919 % 1000 * 1000


def observe_settings(folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> dict[str, Any]:
    """What an attempt under these settings does, apart from how long it takes."""
    put_on(monkeypatch, a_little_noisily)
    task = make_task(folder, make_case(data="host"), extra_passes=True)
    measure = MeasureSettings(**(BASE_SETTINGS | changes))
    run_attempt(msgspec.structs.replace(task, measure=measure))
    rank = msgspec.json.decode(Path(task.attempt_dir, "rank0.json").read_bytes(), type=RankResult)
    assert (rank.outcome, rank.reason) == ("ok", None)
    return {
        "warm-up": (len(rank.warmup_step_time_ns), rank.warmup_end),
        "measured": (len(rank.step_time_ns), rank.stop_reason),
        "threads": (rank.num_threads, torch.get_num_threads()),
        "cudnn.benchmark": torch.backends.cudnn.benchmark,
        "phase steps": rank.phases and rank.phases.num_steps,
        "profiled": rank.profile is not None,
        "input steps": rank.input_ablation and rank.input_ablation.num_steps,
        "split steps": rank.batch_split and rank.batch_split.num_steps,
        "trajectory steps": rank.loss_check and len(rank.loss_check.losses),
    }


@pytest.mark.parametrize(
    "field", [name for name in MeasureSettings.__struct_fields__ if name not in READ_ELSEWHERE]
)
def test_the_worker_acts_on_every_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    change = SETTINGS_CHANGES[field]
    before = observe_settings(tmp_path, monkeypatch)
    assert observe_settings(tmp_path, monkeypatch) == before
    assert observe_settings(tmp_path, monkeypatch, **change) != before


@pytest.mark.parametrize(("field", "file"), READ_ELSEWHERE.items())
def test_the_other_settings_are_read(field: str, file: str) -> None:
    """That they also have their effect is for other tests to show."""
    tree = ast.parse((Path(benchbox.__file__).parent / file).read_text())
    read = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert field in read
