"""Cases of several processes, seen from outside: how one rank's end becomes the case's, and what is left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest
from msgspec.structs import replace

from benchbox.measure import attempt
from benchbox.measure.attempt import watch_attempt
from benchbox.measure.launch import WorkerServer, worker_variables
from benchbox.measure.placement import Placement, default_num_threads
from benchbox.measure.runner import SuiteRun
from benchbox.plan.suite import load_suite
from benchbox.schema import AttemptResult, MeasureSettings, Outcome, WorkerTask
from tests.factories import make_case, make_environment
from tests.nvml_stand_in import StandIn
from tests.runs import (
    MARK,
    all_end,
    copy_user_models,
    environment,
    is_alive,
    journal_attempts,
    marked_processes,
    wait_until,
    write_suite,
)
from tests.user_models import NUM_CLASSES, NUM_INPUTS

pytestmark = pytest.mark.timeout(400)

EXPECTED: dict[str, tuple[Outcome, str, str | None]] = {
    # factory: outcome, what the reason says, what the end of that rank's stderr says
    "good": ("ok", "", None),
    "rank_1_raises": ("crashed", "rank 1: ArithmeticError: of rank 1", "in trouble"),
    "rank_1_has_no_memory": ("oom", "rank 1: MemoryError", "in trouble"),
    "rank_1_gives_nan": ("invalid", "the loss is not finite", None),
    "rank_1_segfaults": ("crashed", "rank 1 was ended by SIGSEGV", "Segmentation fault"),
    "rank_1_ends_without_a_word": ("crashed", "rank 1 left no result; its exit status was 7", None),
}
TWO_RANKS = 'strategy = "ddp"\nworld_size = 2\n'


def suite_of(*factories: str) -> str:
    shape = f"input_shape = [{NUM_INPUTS}]\nnum_classes = {NUM_CLASSES}\n"
    first, *others = factories
    text = f'[workload]\nmodel = "zoo.models:{first}"\n{shape}[axes]\nstrategy = ["ddp"]\nworld_size = [2]\n'
    return text + "".join(f'[[include]]\nmodel = "zoo.models:{name}"\n{shape}{TWO_RANKS}' for name in others)


class Course:
    """How each attempt ended, and which of its processes were alive then."""

    def __init__(self, folder: Path, factories: tuple[str, ...], **measure: float) -> None:
        self.attempts: dict[str, AttemptResult] = {}
        self.num_noted: dict[str, int] = {}
        self.alive: dict[str, list[int]] = {}
        notes = folder / "notes"
        notes.mkdir(parents=True)
        copy_user_models(folder)
        suite = load_suite(write_suite(folder, suite_of(*factories), **measure))
        factory = {case.case_id: case.model.partition(":")[2] for case in suite.cases}
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("BENCHBOX_TEST_NOTES", str(notes))
            with SuiteRun(suite, folder, folder / "out", device="cpu", resume=False, force=False) as run:
                for event in run.events():
                    if isinstance(event, AttemptResult):
                        name = factory[event.case_id]
                        noted = [int(pid) for note in notes.iterdir() for pid in note.read_text().split()]
                        self.attempts[name] = event
                        self.alive[name] = [pid for pid in noted if is_alive(pid)]
                        self.num_noted[name] = len(noted)
                        for note in notes.iterdir():
                            note.unlink()
        assert journal_attempts(folder / "out") == run.attempts


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Course:
    with pytest.MonkeyPatch.context() as patch:  # the launcher has time to tell
        patch.setattr(attempt, "OTHERS_END_WITHIN_S", 60.0)
        return Course(tmp_path_factory.mktemp("ranks"), tuple(EXPECTED), num_trajectory_steps=0)


@pytest.mark.parametrize("name", EXPECTED)
def test_one_ranks_trouble_ends_the_case_with_its_own_outcome(course: Course, name: str) -> None:
    outcome, reason, stderr = EXPECTED[name]
    result = course.attempts[name]
    assert result.outcome == outcome, result.reason
    assert reason in (result.reason or "")
    if stderr is not None:
        assert stderr in (result.stderr_tail or "")


@pytest.mark.parametrize("name", EXPECTED)
def test_nothing_of_an_attempt_is_alive_when_it_is_said_to_have_ended(course: Course, name: str) -> None:
    """Neither a rank nor what it started."""
    assert course.num_noted[name] >= 4
    assert course.alive[name] == []


def test_ranks_that_are_well_are_all_in_the_result(course: Course) -> None:
    result = course.attempts["good"]
    assert [rank.rank for rank in result.ranks] == [0, 1]
    assert [rank.local_rank for rank in result.ranks] == [0, 1]
    assert all(rank.outcome == "ok" and rank.step_time_ns for rank in result.ranks)
    assert len({len(rank.step_time_ns) for rank in result.ranks}) == 1
    assert result.overhead_s is not None
    assert 0 < result.overhead_s < result.duration_s


def test_a_rank_that_hangs_is_a_timeout_and_is_gone(tmp_path: Path) -> None:
    course = Course(tmp_path, ("rank_1_hangs",), timeout_s=5)
    result = course.attempts["rank_1_hangs"]
    assert (result.outcome, result.reason) == ("timeout", "still running after 5 s")
    assert course.alive["rank_1_hangs"] == []


def test_ranks_that_heed_nothing_are_killed_once_one_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int | None] = []
    kill = WorkerServer.kill_worker

    def note(server: WorkerServer) -> None:
        killed.append(server._worker)
        kill(server)

    monkeypatch.setattr(WorkerServer, "kill_worker", note)
    monkeypatch.setattr(attempt, "OTHERS_END_WITHIN_S", 0.5)
    course = Course(tmp_path, ("rank_1_raises_and_rank_0_heeds_nothing",))
    result = course.attempts["rank_1_raises_and_rank_0_heeds_nothing"]
    assert (result.outcome, result.reason) == ("crashed", "rank 1: ArithmeticError: of rank 1")
    assert course.alive["rank_1_raises_and_rank_0_heeds_nothing"] == []
    assert [worker is not None for worker in killed[:2]] == [True, False]  # while it ran, and once more after


# --- killed from outside -----------------------------------------------------------------------------------

LONG = make_case(
    model="mlp",
    strategy="ddp",
    world_size=2,
    per_device_batch_size=4,
    input_shape=(16,),
    num_classes=4,
    hidden_size=8,
    learning_rate=1e-3,
)
PLACEMENT = Placement((), make_environment().software, 2)
VARIABLES = PLACEMENT.rank_variables(LONG, MeasureSettings())


def long_task(folder: Path) -> WorkerTask:
    return WorkerTask(
        case=LONG,
        measure=MeasureSettings(max_seconds=600, max_measured_steps=100_000, ci_target_pct=1e-9),
        attempt=0,
        device="cpu",
        extra_passes=False,
        run_dir=str(folder),
        attempt_dir=str(folder / "attempt"),
        import_dirs=(str(folder),),
        data_root=str(folder),
    )


def end_while_training(task: WorkerTask, server: WorkerServer, victim: str) -> AttemptResult:
    """Run the task, and kill torchrun's agent or one of its ranks once rank 0 trains."""
    is_killed = False
    for event in watch_attempt(server, task, None, VARIABLES):
        if isinstance(event, AttemptResult):
            return event
        if event.phase is not None and not is_killed:
            assert server._worker is not None
            agent = psutil.Process(server._worker)
            (agent if victim == "agent" else agent.children()[0]).kill()
            is_killed = True
    raise AssertionError("no result")


@pytest.fixture(scope="module")
def marked_server() -> Iterator[tuple[WorkerServer, str]]:
    mark = uuid.uuid4().hex
    with WorkerServer(worker_variables(MeasureSettings(), 1, None) | {MARK: mark}) as server:
        yield server, mark


@pytest.mark.parametrize(("victim", "who"), [("agent", "the ranks' launcher"), ("rank", "rank [01]")])
def test_a_killed_process_ends_the_attempt_and_leaves_nothing(
    marked_server: tuple[WorkerServer, str], tmp_path: Path, victim: str, who: str
) -> None:
    server, mark = marked_server
    result = end_while_training(long_task(tmp_path), server, victim)
    assert marked_processes(mark) == [server._process.pid]
    assert result.outcome == "crashed"
    assert re.fullmatch(f"{who} was ended by SIGKILL", result.reason or "")


AGENT = """
import json, os, sys, torch
from pathlib import Path
from benchbox.worker.torchrun import launch_ranks

task, note, variables = sys.argv[1:]  # ranks have arguments of their own

def ask():
    with open(note, "a") as asked:
        asked.write(f"{os.getpid()}\\n")
    return False

torch.cuda.is_available = ask
print(os.getpid(), flush=True)
launch_ranks(Path(task), 2, json.loads(variables))
"""


def test_the_agent_starts_no_driver_and_the_ranks_may(tmp_path: Path) -> None:
    """CUDA does not work in the fork of a process that has asked torch whether there is a GPU."""
    copy_user_models(tmp_path)
    case = replace(
        LONG,
        model="zoo.models:asks_for_a_gpu",
        input_shape=(NUM_INPUTS,),
        num_classes=NUM_CLASSES,
        hidden_size=None,
    )
    task = replace(
        long_task(tmp_path), case=case, measure=MeasureSettings(max_seconds=0.2, num_trajectory_steps=0)
    )
    Path(task.attempt_dir).mkdir()
    (tmp_path / "task.json").write_bytes(msgspec.json.encode(task))
    asked = tmp_path / "asked"
    variables = msgspec.json.encode(VARIABLES).decode()
    done = subprocess.run(
        [sys.executable, "-c", AGENT, str(tmp_path / "task.json"), str(asked), variables],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    pids = set(asked.read_text().split())
    assert len(pids) == 2
    assert done.stdout.split()[0] not in pids


CONTROLLER = """
import json, sys, msgspec
from benchbox.measure.launch import WorkerServer, start_attempt
from benchbox.schema import WorkerTask
task = msgspec.json.decode(open(sys.argv[1]).read(), type=WorkerTask)
with WorkerServer({}) as server:
    start_attempt(server, task, json.loads(sys.argv[2]))
    print("started", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A controller in a process of its own with two ranks that train for minutes, and the mark of all."""
    mark = uuid.uuid4().hex
    task = long_task(tmp_path)
    (tmp_path / "task.json").write_bytes(msgspec.json.encode(task))
    variables = msgspec.json.encode(VARIABLES).decode()
    process = subprocess.Popen(
        [sys.executable, "-c", CONTROLLER, str(tmp_path / "task.json"), variables],
        env=environment(**{MARK: mark}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert wait_until(Path(task.attempt_dir, "progress.json").exists, 120)
    assert len(marked_processes(mark)) >= 5  # the controller, the server, torchrun's agent, two ranks
    yield process, mark
    process.kill()
    process.communicate()


def test_a_killed_controller_leaves_no_rank_behind(controller: tuple[subprocess.Popen[str], str]) -> None:
    process, mark = controller
    pids = marked_processes(mark)
    os.kill(process.pid, signal.SIGKILL)
    assert all_end(pids)
    assert marked_processes(mark) == []


# --- watched -----------------------------------------------------------------------------------------------

WATCHED = """
from benchbox.measure.runner import SuiteRun
from benchbox.measure.sampler import Sampler
from benchbox.plan.suite import load_suite
import msgspec
suite = Path(os.environ["SUITE"])
out = suite.parent / "out"
with SuiteRun(load_suite(suite), suite.parent, out, device="cpu", resume=False, force=False) as run:
    run._site.sampler = lambda case: Sampler(50, ["GPU-0", "GPU-1"], run._site.nvml)  # as if it trained there
    list(run.events())
    print(msgspec.json.encode(run.attempts).decode())
"""


def test_all_devices_and_all_ranks_are_watched_within_the_windows(
    nvml_stand_in: StandIn, tmp_path: Path
) -> None:
    nvml_stand_in.set("device_count 2", "0.uuid GPU-0", "1.uuid GPU-1", "1.power_mw 90000")
    suite = tmp_path / "two.toml"
    suite.write_text(
        '[workload]\nmodel = "mlp"\nsizes = [16, 8, 4]\n[axes]\nstrategy = ["ddp"]\nworld_size = [2]\n'
        "[measure]\nrepetitions = 1\nmax_seconds = 2\nci_target_pct = 1e-9\nmin_measured_steps = 1000\n"
        "num_trajectory_steps = 0\n"
    )
    (plain,) = nvml_stand_in.run(WATCHED, SUITE=str(suite))
    result = msgspec.convert(plain, AttemptResult)
    assert result.outcome == "ok", result.reason
    assert [device.uuid for device in result.devices] == ["GPU-0", "GPU-1"]
    windows = result.ranks[0].windows
    for device in result.devices:
        assert len(device.sample_at_ns) > 10
        assert all(any(w.start_at_ns <= t <= w.end_at_ns for w in windows) for t in device.sample_at_ns)
    assert result.host is not None
    rss = [value for value in result.host.worker_rss_bytes or () if value is not None]
    peaks = [rank.memory.peak_host_rss_bytes or 0 for rank in result.ranks if rank.memory is not None]
    assert max(rss) > 0.8 * sum(peaks)  # of both, and of torchrun's agent
    assert {rank.num_threads for rank in result.ranks} == {max(1, default_num_threads() // 2)}
