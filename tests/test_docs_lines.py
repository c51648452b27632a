"""The `benchbox` and `pytest` lines of the documents' shell blocks run as they stand, one after another.

Names in them such as ``report.json`` or ``../main`` are the reader's own; such files lie ready here.
The suites' names lead to small suites: a file goes before a shipped suite. What takes long for
its kind, however small the suite, or is one more run of a kind, is run by ``make slow``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchbox.report.files import read_report, write_report
from tests.report.test_comparison_formats import slowed
from tests.runs import BENCHBOX, benchbox, environment, write_suite
from tests.tables import synthetic_rows, write_table
from tests.test_docs import COMMITTED, DOCUMENTS, ROOT, blocks

ELSEWHERE = {
    "10.0.0.1": "a second machine; the document has a second form of these lines, for one machine",
    '"$': "the script around it, which tests/test_ci_recipe.py runs",
    "--install-completion": "a shell that it can recognize, below",
}
"""What marks a line that needs more than files."""
LONG = (
    "--versus",
    "max-batch",
    "--try",
    "hw init",
    "pytest ",
    "run reference",
    "run zero-reference",
    "run scaling",
)
TIMEOUT_S = 600
ENDINGS = {
    # The reader's own limit on a time: it may well fail here.
    "--benchmark-compare-fail": ((0, 1), " passed"),
    # Shown for what it says.
    "--target h100-sxm5-80gb": ((2,), "nothing can be foretold: no GPU with a hardware profile was measured"),
}
"""Exit codes other than 0, and what is printed then."""
SUITE_NAMES = (
    "quick",
    "reference",
    "zero",
    "zero-reference",
    "scaling",
    "suites/quick.toml",
    "suites/ci.toml",
)
ONE = '[workload]\nmodel = "small-cnn"\n[axes]\nper_device_batch_size = [64]\n'
TWO = ONE.replace("[64]", "[32, 64]")  # of which a curve can be drawn
TWO_RANKS = '[workload]\nmodel = "mlp"\nsizes = [16, 8, 4]\n[axes]\nstrategy = ["ddp"]\nworld_size = [2]\n'
OWN = """
[workload]
model = "own_net:net"
input_shape = [64]
num_classes = 10
"""
OWN_NET = """
import os
import time
from torch import nn

class Net(nn.Sequential):
    def forward(self, x):
        if len(x) > 64:
            raise MemoryError
        time.sleep(float(os.environ.get("SLEEP_S", "{sleep_s}")))
        return super().forward(x)

def net():
    return Net(nn.Flatten(), nn.Linear(64, 10))
"""


def lines_of(path: Path) -> list[str]:
    """Those that can be run, a continued one joined, without the remark at its end."""
    text = "\n".join(block.text for block in blocks(path) if block.language == "sh")
    joined = text.replace("\\\n", "").splitlines()
    found = [line.partition(" #")[0].strip() for line in joined if line.startswith(("benchbox ", "pytest "))]
    return [line for line in found if not any(mark in line for mark in ELSEWHERE)]


def new_lines_of(path: Path) -> list[str]:
    """Those that no document before has: what is the same is run once."""
    before = {line for other in DOCUMENTS[: DOCUMENTS.index(path)] for line in lines_of(other)}
    return [line for line in lines_of(path) if line not in before]


def is_long(line: str) -> bool:
    return any(mark in line for mark in LONG)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``measured.json``, the report of the small suite, measured on this machine just now,
    ``slower.json``, the same with steps a thousand times as long, and ``plan.json``."""
    folder = tmp_path_factory.mktemp("made")
    suite = write_suite(folder, TWO, "quick")
    done = benchbox("run", suite, "--device", "cpu", "--quiet", "--out", folder / "out", cwd=folder)
    assert done.returncode == 0, done.stderr
    measured = (folder / "out/report.json").rename(folder / "measured.json")
    write_report(slowed(read_report(measured), 1000.0), folder / "slower.json")
    job = ("--model", "reference-cnn", "--samples", "1000000")
    planned = benchbox("plan", ROOT / COMMITTED, *job, "--format", "json", cwd=folder)
    assert planned.returncode == 0, planned.stderr
    (folder / "plan.json").write_text(planned.stdout)
    return folder


def prepare(folder: Path, document: Path, made: Path) -> None:
    """The files that the documents' lines name."""
    for name in ("reports", "hw_profiles", "docs"):
        (folder / name).symlink_to(ROOT / name)
    for name in SUITE_NAMES:
        suite = write_suite(folder, {"zero": TWO_RANKS, "quick": TWO}.get(name, ONE))
        (folder / name).parent.mkdir(exist_ok=True)
        suite.rename(folder / name)
    shipped, measured, slower = ROOT / COMMITTED, made / "measured.json", made / "slower.json"
    places = {
        "report.json": measured if document.stem == "diagnose" else shipped,
        "monday.json": shipped,
        "tuesday.json": shipped,
        **{f"runs/{day}/report.json": shipped for day in range(4)},
        **{f"{name}.json": measured for name in ("old", "new", "a", "b", "fp32", "bf16")},
        "new/report.json": measured,
        "bench-out/quick/report.json": measured,
        "base.json": slower,  # so that no noise makes it worse
        "base/report.json": slower,
        "plan.json": made / "plan.json",
        "prices.toml": ROOT / "docs/examples/prices.toml",
    }
    for name, source in places.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, folder / name)
    write_table(folder / "rates.csv", synthetic_rows())


def run(line: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """In a shell, where the programs are those of this very environment; nothing of it outlives its time."""
    path = f"{Path(BENCHBOX).parent}{os.pathsep}{os.environ['PATH']}"
    with subprocess.Popen(
        ["sh", "-c", line],
        cwd=folder,
        env=environment(PATH=path, XDG_CONFIG_HOME=str(folder), **variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            printed, errors = process.communicate(timeout=TIMEOUT_S)
        finally:
            with contextlib.suppress(ProcessLookupError):  # nothing was left
                os.killpg(process.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(line, process.returncode, printed, errors)


def run_all(lines: list[str], folder: Path) -> None:
    """One after the other; those of two nodes together."""
    nodes = [line for line in lines if "--nnodes" in line]
    if nodes:
        node_0, node_1 = nodes
        together = f"{node_0} & first=$!; {node_1} && wait $first"
        lines = [line for line in lines if line not in nodes] + [together]
    for line in lines:
        (allowed, says), *_ = [*(end for mark, end in ENDINGS.items() if mark in line), ((0,), "")]
        done = run(line, folder)
        assert done.returncode in allowed, f"{line}\n{done.stdout}{done.stderr}"
        assert says in done.stdout + done.stderr, line


@pytest.mark.parametrize("path", [p for p in DOCUMENTS if new_lines_of(p)], ids=lambda path: path.stem)
@pytest.mark.timeout(1800)
def test_lines_run(path: Path, tmp_path: Path, made: Path) -> None:
    prepare(tmp_path, path, made)
    run_all([line for line in new_lines_of(path) if not is_long(line)], tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_long_lines_run(tmp_path: Path, made: Path) -> None:
    """``../main`` and the other interpreter have a slower model, so that five rounds decide."""
    folder, main = tmp_path / "here", tmp_path / "main"
    interpreter = tmp_path / "old-torch/.venv/bin/python"
    for one in (folder, main / "suites", interpreter.parent):
        one.mkdir(parents=True)
    prepare(folder, ROOT / "docs/diagnose.md", made)
    (folder / "here").mkdir()
    shutil.copy(made / "measured.json", folder / "here/report.json")
    for checkout, sleep_s in ((folder, 0.01), (main, 0.03)):
        write_suite(checkout / "suites", OWN, "ci")
        (checkout / "suites/own_net.py").write_text(OWN_NET.format(sleep_s=sleep_s))
    # `max-batch quick` looks for the largest batch, and this model has a small one.
    shutil.copy(folder / "suites/ci.toml", folder / "quick")
    shutil.copy(folder / "suites/own_net.py", folder)
    interpreter.write_text(f'#!/bin/sh\nSLEEP_S=0.03 exec {sys.executable} "$@"\n')
    interpreter.chmod(0o755)
    lines = [line for path in DOCUMENTS for line in new_lines_of(path) if is_long(line)]
    assert len(lines) >= 4
    run_all([line for line in lines if not line.startswith("pytest ")], folder)
    plain = tmp_path / "plain"  # where suites and reports have cases in common
    plain.mkdir()
    prepare(plain, ROOT / "docs/ci.md", made)
    run_all([line for line in lines if line.startswith("pytest ")], plain)


COMPLETION = """
benchbox --install-completion && . "$HOME/.bashrc" || exit
COMP_WORDS=(benchbox diagn) COMP_CWORD=1
_benchbox_completion benchbox && echo "completed: ${COMPREPLY[*]}"
"""


def test_completion_is_installed_and_completes(tmp_path: Path) -> None:
    (tmp_path / "script").write_text(COMPLETION)
    done = run("bash ./script", tmp_path, HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "completed: diagnose" in done.stdout
