"""What it costs to start and end a case of two processes, against torchrun on a script that only imports.

Nothing is shared among cases here: each attempt has a worker server of its own, whose start counts, although
in a run all attempts of a round share one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchbox.measure.attempt import watch_attempt
from benchbox.measure.launch import WorkerServer, worker_variables
from benchbox.measure.placement import Placement
from benchbox.schema import AttemptResult, MeasureSettings, Strategy, WorkerTask
from tests.factories import make_case, make_environment
from tests.perf.test_overhead import decide

pytestmark = [pytest.mark.perf, pytest.mark.timeout(3600)]

SETTINGS = MeasureSettings(
    max_seconds=5,
    min_warmup_steps=3,
    max_warmup_steps=3,
    min_measured_steps=3,
    max_measured_steps=3,
    num_threads=1,
)
BOUND = 1.3


def overhead_s(strategy: Strategy, folder: Path) -> float:
    """All that an attempt takes but its warm-up and measuring, from before the server starts to its end."""
    case = make_case(
        model="mlp",
        strategy=strategy,
        world_size=2,
        per_device_batch_size=8,
        input_shape=(16,),
        num_classes=4,
        hidden_size=8,
        learning_rate=1e-3,
    )
    task = WorkerTask(
        case=case,
        measure=SETTINGS,
        attempt=0,
        device="cpu",
        extra_passes=False,
        run_dir=str(folder),
        attempt_dir=str(folder / f"attempt-{time.monotonic_ns()}"),
        import_dirs=(),
        data_root=str(folder),
    )
    placement = Placement((), make_environment().software, 2)
    began = time.perf_counter()
    variables, with_deepspeed = worker_variables(SETTINGS, 2, None), placement.forks_deepspeed(case)
    with WorkerServer(variables | placement.group_variables(), with_deepspeed=with_deepspeed) as server:
        *_, result = watch_attempt(server, task, None, placement.rank_variables(case, SETTINGS))
    took_s = time.perf_counter() - began
    assert isinstance(result, AttemptResult)
    assert result.outcome == "ok", result.reason
    rank = result.ranks[0]
    windows_s = sum(window.end_at_ns - window.start_at_ns for window in rank.windows) / 1e9
    return took_s - rank.warmup_s - windows_s


def torchrun_s(script: Path) -> float:
    """How long torchrun takes for two processes that run ``script``."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    began = time.perf_counter()
    subprocess.run([*command, str(script)], env=variables, check=True, capture_output=True)
    return time.perf_counter() - began


@pytest.mark.parametrize(
    ("strategy", "imports"), [("ddp", "import torch"), ("zero1", "import torch\nimport deepspeed")]
)
def test_a_case_of_two_processes_starts_and_ends_in_little_more_than_torchrun_alone(
    strategy: Strategy, imports: str, tmp_path: Path
) -> None:
    script = tmp_path / "only_imports.py"
    script.write_text(imports)
    overhead_s(strategy, tmp_path)  # what is on no disk cache yet is nobody's to pay
    torchrun_s(script)

    def more_ratios(num_pairs: int) -> list[float]:
        ratios = []
        for number in range(num_pairs):
            sides = {"ours": lambda: overhead_s(strategy, tmp_path), "bare": lambda: torchrun_s(script)}
            order = sorted(sides, reverse=bool(number % 2))
            took_s = {side: sides[side]() for side in order}
            ratios.append(took_s["ours"] / took_s["bare"])
        return ratios

    verdict, figures = decide(more_ratios, BOUND)
    print(f"\nlaunch overhead of two processes, {strategy} over torchrun that only imports: {figures}")
    assert verdict == "kept", f"{verdict}: {figures}"
