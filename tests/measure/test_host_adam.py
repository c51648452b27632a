"""DeepSpeed's Adam for the host is built before, and apart from, the cases that need it."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple

import pytest

from benchbox.measure import site
from benchbox.measure.attempt import Tick
from benchbox.measure.host_adam import build_host_adam
from benchbox.measure.launch import WorkerServer
from benchbox.measure.runner import SuiteRun
from benchbox.plan.suite import load_suite
from benchbox.schema import AttemptResult
from tests.runs import wait_until, write_suite

pytestmark = pytest.mark.timeout(400)

ON_CPU = {"DS_ACCELERATOR": "cpu"}
OFFLOAD = """
[workload]
model = "mlp"
sizes = [16, 8, 4]
[axes]
per_device_batch_size = [4, 8]
strategy = ["zero2-offload"]
world_size = [1]
"""


class Ended(NamedTuple):
    reason: str | None
    ticks: list[Tick]


def drain(building: Generator[Tick, None, str | None]) -> Ended:
    ticks: list[Tick] = []
    while True:
        try:
            ticks.append(next(building))
        except StopIteration as stop:
            return Ended(stop.value, ticks)


def compiler(folder: Path, script: str) -> dict[str, str]:
    """Variables under which nothing is built yet and ``script`` is the compiler."""
    path = folder / "c++"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return ON_CPU | {"CXX": str(path), "TORCH_EXTENSIONS_DIR": str(folder / "built")}


def test_a_build_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    noted = tmp_path / "pid"
    variables = compiler(tmp_path, f"echo $$ > {noted}; exec sleep 600")
    with WorkerServer(ON_CPU, with_deepspeed=True) as server:
        building = build_host_adam(server, variables, timeout_s=1)
        ended = drain(building)
        assert ended.reason == "DeepSpeedCPUAdam was not built within 1 s"
        assert ended.ticks[-1].phase == "building DeepSpeedCPUAdam"
        assert not noted.exists() or wait_until(
            lambda: not Path("/proc", noted.read_text().strip()).exists(), 20
        )
        assert server.start(facts=str(tmp_path / "facts"), stderr=str(tmp_path / "stderr")) > 0  # goes on


def test_cases_are_unsupported_with_the_compilers_error_and_it_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "sleep 2; echo 'x.cpp:1: fatal error: no such thing' >&2; exit 1"
    for name, value in compiler(tmp_path, script).items():
        monkeypatch.setenv(name, value)
    built: list[str | None] = []

    def build(*arguments: object) -> Generator[Tick, None, str | None]:
        built.append((yield from build_host_adam(*arguments)))  # type: ignore[arg-type]
        return built[-1]

    monkeypatch.setattr(site, "build_host_adam", build)
    suite = load_suite(write_suite(tmp_path, OFFLOAD, timeout_s=1))  # less than the compiler takes
    with SuiteRun(suite, tmp_path, tmp_path / "out", device="cpu", resume=False, force=False) as run:
        ended = [event for event in run.events() if isinstance(event, AttemptResult)]
    assert len(built) == 1
    for attempt in ended:
        assert (attempt.outcome, attempt.duration_s, attempt.ranks) == ("unsupported", 0, ())
        assert (attempt.reason or "").startswith("DeepSpeedCPUAdam cannot be built: ")
