"""Real runs in small: suites that take a second, the command line in a child process, and who is alive."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import psutil

from benchbox.report.files import read_report
from benchbox.schema import AttemptResult, JournalLine, Report
from tests import user_models

BENCHBOX = str(Path(sys.executable).with_name("benchbox"))
MARK = "BENCHBOX_TEST_MARK"

TINY = """
[workload]
model = "mlp"
sizes = [16, 8, 4]
[axes]
per_device_batch_size = [4, 8]
"""
ONE_CASE = '[workload]\nmodel = "mlp"\nsizes = [16, 8, 4]\n'
MEASURE = {
    "ceiling_seconds": 0,
    "repetitions": 1,
    "max_seconds": 0.3,
    "telemetry_hz": 0,
    "num_threads": 1,
    "num_phase_steps": 1,
    "num_trajectory_steps": 1,
}


def write_suite(folder: Path, text: str = TINY, name: str = "tiny", **measure: Any) -> Path:
    """A suite file with ``text`` and a short ``[measure]`` table."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{key} = {json.dumps(value)}" for key, value in (MEASURE | measure).items()]
    path = folder / f"{name}.toml"
    path.write_text("\n".join([text, "[measure]", *lines, ""]))
    return path


def user_model_suite(*factories: str) -> str:
    """The text of a suite with one case a factory of ``tests/user_models.py``."""
    first, *others = factories
    return "[workload]\n" + "\n[[include]]\n".join(_user_model(name) for name in (first, *others))


def copy_user_models(folder: Path) -> None:
    """Put ``tests/user_models.py`` where a suite in ``folder`` can name it ``zoo.models``."""
    package = folder / "zoo"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    shutil.copy(user_models.__file__, package / "models.py")


def environment(**variables: str) -> dict[str, str]:
    """This process's variables and ``variables``; nothing changes how output looks, and no GPU is seen.

    Nor does it look as if the call came from a worker of pytest-xdist, or from a process that has compiled a
    model: torch then names its caches in this process's variables.
    """
    hidden = ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "COLUMNS", "LINES")
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in hidden and not name.startswith(("PYTEST_", "TORCHINDUCTOR_", "TRITON_"))
    }
    return kept | {"CUDA_VISIBLE_DEVICES": ""} | variables


def benchbox(*arguments: str | Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    return subprocess.run(
        [BENCHBOX, *map(str, arguments)],
        cwd=cwd,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def heed_interrupts() -> None:
    """Have Ctrl-C reach what is started from here on, also where a shell's background job ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def start_benchbox(*arguments: str | Path, cwd: Path, **variables: str) -> subprocess.Popen[str]:
    """Start the command line and go on. Ctrl-C reaches it."""
    heed_interrupts()
    return subprocess.Popen(
        [BENCHBOX, *map(str, arguments)],
        cwd=cwd,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def importing(*arguments: str | Path, cwd: Path) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """Run the entry point; how it ended, and all modules that the process itself imported."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", BENCHBOX, *map(str, arguments)],
        cwd=cwd,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    lines = done.stderr.splitlines()
    modules = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    done.stderr = "\n".join(line for line in lines if not line.startswith("import time:"))
    return done, modules


class FinishedRun:
    """A finished run of the tiny suite, telemetry on, and what its controller imported. Not to be changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.suite = write_suite(folder, repetitions=2, telemetry_hz=10)
        self.out = folder / "out"
        self.done, self.imported = importing("run", self.suite, "--out", self.out, cwd=folder)
        self.report_path = self.out / "report.json"

    @property
    def report(self) -> Report:
        return read_report(self.report_path)


def journal_attempts(folder: Path) -> list[AttemptResult]:
    """The attempts whose lines stand whole in the journal of ``folder``."""
    path = folder / "journal.jsonl"
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    decoded = [msgspec.json.decode(line, type=JournalLine) for line in lines]
    return [line.attempt for line in decoded if line.attempt is not None]


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and was not waited for does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def marked_processes(mark: str) -> list[int]:
    """All processes that were started, however indirectly, with ``MARK`` set to ``mark``."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def wait_until(condition: Callable[[], object], timeout_s: float = 300.0) -> bool:
    """Whether ``condition`` came true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def all_end(pids: Iterable[int], timeout_s: float = 20.0) -> bool:
    """Whether all of ``pids`` end in time."""
    kept = tuple(pids)
    return wait_until(lambda: not any(map(is_alive, kept)), timeout_s)


def _user_model(name: str) -> str:
    return (
        f'model = "zoo.models:{name}"\n'
        f"input_shape = [{user_models.NUM_INPUTS}]\nnum_classes = {user_models.NUM_CLASSES}\n"
    )
