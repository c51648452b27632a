"""The same code against itself, and against itself with a deliberate slowdown, on this very machine.

Takes half an hour: 20 comparisons of each kind (``COMPARE_RUNS`` for another number), in a suite like
suites/ci.toml. Nothing else should run meanwhile.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runs import environment

pytestmark = [pytest.mark.perf, pytest.mark.timeout(7200)]

NUM_RUNS = int(os.environ.get("COMPARE_RUNS", "20"))
SUITE = """
[workload]
model = "slowed_models:cnn"
input_shape = [1, 28, 28]
num_classes = 10

[axes]
per_device_batch_size = [32, 128]

[[include]]
model = "slowed_models:mlp"
input_shape = [784]
num_classes = 10
per_device_batch_size = 256

[measure]
repetitions = 5
max_seconds = 2
ci_target_pct = 1.0
"""


def benchbox(folder: Path, *arguments: str, slowed_pct: float = 0.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchbox.cli", *arguments],
        cwd=folder,
        env=environment(SLOWED_PCT=str(slowed_pct), COLUMNS="120"),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("real")
    (made / "slowed_models.py").write_text(Path(__file__).with_name("slowed_models.py").read_text())
    (made / "ci.toml").write_text(SUITE)
    return made


def measure(folder: Path, name: str, slowed_pct: float = 0.0) -> None:
    done = benchbox(folder, "run", "ci.toml", "-q", "--out", name, slowed_pct=slowed_pct)
    assert done.returncode == 0, done.stderr


def compared(folder: Path, base: str, new: str) -> int:
    done = benchbox(folder, "compare", f"{base}/report.json", f"{new}/report.json")
    print(done.stdout)
    return done.returncode


def test_the_same_code_is_never_called_slower_and_five_percent_always(folder: Path) -> None:
    """Each comparison has a base of its own, measured just before it."""
    alarms, found = 0, 0
    for number in range(NUM_RUNS):
        measure(folder, f"base{number}")
        measure(folder, f"same{number}")
        measure(folder, f"slow{number}", slowed_pct=5.0)
        alarms += compared(folder, f"base{number}", f"same{number}") != 0
        found += compared(folder, f"base{number}", f"slow{number}") == 1
    print(f"{NUM_RUNS} comparisons: {alarms} false alarms, {found} slowdowns of 5 % found")
    assert alarms == 0
    assert found == NUM_RUNS
