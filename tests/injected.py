"""The table of injected causes: what is done to a case, and the verdicts that are right.

``python -m tests.injected`` runs it and prints it as Markdown, as it stands in docs/diagnose.md.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchbox.analyze.diagnose import diagnose_case
from benchbox.analyze.gathered import gather, others_pct
from benchbox.measure.attempt import watch_attempt
from benchbox.measure.ceilings import ask_ceilings
from benchbox.measure.environment import describe_environment
from benchbox.measure.launch import WorkerServer, worker_variables
from benchbox.measure.nvml import Nvml
from benchbox.measure.placement import Placement
from benchbox.measure.torch_facts import ask_torch
from benchbox.report.diagnosis import evidence_text
from benchbox.schema import (
    AttemptResult,
    Case,
    CaseResult,
    Diagnosis,
    MeasureSettings,
    Suite,
    WorkerTask,
)
from tests import injected_models
from tests.worker.tasks import REFERENCE_CNN, SMALL_CNN, make_case

FOLDER = {"data": "folder", "num_generated_images": 64}
QUICK_IMAGES: dict[str, Any] = {
    "model": "injected_models:quick_images",
    "input_shape": (1, 28, 28),
    "num_classes": 10,
    "hidden_size": None,
}
ELEMENTWISE: dict[str, Any] = {
    "model": "injected_models:Elementwise",
    "input_shape": (1 << 20,),
    "num_classes": 4,
    "hidden_size": None,
}
WIDE: dict[str, Any] = {
    "model": "injected_models:wide_layers",
    "input_shape": (1024,),
    "num_classes": 10,
    "hidden_size": None,
}
MLP: dict[str, Any] = {"model": "mlp", "num_classes": 10}
TIME_FOR_PASSES: dict[str, Any] = {"repetitions": 9}
"""One is run, and passes may take as long as all: a short run of quick steps shall not be left without."""
DISTURBED_PCT = 35.0
"""More of all processors than this taken by somebody else, and a run says nothing of what was injected."""
TRIES = 3
SHORT_S = 0.4
"""A short run: long enough for what holds most of a step whoever else is on the machine."""


class Injected(NamedTuple):
    """One line of the table."""

    what: str
    right: tuple[str, ...]
    """Any of these bottlenecks is a right answer."""
    case: dict[str, Any]
    settings: dict[str, Any] = {}  # noqa: RUF012 - never changed
    memory_above_need: float | None = None
    """The worker is held to its need (of data, by a run without a limit) times this."""
    slow: bool = False
    """Takes so long on two processors that no other test waits for it."""
    large: bool = False
    """Too large for a short run: only `make slow` runs it."""
    plain: bool = False
    """Holds so much of a step, or rests so little on time, that a short run tells it beside other work."""
    burners: int = 0
    """Processes that keep a processor busy meanwhile; the right answer is then one that is not sure and names
    them, whatever it takes for the bottleneck."""


TABLE: dict[str, Injected] = {
    "decoding in the step": Injected(
        "JPEGs decoded between steps, no loader process",
        ("input",),
        QUICK_IMAGES | FOLDER | {"num_loader_workers": 0, "per_device_batch_size": 16},
        TIME_FOR_PASSES,
        plain=True,
    ),
    "too few workers": Injected(
        "one loader process for JPEGs, a quick model",
        ("input",),
        QUICK_IMAGES | FOLDER | {"num_loader_workers": 1, "per_device_batch_size": 16},
        TIME_FOR_PASSES,
        plain=True,
    ),
    "small-cnn decoding": Injected(
        "small-cnn on JPEGs, no loader process",
        ("input",),
        SMALL_CNN | FOLDER | {"num_loader_workers": 0, "per_device_batch_size": 8},
        TIME_FOR_PASSES,
        plain=True,
    ),
    "collating": Injected(
        "samples put together between steps, a quick model",
        ("input",),
        QUICK_IMAGES | {"data": "loader", "num_loader_workers": 0, "per_device_batch_size": 256},
        TIME_FOR_PASSES,
        plain=True,
    ),
    "reference 1": Injected(
        "reference-cnn, batch 1", ("optimizer",), REFERENCE_CNN | {"per_device_batch_size": 1}, slow=True
    ),
    "reference 2": Injected(
        "reference-cnn, batch 2",
        ("optimizer",),
        REFERENCE_CNN | {"per_device_batch_size": 2},
        large=True,
    ),
    "reference 4": Injected(
        "reference-cnn, batch 4", ("optimizer",), REFERENCE_CNN | {"per_device_batch_size": 4}, slow=True
    ),
    "reference 16": Injected(
        "reference-cnn, batch 16",
        ("compute", "memory-bandwidth"),
        REFERENCE_CNN | {"per_device_batch_size": 16},
        large=True,
    ),
    "reference 64": Injected(
        "reference-cnn, batch 64",
        ("compute", "memory-bandwidth"),
        REFERENCE_CNN | {"per_device_batch_size": 64},
        TIME_FOR_PASSES | {"timeout_s": 900},  # with one thread a step takes tens of seconds
        slow=True,
    ),
    "weights": Injected(
        "mlp 4096-4096-10, batch 2",
        ("optimizer",),
        MLP | {"input_shape": (4096,), "hidden_size": 4096, "per_device_batch_size": 2},
        plain=True,
    ),
    "products": Injected(
        "mlp 1024-2048-10, batch 1024",
        ("compute",),
        MLP | {"input_shape": (1024,), "hidden_size": 2048, "per_device_batch_size": 1024},
        plain=True,
    ),
    "products bf16": Injected(
        "mlp 1024-2048-10, batch 512, bf16",
        ("compute",),
        MLP
        | {"input_shape": (1024,), "hidden_size": 2048, "per_device_batch_size": 512, "precision": "bf16"},
    ),
    "calls 4": Injected("mlp 16-8-4, batch 4", ("host-launch",), {"per_device_batch_size": 4}),
    "calls 64": Injected(
        "mlp 64-32-10, batch 64",
        ("host-launch",),
        MLP | {"input_shape": (64,), "hidden_size": 32, "per_device_batch_size": 64},
    ),
    "calls accumulated": Injected(
        "mlp 16-8-4, batch 2, four micro-batches",
        ("host-launch",),
        {"per_device_batch_size": 2, "gradient_accumulation_steps": 4},
    ),
    "elementwise": Injected(
        "activations of 32 MiB, no arithmetic",
        ("memory-bandwidth",),
        ELEMENTWISE | {"per_device_batch_size": 8},
    ),
    "system allocator": Injected(
        "the same, the system's allocator",
        ("host-memory",),
        ELEMENTWISE | {"per_device_batch_size": 8},
        {"host_allocator": "system"},
        plain=True,
    ),
    "system allocator, cnn": Injected(
        "small-cnn, batch 512, the system's allocator",
        ("host-memory",),
        SMALL_CNN | {"per_device_batch_size": 512},
        {"host_allocator": "system"},
    ),
    "near the limit": Injected(
        "held to 1.05 times its need of memory",
        ("memory-capacity",),
        MLP | {"input_shape": (2048,), "hidden_size": 4096, "per_device_batch_size": 8},
        memory_above_need=1.05,
        plain=True,
    ),
    "below the need": Injected(
        "held to 0.8 times its need of memory",
        ("memory-capacity",),
        MLP | {"input_shape": (2048,), "hidden_size": 4096, "per_device_batch_size": 8},
        memory_above_need=0.8,
        plain=True,
    ),
    "ddp": Injected(
        "two gloo ranks, DDP, batch 2",
        ("communication",),
        WIDE | {"strategy": "ddp", "world_size": 2, "per_device_batch_size": 2},
    ),
    "zero2": Injected(
        "two gloo ranks, ZeRO 2, batch 2",
        ("communication",),
        WIDE | {"strategy": "zero2", "world_size": 2, "per_device_batch_size": 2},
    ),
    "neighbour": Injected(
        "two busy neighbours, mlp 1024-2048-10",
        ("unknown",),
        MLP | {"input_shape": (1024,), "hidden_size": 2048, "per_device_batch_size": 256},
        burners=2,
    ),
    "neighbour, small-cnn": Injected(
        "two busy neighbours, small-cnn",
        ("unknown",),
        SMALL_CNN | {"per_device_batch_size": 64},
        burners=2,
    ),
}


class Found(NamedTuple):
    """What came of one line."""

    diagnosis: Diagnosis
    others_pct: float
    """Of all processors, taken by somebody else meanwhile."""

    def is_right(self, injected: Injected) -> bool:
        """With busy neighbours: ``unknown``, or whatever is not sure of itself and names them."""
        if injected.burners:
            named = any("used by others" in evidence.what for evidence in self.diagnosis.evidence)
            return self.diagnosis.bottleneck == "unknown" or (named and self.diagnosis.sureness == "unsure")
        return self.diagnosis.bottleneck in injected.right

    def is_disturbed(self, injected: Injected) -> bool:
        return not injected.burners and self.others_pct >= DISTURBED_PCT


class Rig:
    """Runs lines of the table, each attempt in a worker of its own, with one thread.

    Steps are measured for ``max_seconds``; a run that others disturbed is tried again.
    """

    def __init__(self, folder: Path, max_seconds: float = 1.2) -> None:
        self.folder = folder
        self._max_seconds = max_seconds
        shutil.copy(injected_models.__file__, folder / "injected_models.py")
        self._closing = contextlib.ExitStack()
        self._servers: dict[str, WorkerServer] = {}
        self._needs: dict[str, int] = {}
        server = self._server("tuned")
        facts = ask_torch(server, cudnn_benchmark=False).facts
        self._placement = Placement((), facts, num_threads=1)
        nvml = Nvml()
        self._environments = {
            name: describe_environment(facts, (), nvml, MeasureSettings(host_allocator=name), {})  # type: ignore[arg-type]
            for name in ("tuned", "system")
        }
        nvml.close()
        suite = Suite(
            name="injected",
            cases=(make_case(),) * 20,
            measure=MeasureSettings(num_threads=1, ceiling_seconds=1.5 * max_seconds),
            order_seed=0,
        )
        self.ceilings = ask_ceilings(server, suite, "cpu")

    def close(self) -> None:
        self._closing.close()

    def find(self, injected: Injected) -> Found:
        """The verdict; where somebody else disturbed it, that of another try."""
        for _ in range(TRIES):
            found = self._find_once(injected)
            if not found.is_disturbed(injected) or found.is_right(injected):
                break
        return found

    def _find_once(self, injected: Injected) -> Found:
        case, settings = make_case(injected.case), self._settings(injected)
        with burning(injected.burners):
            limit = None
            if injected.memory_above_need is not None:
                limit = round(self._need_bytes(case, settings) * injected.memory_above_need)
            attempt = self.attempt(case, settings, limit)
        result = CaseResult(
            case=case, outcome=attempt.outcome, reason=attempt.reason, attempts=(attempt,), summary=None
        )
        environment = self._environments[settings.host_allocator]
        gathered = gather(result)
        others = others_pct(gathered) if gathered else None
        return Found(diagnose_case(result, environment, self.ceilings, None), others or 0.0)

    def attempt(self, case: Case, settings: MeasureSettings, limit_bytes: int | None = None) -> AttemptResult:
        """One attempt with all passes; ``limit_bytes`` is its RLIMIT_DATA."""
        task = WorkerTask(
            case=case,
            measure=settings,
            attempt=0,
            device="cpu",
            extra_passes=True,
            run_dir=str(self.folder),
            attempt_dir=tempfile.mktemp(dir=self.folder),
            import_dirs=(str(self.folder),),
            data_root=str(self.folder),
        )
        variables = self._placement.rank_variables(case, settings)
        server = self._server(settings.host_allocator)
        with limited(server, limit_bytes):
            *_, attempt = watch_attempt(server, task, None, variables)
        assert isinstance(attempt, AttemptResult)
        return attempt

    def _settings(self, injected: Injected) -> MeasureSettings:
        quick = {
            "max_seconds": self._max_seconds,
            "num_phase_steps": 1,
            "num_trajectory_steps": 0,
            "num_threads": 1,
        }
        return MeasureSettings(
            **({"min_warmup_steps": 1, "min_measured_steps": 2} | quick | injected.settings)
        )

    def _need_bytes(self, case: Case, settings: MeasureSettings) -> int:
        """What the case's worker has for data without a limit that could hold it back."""
        if case.case_id not in self._needs:
            far = 1 << 42
            attempt = self.attempt(case, settings, far)
            memory = attempt.ranks[0].memory
            assert memory is not None
            assert memory.tightest_limit == "RLIMIT_DATA"
            assert memory.tightest_limit_used_pct is not None
            self._needs[case.case_id] = round(memory.tightest_limit_used_pct / 100 * far)
        return self._needs[case.case_id]

    def _server(self, allocator: str) -> WorkerServer:
        if allocator not in self._servers:
            settings = MeasureSettings(host_allocator=allocator)  # type: ignore[arg-type]
            server = WorkerServer(worker_variables(settings, 1, None))
            self._servers[allocator] = self._closing.enter_context(server)
        return self._servers[allocator]


@contextlib.contextmanager
def limited(server: WorkerServer, limit_bytes: int | None) -> Iterator[None]:
    """While it lasts, workers that ``server`` forks get no more memory for data."""
    if limit_bytes is None:
        yield
        return
    pid = server._process.pid
    before = resource.prlimit(pid, resource.RLIMIT_DATA)
    resource.prlimit(pid, resource.RLIMIT_DATA, (limit_bytes, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_DATA, before)


@contextlib.contextmanager
def burning(num_processes: int) -> Iterator[None]:
    """While it lasts, so many processes keep a processor busy each."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_burn, daemon=True) for _ in range(num_processes)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def _burn() -> None:
    while os.getppid() > 1:
        sum(range(100_000))


def row_of(injected: Injected, found: Found) -> str:
    """A row of the table, with what was expected where that is something else."""
    told = found.diagnosis
    figures = "; ".join(evidence_text(one) for one in told.evidence[:3])
    mark = "" if found.is_right(injected) else f" (expected {' or '.join(injected.right)})"
    named = ", neighbours named" if any("used by others" in one.what for one in told.evidence) else ""
    return f"| {injected.what} | {told.bottleneck} ({told.sureness}){named}{mark} | {figures} |"


def main() -> None:
    """Print the table as Markdown; with ``--all`` the long ones too."""
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder))
        print("| injected | verdict | the figures |\n| --- | --- | --- |")
        for injected in (one for one in TABLE.values() if not one.slow or "--all" in sys.argv):
            began = time.monotonic()
            found = rig.find(injected)
            print(row_of(injected, found), flush=True)
            print(f"{injected.what}: {time.monotonic() - began:.1f} s", file=sys.stderr)
        rig.close()


if __name__ == "__main__":
    main()
