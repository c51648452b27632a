"""The worker server: what it starts, how that ends, and that nothing stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from benchbox.errors import WorkerStartError
from benchbox.measure import attempt
from benchbox.measure.attempt import watch_attempt
from benchbox.measure.host import HostWatch
from benchbox.measure.launch import (
    WorkerServer,
    start_attempt,
    stderr_tail,
    tuned_allocator,
    worker_variables,
)
from benchbox.measure.placement import Placement
from benchbox.measure.sampler import Sampler
from benchbox.measure.site import Site
from benchbox.schema import AttemptResult, Case, MeasureSettings, TorchFacts, WorkerTask
from benchbox.worker import server as worker_server
from tests.factories import make_case, make_environment
from tests.runs import MARK, all_end, copy_user_models, environment, is_alive, marked_processes, wait_until

# Its largest activation has 44 MB: above 32 MB glibc never learns to keep what was freed.
SMALL_CNN = make_case(
    model="small-cnn", per_device_batch_size=512, input_shape=(1, 28, 28), num_classes=10, learning_rate=1e-3
)
LONG_LOADER = make_case(
    model="small-cnn",
    data="loader",
    per_device_batch_size=4,
    input_shape=(1, 28, 28),
    num_classes=10,
    learning_rate=1e-3,
    num_loader_workers=2,
)


def task_of(case: Case, folder: Path, import_dir: Path | None = None, **settings: float) -> WorkerTask:
    folder.mkdir(parents=True, exist_ok=True)
    return WorkerTask(
        case=case,
        measure=MeasureSettings(**settings),  # type: ignore[arg-type]
        attempt=0,
        device="cpu",
        extra_passes=False,
        run_dir=str(folder),
        attempt_dir=str(folder / "attempt"),
        import_dirs=(str(import_dir or folder),),
        data_root=str(folder),
    )


def user_case(name: str) -> Case:
    return make_case(model=f"zoo.models:{name}", input_shape=(16,), num_classes=4)


def start_task(server: WorkerServer, task: WorkerTask) -> int:
    return start_attempt(server, task, {})


def finish(server: WorkerServer, task: WorkerTask) -> AttemptResult:
    *_, result = watch_attempt(server, task, None)
    assert isinstance(result, AttemptResult)
    return result


@pytest.fixture(scope="module")
def server() -> Iterator[WorkerServer]:
    with WorkerServer(worker_variables(MeasureSettings(num_threads=1), 1, None)) as server:
        yield server


def test_a_worker_answers_and_ends_with_status_zero(server: WorkerServer, tmp_path: Path) -> None:
    server.start(facts=str(tmp_path / "facts.json"), stderr=str(tmp_path / "stderr.txt"))
    assert server.wait(60) == 0
    facts = msgspec.json.decode((tmp_path / "facts.json").read_bytes(), type=TorchFacts)
    assert facts.python == ".".join(map(str, sys.version_info[:3]))
    assert facts.num_threads == 1


def test_a_worker_flushes_denormals_in_all_its_threads(server: WorkerServer, tmp_path: Path) -> None:
    """One batch for ever leaves denormal numbers in Adam's state, and they are slow."""
    server.start(facts=str(tmp_path / "facts.json"), stderr=str(tmp_path / "stderr.txt"))
    assert server.wait(60) == 0
    facts = msgspec.json.decode((tmp_path / "facts.json").read_bytes(), type=TorchFacts)
    if facts.cpu_flushes_denormals is False:
        pytest.skip("torch cannot flush denormals on this processor")
    copy_user_models(tmp_path)
    task = task_of(user_case("fails_on_denormals"), tmp_path, num_threads=2, max_measured_steps=10)
    result = finish(server, task)
    assert result.outcome == "ok", result.reason


@pytest.mark.parametrize(
    ("factory", "status"),
    [("ends_the_process", 7), ("segfaults", -signal.SIGSEGV), ("calls_sys_exit", 0)],
)
def test_the_way_a_worker_ends_is_told(
    server: WorkerServer, tmp_path: Path, factory: str, status: int
) -> None:
    copy_user_models(tmp_path)
    pid = start_task(server, task_of(user_case(factory), tmp_path))
    assert server.wait(60) == status
    assert not is_alive(pid)


def test_a_worker_leads_a_process_group_of_its_own_and_is_killed_with_it(
    server: WorkerServer, tmp_path: Path
) -> None:
    copy_user_models(tmp_path)
    pid = start_task(server, task_of(user_case("hangs"), tmp_path))
    assert os.getpgid(pid) == pid
    assert server.wait(0.2) is None
    server.kill_worker()
    assert server.wait(20) == -signal.SIGKILL
    server.kill_worker()  # there is none any more, which is no error


def test_the_server_forks_again_after_every_end(server: WorkerServer, tmp_path: Path) -> None:
    pids = set()
    for number in range(3):
        pids.add(server.start(facts=str(tmp_path / f"{number}.json"), stderr=str(tmp_path / "stderr.txt")))
        assert server.wait(60) == 0
    assert len(pids) == 3


def test_the_end_is_told_when_nothing_of_the_worker_is_left(tmp_path: Path) -> None:
    """What is left may hold the device's memory, and the next worker would find it taken."""
    copy_user_models(tmp_path)
    variables = worker_variables(MeasureSettings(num_threads=1), 1, None)
    with WorkerServer(variables | {"BENCHBOX_TEST_NOTES": str(tmp_path)}) as server:
        for number in range(3):
            start_task(server, task_of(user_case("ends_the_process"), tmp_path / str(number), tmp_path))
            assert server.wait(60) == 7
            noted = [int(pid) for note in tmp_path.glob("*-*") for pid in note.read_text().split()]
            assert len(noted) == 2 * (number + 1)
            assert not [pid for pid in noted if psutil.pid_exists(pid)]


def test_a_group_is_killed_before_its_number_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    there: list[bool] = []
    monkeypatch.setattr(worker_server, "_kill_group", lambda pid: there.append(psutil.pid_exists(pid)))
    monkeypatch.setattr(worker_server, "_end_orphans", lambda: None)  # pytest's own children are none
    said: list[dict[str, int]] = []
    monkeypatch.setattr(worker_server, "_say", said.append)
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read(); sys.exit(3)"], stdin=-1
    ) as child:
        assert worker_server._reap(child.pid) == child.pid  # it has not ended
        assert child.stdin is not None
        child.stdin.close()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert worker_server._reap(child.pid) is None
    assert (there, said) == ([True], [{"ended": child.pid, "status": 3}])


def test_a_worker_that_cannot_be_killed_is_given_up_with_its_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "KILL_GRACE_S", 0.5)
    copy_user_models(tmp_path)
    with WorkerServer(worker_variables(MeasureSettings(num_threads=1), 1, None)) as server:
        monkeypatch.setattr(server, "kill_worker", lambda: None)
        result = finish(server, task_of(user_case("hangs"), tmp_path, timeout_s=1))
        assert server.has_ended()  # so that the run starts another
    assert result.outcome == "timeout"
    assert result.reason == "still running after 1 s; the worker could not be killed"


def test_telemetry_that_ended_early_says_so_in_the_attempt(
    server: WorkerServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no more")

    monkeypatch.setattr(HostWatch, "sample", fail)
    copy_user_models(tmp_path)
    task = task_of(user_case("good"), tmp_path, max_seconds=0.1, num_trajectory_steps=0)
    *_, result = watch_attempt(server, task, Sampler(20, [], None))
    assert isinstance(result, AttemptResult)
    assert (result.outcome, result.reason) == ("ok", "telemetry is not whole: RuntimeError: no more")


def test_a_variable_that_would_change_what_is_computed_does_not_reach_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    monkeypatch.setenv("NCCL_DEBUG", "WARN")
    copy_user_models(tmp_path)
    with WorkerServer({}) as server:
        pid = start_task(server, task_of(user_case("hangs"), tmp_path))
        names = {line.partition("=")[0] for line in Path(f"/proc/{pid}/environ").read_text().split("\0")}
    assert "NCCL_DEBUG" in names
    assert "NVIDIA_TF32_OVERRIDE" not in names


CONTROLLER = """
import sys
from pathlib import Path
import msgspec
from benchbox.measure.launch import WorkerServer
with WorkerServer({}) as server:
    server.start(task=sys.argv[1], stderr=sys.argv[2])
    print("started", flush=True)
    sys.stdin.readline()
print("closed", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A controller in a process of its own whose worker trains for minutes, and the mark of all of them."""
    mark = uuid.uuid4().hex
    task = task_of(LONG_LOADER, tmp_path, max_seconds=600, max_measured_steps=100_000, ci_target_pct=1e-9)
    Path(task.attempt_dir).mkdir()
    (tmp_path / "case.json").write_bytes(msgspec.json.encode(task))
    process = subprocess.Popen(
        [sys.executable, "-c", CONTROLLER, str(tmp_path / "case.json"), str(tmp_path / "stderr.txt")],
        env=environment(**{MARK: mark}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    # The controller, the server, the worker and its two loader processes.
    assert wait_until(lambda: len(marked_processes(mark)) >= 5), (tmp_path / "stderr.txt").read_text()
    yield process, mark
    process.kill()
    process.communicate()


def test_close_ends_the_server_the_worker_and_its_loader_processes(
    controller: tuple[subprocess.Popen[str], str],
) -> None:
    process, mark = controller
    pids = set(marked_processes(mark)) - {process.pid}
    assert process.stdin is not None
    process.stdin.write("close\n")
    process.stdin.flush()
    assert all_end(pids)
    assert process.stdout is not None
    assert process.stdout.readline() == "closed\n"
    assert marked_processes(mark) == [process.pid]


def test_a_killed_controller_leaves_nothing_behind(controller: tuple[subprocess.Popen[str], str]) -> None:
    process, mark = controller
    pids = marked_processes(mark)
    process.kill()
    assert all_end(pids)
    assert marked_processes(mark) == []


@pytest.mark.parametrize(
    ("torch_py", "told"),
    [
        ("raise ModuleNotFoundError(\"No module named 'torch'\")", "No module named 'torch'"),
        ("raise OSError('libcudart.so.13: cannot open shared object file')", "libcudart.so.13"),
        ("import os; os._exit(3)", "nothing was printed"),
    ],
    ids=["missing", "broken", "silent"],
)
def test_an_interpreter_without_a_working_torch_is_one_useful_line(
    tmp_path: Path, torch_py: str, told: str
) -> None:
    mark = uuid.uuid4().hex
    (tmp_path / "torch.py").write_text(torch_py)
    with pytest.raises(WorkerStartError) as raised:
        WorkerServer({"PYTHONPATH": str(tmp_path), MARK: mark})
    assert told in str(raised.value)
    assert sys.executable in str(raised.value)
    assert "\n" not in str(raised.value)
    assert marked_processes(mark) == []


def test_a_missing_interpreter_is_one_useful_line() -> None:
    with pytest.raises(WorkerStartError, match=r"/nowhere/python.*No such file or directory"):
        WorkerServer({}, python="/nowhere/python")


def test_a_server_that_was_killed_says_by_which_signal(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nkill -9 $$\n")
    python.chmod(0o755)
    with pytest.raises(WorkerStartError, match="was ended by SIGKILL: nothing was printed"):
        WorkerServer({}, python=str(python))


def test_an_interrupted_start_leaves_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = uuid.uuid4().hex
    (tmp_path / "torch.py").write_text("import time; time.sleep(600)")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(WorkerServer, "_next_answer", interrupt)  # while torch is imported
    with pytest.raises(KeyboardInterrupt):
        WorkerServer({"PYTHONPATH": str(tmp_path), MARK: mark})
    assert marked_processes(mark) == []


def test_worker_variables_follow_the_settings() -> None:
    plain = worker_variables(MeasureSettings(host_allocator="system"), 3, None)
    assert plain == {"OMP_NUM_THREADS": "3"}
    assert worker_variables(MeasureSettings(host_allocator="system", num_threads=2), 3, None) == {
        "OMP_NUM_THREADS": "2"
    }
    tuned = worker_variables(MeasureSettings(), 3, "GPU-1")
    assert tuned == plain | tuned_allocator() | {"CUDA_VISIBLE_DEVICES": "GPU-1"}


def test_tunables_of_the_user_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.arena_max=1")
    own, _, added = tuned_allocator()["GLIBC_TUNABLES"].partition(":")
    assert own == "glibc.malloc.arena_max=1"
    monkeypatch.delenv("GLIBC_TUNABLES")
    assert tuned_allocator()["GLIBC_TUNABLES"] == added


def test_the_tuned_allocator_reaches_the_worker_and_saves_page_faults(
    server: WorkerServer, tmp_path: Path
) -> None:
    settings = {"max_seconds": 1.0, "min_warmup_steps": 5, "max_warmup_steps": 5, "max_measured_steps": 10}
    tuned = finish(server, task_of(SMALL_CNN, tmp_path / "tuned", **settings))
    with WorkerServer(worker_variables(MeasureSettings(host_allocator="system"), 1, None)) as untuned_server:
        untuned = finish(untuned_server, task_of(SMALL_CNN, tmp_path / "untuned", **settings))

    def faults_a_step(attempt: AttemptResult) -> float:
        (rank,) = attempt.ranks
        assert rank.host_usage is not None
        return rank.host_usage.minor_page_faults / len(rank.step_time_ns)

    assert faults_a_step(tuned) < faults_a_step(untuned) / 10


def test_the_environment_of_a_worker_holds_the_variables(server: WorkerServer, tmp_path: Path) -> None:
    copy_user_models(tmp_path)
    pid = start_task(server, task_of(user_case("hangs"), tmp_path))
    variables = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    server.kill_worker()
    assert server.wait(20) == -signal.SIGKILL
    wanted = tuned_allocator() | {"OMP_NUM_THREADS": "1"}
    assert {f"{name}={value}" for name, value in wanted.items()} <= set(variables)


def test_the_tail_of_what_was_printed_is_short_and_harmless(tmp_path: Path) -> None:
    path = tmp_path / "stderr.txt"
    assert stderr_tail(path) is None
    path.write_bytes(b" \n")
    assert stderr_tail(path) is None
    path.write_bytes(b"old " * 10_000 + b"\x1b[31m\x07\xff\xe2\x80\xaenew\r\n\tend\n")
    tail = stderr_tail(path, max_chars=30)
    assert tail is not None
    assert len(tail) == 30
    assert tail.endswith("old [31mnew\n\tend")


# --- DeepSpeed for all forks -------------------------------------------------------------------------------

NOISY = """
import os
print("a banner")
os.system("echo from another program")
raise OSError("a broken installation")
"""


def test_what_an_import_of_deepspeed_says_and_raises_does_not_disturb_the_server(
    tmp_path: Path,
) -> None:
    package = tmp_path / "deepspeed"
    package.mkdir()
    (package / "__init__.py").write_text(NOISY)
    case = make_case(model="mlp", input_shape=(16,), num_classes=4, hidden_size=8, learning_rate=1e-3)
    with WorkerServer({"PYTHONPATH": str(tmp_path)}, with_deepspeed=True) as server:
        result = finish(server, task_of(case, tmp_path / "task", max_seconds=0.1))
    assert result.outcome == "ok", result.reason


STARTS = """
import os, sys, threading
import benchbox.worker.attempt
from benchbox.worker.server import _import_deepspeed
before = len(os.listdir("/proc/self/task"))
_import_deepspeed()
assert "deepspeed.runtime.zero.muon.muon_optimizer" in sys.modules
assert "torch._inductor.compile_fx" not in sys.modules  # torch's compiler
assert "TORCHDYNAMO_DISABLE" not in os.environ
print(len(os.listdir("/proc/self/task")) - before, threading.active_count())
"""


def test_importing_deepspeed_starts_no_thread_that_a_fork_would_lose_and_no_compiler() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STARTS],
        env=environment(DS_ACCELERATOR="cpu"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["0", "1"]


def test_only_cases_of_zero_are_forked_from_a_server_with_deepspeed() -> None:
    zero, ddp = (make_case(strategy=strategy, world_size=2) for strategy in ("zero1", "ddp"))
    with Site([zero, ddp], MeasureSettings(telemetry_hz=0), "cpu") as site:
        first, second = site.running_server(ddp), site.running_server(zero)
        assert site.running_server() is first is not second
        assert site.running_server(zero) is second
        assert [shall_have_deepspeed(server) for server in (first, second)] == [False, True]
        site.close_server()
        assert first.has_ended()
        assert second.has_ended()


def shall_have_deepspeed(server: WorkerServer) -> bool:
    command = Path("/proc", str(server._process.pid), "cmdline").read_bytes().split(b"\0")
    return b"--with-deepspeed" in command


def test_on_a_gpus_machine_ranks_import_deepspeed_themselves() -> None:
    on_gpu = make_environment("cuda")
    zero = make_case(strategy="zero1", world_size=1)
    assert not Placement(on_gpu.devices, on_gpu.software, 2).forks_deepspeed(zero)
    assert Placement((), on_gpu.software, 2).forks_deepspeed(zero)
