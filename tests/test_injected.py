"""Verdicts on causes that were put there on purpose: real runs on this machine's CPU.

By default each is run once and shortly, beside whatever else the machine does: no verdict may be wrong while
it is sure, and what holds most of a step is asserted outright. How many of all are right is for a quiet
machine.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from benchbox.report.files import read_report
from benchbox.schema import Bottleneck, CaseResult, Diagnosis
from tests.injected import SHORT_S, TABLE, Found, Rig, row_of
from tests.nvml_stand_in import StandIn
from tests.runs import BENCHBOX, environment, wait_until, write_suite

pytestmark = pytest.mark.timeout(900)

QUICK = [name for name, injected in TABLE.items() if not injected.slow]
SHORT = [name for name in QUICK if not TABLE[name].large]
RIGHT_OF_20 = 19


class Results:
    """Each line of the table is run once, when it is first asked for."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._found: dict[str, Found] = {}

    def of(self, name: str) -> Found:
        if name not in self._found:
            self._found[name] = self._rig.find(TABLE[name])
        return self._found[name]


@pytest.fixture(scope="module")
def short_results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Results]:
    rig = Rig(tmp_path_factory.mktemp("short"), SHORT_S)
    yield Results(rig)
    rig.close()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Results]:
    rig = Rig(tmp_path_factory.mktemp("injected"))
    yield Results(rig)
    rig.close()


def show(found: Found) -> str:
    return f"{found.diagnosis}; others {found.others_pct:.0f} %"


def never_sure_and_wrong(results: Results, name: str) -> None:
    found, injected = results.of(name), TABLE[name]
    assert found.is_right(injected) or found.diagnosis.sureness != "sure", show(found)
    if injected.burners:
        assert found.diagnosis.sureness != "sure", show(found)
        assert any("others" in evidence.what for evidence in found.diagnosis.evidence), show(found)


def nearly_all_right(results: Results, names: list[str]) -> None:
    """At least 19 of 20. What somebody else disturbed on each of several tries shows nothing either way."""
    told = {name: results.of(name) for name in names}
    wrong = {n: show(found) for n, found in told.items() if not found.is_right(TABLE[n])}
    disturbed = [name for name in wrong if told[name].is_disturbed(TABLE[name])]
    decided = len(told) - len(disturbed)
    assert (decided - len(wrong) + len(disturbed)) * 20 >= decided * RIGHT_OF_20, wrong
    if len(disturbed) * 20 > len(told):
        pytest.skip(f"others were busy on this machine, so these show nothing: {', '.join(disturbed)}")


def test_the_table_is_long_enough_for_nineteen_of_twenty() -> None:
    assert len(QUICK) >= 20
    causes = {bottleneck for injected in TABLE.values() for bottleneck in injected.right}
    no_driver_no_mixture = set(get_args(Bottleneck)) - {"power-or-thermal", "mixed"}
    assert causes == no_driver_no_mixture


@pytest.mark.parametrize("name", SHORT)
def test_a_short_run_is_never_wrong_while_it_is_sure(short_results: Results, name: str) -> None:
    never_sure_and_wrong(short_results, name)
    found, injected = short_results.of(name), TABLE[name]
    if injected.plain and not found.is_disturbed(injected):  # ``unknown`` is right under somebody else's work
        assert found.is_right(injected), show(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_no_verdict_is_wrong_while_it_is_sure(results: Results, name: str) -> None:
    never_sure_and_wrong(results, name)


@pytest.mark.slow
def test_nearly_all_verdicts_are_right(results: Results) -> None:
    nearly_all_right(results, QUICK)


@pytest.mark.slow
def test_the_long_ones_are_right_too(results: Results) -> None:
    """Among them the reference model at batch 4 and 64, between which the verdict flips."""
    for name in TABLE:
        never_sure_and_wrong(results, name)
        print(row_of(TABLE[name], results.of(name)))
    nearly_all_right(results, list(TABLE))
    for size, right in ((1, ("optimizer",)), (4, ("optimizer",)), (64, ("compute", "memory-bandwidth"))):
        found = results.of(f"reference {size}")
        assert found.diagnosis.bottleneck in right, show(found)


GROUPED = '[workload]\nmodel = "mlp"\nsizes = [2048, 4096, 1000]\n[axes]\nper_device_batch_size = [64]\n'


@pytest.mark.slow
def test_a_control_group_that_is_too_small_is_memory_capacity(tmp_path: Path) -> None:
    """A group of its own around the whole run, with a limit near to what its worker needs, and below it."""
    suite = write_suite(tmp_path, GROUPED, num_trajectory_steps=0)
    free = run_in_group(suite, None)
    assert free.diagnosis is not None
    assert free.diagnosis.bottleneck != "memory-capacity", free.diagnosis
    (need,) = [rank.memory.peak_host_rss_bytes for rank in free.attempts[0].ranks if rank.memory]
    assert need is not None
    for share, outcome in ((1.05, "ok"), (0.8, "oom")):
        held = run_in_group(suite, round(share * need))
        assert held.outcome == outcome, held.reason
        assert held.diagnosis is not None
        assert held.diagnosis.bottleneck == "memory-capacity", held.diagnosis


def run_in_group(suite: Path, limit_bytes: int | None) -> CaseResult:
    """The suite's one case, run with at most so much memory for all of its processes."""
    out = suite.parent / f"{limit_bytes}"
    command: list[str] = [BENCHBOX, "run", str(suite), "--out", str(out), "--quiet", "--device", "cpu"]
    with memory_group(limit_bytes) as members:
        entered = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(members), *command]
        done = subprocess.run(entered, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    (case,) = read_report(out / "report.json").cases
    return case


@contextlib.contextmanager
def memory_group(limit_bytes: int | None) -> Iterator[Path]:
    """The file to which a process writes its id to be held to the limit."""
    first = Path("/sys/fs/cgroup/memory")
    group = (first if first.is_dir() else Path("/sys/fs/cgroup")) / f"benchbox-test-{os.getpid()}"
    name, no_limit = ("memory.limit_in_bytes", "-1") if first.is_dir() else ("memory.max", "max")
    try:
        group.mkdir()
    except OSError as problem:
        pytest.skip(f"no control group can be made here: {problem}")
    try:
        if not (group / name).exists():
            pytest.skip("control groups of this machine hold no memory")
        (group / name).write_text(no_limit if limit_bytes is None else str(limit_bytes))
        yield group / "cgroup.procs"
    finally:
        wait_until(lambda: not (group / "cgroup.procs").read_text().split())
        group.rmdir()


UUID = "5f0c9c1e-0000-4000-8000-00000000aaaa"
TELEMETRY = {
    "quiet": (),
    "heat": ("0.reasons 64", "0.clock_sm 1200", "0.temperature 91"),
    "power": ("0.reasons 4", "0.clock_sm 1500", "0.power_mw 699000"),
    "at its limit, as fast as ever": ("0.reasons 4", "0.clock_sm 1975", "0.power_mw 699000"),
    "a foreign process": ("0.processes WORKER,424242",),
    "gaps between kernels": ("0.utilization_gpu 30",),
    "full memory": ("0.memory_used 84000000000",),
}
WATCHED = """
import msgspec
from msgspec.structs import replace
from benchbox.measure.runner import Started, SuiteRun
from benchbox.measure.sampler import Sampler
from benchbox.plan.suite import load_suite
from benchbox.report.from_run import report_of_run
from benchbox.schema import DeviceFacts
suite, telemetry = Path(os.environ["SUITE"]), json.loads(os.environ["TELEMETRY"])

class Watching(Sampler):
    def start(self, pid):
        set_driver(*(line.replace("WORKER", str(pid)) for line in driver))
        super().start(pid)

found = {}
for number, (name, lines) in enumerate(telemetry.items()):
    driver = ("device_count 1", "0.uuid GPU-" + os.environ["UUID"], "0.utilization_gpu 97", *lines)
    set_driver(*driver)
    with SuiteRun(load_suite(suite), suite.parent, suite.parent / str(number), device="cpu",
                  resume=False, force=False) as run:
        nvml = run._site.nvml
        run._site.sampler = lambda case: Watching(50, [os.environ["UUID"]], nvml)  # as if it trained there
        for _ in run.events():
            pass
        facts = DeviceFacts(index=0, name="a GPU", uuid=os.environ["UUID"], max_clock_sm_mhz=1980.0,
                            memory_total_bytes=80 << 30, power_limit_w=700.0)
        run.environment = replace(run.environment, device="cuda", devices=(facts,))
        (case,) = report_of_run(run).cases
        found[name] = msgspec.to_builtins(case.diagnosis)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def watched(nvml_library: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Diagnosis]:
    """Verdicts on a real case under what a driver tells: the binding is real, the driver a stand-in."""
    import json

    import msgspec

    folder = tmp_path_factory.mktemp("watched")
    driver = StandIn(nvml_library, folder / "nvml.txt")
    text = '[workload]\nmodel = "mlp"\nsizes = [1024, 2048, 10]\n[axes]\nper_device_batch_size = [256]\n'
    # Other processes are asked for once a second: each run is to be measured for longer than that.
    steps = {"ci_target_pct": 1e-9, "min_measured_steps": 120}
    suite = write_suite(folder, text, telemetry_hz=50, max_seconds=2, num_trajectory_steps=0, **steps)
    told = driver.run(WATCHED, 800, SUITE=str(suite), TELEMETRY=json.dumps(TELEMETRY), UUID=UUID)
    return {name: msgspec.convert(diagnosis, Diagnosis) for name, diagnosis in told.items()}


@pytest.mark.parametrize(
    ("name", "bottleneck"),
    [
        ("quiet", "compute"),
        ("heat", "power-or-thermal"),
        ("power", "power-or-thermal"),
        ("at its limit, as fast as ever", "compute"),
        ("gaps between kernels", "host-launch"),
        ("full memory", "memory-capacity"),
    ],
)
def test_what_a_driver_tells_leads_to_the_verdict(
    watched: dict[str, Diagnosis], name: str, bottleneck: str
) -> None:
    assert watched[name].bottleneck == bottleneck, watched[name]


def test_a_foreign_process_leaves_nothing_sure_and_is_named(watched: dict[str, Diagnosis]) -> None:
    found = watched["a foreign process"]
    assert found.sureness == "unsure"
    assert any(evidence.what == "other processes on the device" for evidence in found.evidence)
    assert "another process was on the device" in str(found.next_step)
