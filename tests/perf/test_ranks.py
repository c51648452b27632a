"""What a step of several ranks costs through the worker, against hand-written DDP and DeepSpeed loops.

Two gloo ranks with one thread each. Their steps are long against the scheduler's slices, in which the ranks
wait for each other: with steps of a few milliseconds those slices are all that one sees. `make perf` runs
these; the figures are printed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from benchbox.measure.launch import worker_variables
from benchbox.schema import MeasureSettings, Strategy, WorkerTask
from tests.factories import make_case
from tests.perf.test_overhead import decide

pytestmark = [pytest.mark.perf, pytest.mark.timeout(3600)]

SIDE_BY_SIDE = Path(__file__).with_name("ranks_side_by_side.py")
BOUND = 1.02
NUM_TURNS = 8
NUM_STEPS = 5


def task_of(strategy: Strategy, folder: Path) -> WorkerTask:
    case = make_case(
        model="small-cnn",
        strategy=strategy,
        world_size=2,
        per_device_batch_size=256,
        input_shape=(1, 28, 28),
        num_classes=10,
        learning_rate=1e-3,
    )
    return WorkerTask(
        case=case,
        measure=MeasureSettings(),
        attempt=0,
        device="cpu",
        extra_passes=False,
        run_dir=str(folder),
        attempt_dir=str(folder),
        import_dirs=(),
        data_root=str(folder),
    )


def ratios_of(task: WorkerTask, num_rounds: int) -> list[float]:
    """Worker over hand-written, one for each round, in two new ranks."""
    path = Path(task.attempt_dir, "case.json")
    path.write_bytes(msgspec.json.encode(task))
    launch = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    variables = worker_variables(MeasureSettings(), 1, None)
    subprocess.run(
        [sys.executable, *launch, "--nproc-per-node", "2", str(SIDE_BY_SIDE), str(path)]
        + [str(number) for number in (num_rounds, NUM_TURNS, NUM_STEPS)],
        env={**os.environ, **variables, "GLOO_SOCKET_IFNAME": "lo", "DS_ACCELERATOR": "cpu"},
        check=True,
        capture_output=True,
        timeout=1500,
    )
    ratios: list[float] = json.loads(Path(task.attempt_dir, "ratios.json").read_bytes())
    assert len(ratios) == num_rounds
    return ratios


@pytest.mark.parametrize("strategy", ["ddp", "zero1", "zero2", "zero3"])
def test_a_step_of_two_ranks_takes_what_it_takes_by_hand(strategy: Strategy, tmp_path: Path) -> None:
    task = task_of(strategy, tmp_path)
    verdict, figures = decide(lambda number: ratios_of(task, number), BOUND)
    print(f"\nstep time of two gloo ranks, worker over hand-written, {strategy}: {figures}")
    assert verdict == "kept", f"{verdict}: {figures}"
