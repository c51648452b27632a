"""The host's samples and facts, on this machine and on invented ones."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchbox.measure import cgroup
from benchbox.measure.host import HostSample, HostWatch
from benchbox.measure.host_facts import host_facts
from benchbox.measure.processes import ProcessTree
from benchbox.schema import HostTelemetry
from tests.runs import all_end, wait_until

BUSY = "import time\nend = time.monotonic() + 60\nwhile time.monotonic() < end: pass"
PARENT_AND_CHILD = """
import subprocess, sys
code = "import time; x = bytearray(64 << 20); print(1, flush=True); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", code])
child.wait()
"""


@pytest.fixture
def spawn() -> Iterator[object]:
    started: list[subprocess.Popen[str]] = []

    def start(code: str) -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True
            )
        )
        return started[-1]

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.communicate()


def test_the_sample_has_the_columns_of_the_record() -> None:
    columns = [name for name in HostTelemetry.__struct_fields__ if name not in ("sample_at_ns", "node")]
    assert list(HostSample._fields) == columns


def test_a_busy_worker_takes_user_time_of_about_one_processor(spawn) -> None:
    watch = HostWatch(spawn(BUSY).pid)
    first = watch.sample(slow=True)
    assert first.worker_cpu_user_pct is None
    assert first.host_cpu_user_pct is None
    assert first.load_1min == pytest.approx(os.getloadavg()[0], abs=0.5)
    time.sleep(0.6)
    second = watch.sample(slow=True)
    assert 5 < second.worker_cpu_user_pct + second.worker_cpu_kernel_pct < 115
    assert 0 < second.host_cpu_user_pct + second.host_cpu_kernel_pct <= 100.01
    third = watch.sample(slow=False)
    assert third.host_cpu_user_pct is None
    assert third.load_1min is None
    watch.close()


def test_children_count_from_the_next_slow_reading(spawn) -> None:
    parent = spawn(PARENT_AND_CHILD)
    assert parent.stdout.readline()
    watch = HostWatch(parent.pid)
    alone = watch.sample(slow=False)
    assert watch.worker_pids == {parent.pid}
    together = watch.sample(slow=True)
    assert len(watch.worker_pids) == 2
    assert together.worker_rss_bytes > alone.worker_rss_bytes + (64 << 20)
    assert together.worker_page_faults > alone.worker_page_faults + 1000
    watch.close()


def test_faults_of_a_child_that_ended_stay_in_the_running_count(spawn) -> None:
    parent = spawn(PARENT_AND_CHILD + "import time; time.sleep(60)")
    assert parent.stdout.readline()
    watch = HostWatch(parent.pid)
    before = watch.sample(slow=True)
    (child,) = watch.worker_pids - {parent.pid}
    os.kill(child, 9)
    assert all_end([child])
    after = watch.sample(slow=True)
    assert watch.worker_pids == {parent.pid}
    assert after.worker_page_faults >= before.worker_page_faults
    assert after.worker_rss_bytes < before.worker_rss_bytes
    watch.close()


def test_an_orphan_still_belongs_to_the_worker(spawn) -> None:
    parent = spawn(PARENT_AND_CHILD)
    assert parent.stdout.readline()
    watch = HostWatch(parent.pid)
    watch.sample(slow=True)
    (child,) = watch.worker_pids - {parent.pid}
    os.kill(parent.pid, 9)
    parent.wait()
    sample = watch.sample(slow=True)
    assert watch.worker_pids == {child}
    assert sample.worker_rss_bytes > 64 << 20
    watch.close()


def test_a_worker_that_is_gone_leaves_none_and_the_host_goes_on(spawn) -> None:
    worker = spawn(BUSY)
    watch = HostWatch(worker.pid)
    watch.sample(slow=True)
    worker.kill()
    worker.wait()
    time.sleep(0.1)
    sample = watch.sample(slow=True)
    assert sample.host_cpu_user_pct is not None
    assert (sample.worker_page_faults, sample.worker_rss_bytes, sample.worker_cpu_user_pct) == (None,) * 3
    assert HostWatch(worker.pid).sample(slow=True).worker_rss_bytes is None
    watch.close()


def test_a_worker_that_was_not_waited_for_counts_as_gone(spawn) -> None:
    worker = spawn("pass")
    tree = ProcessTree(worker.pid)
    assert wait_until(lambda: tree.read() is None)
    assert tree.pids == frozenset()


def test_a_command_with_spaces_and_parentheses_is_read(tmp_path: Path) -> None:
    def stat(pid: int, name: str, parent: int) -> None:
        (tmp_path / str(pid)).mkdir()
        numbers = f"S {parent} 1 1 0 -1 0 11 0 2 0 50 20 0 0 20 0 1 0 5 9999 3 0"
        (tmp_path / str(pid) / "stat").write_text(f"{pid} ({name}) {numbers}\n")

    stat(100, "a) S 7 (b", 1)
    stat(300, "grandchild", 200)
    stat(200, "child", 100)
    stat(400, "stranger", 1)
    (tmp_path / "500").mkdir()  # ended between listing and reading
    (tmp_path / "self").mkdir()
    tree = ProcessTree(100, proc=tmp_path)
    tree.look_for_children()
    assert tree.pids == {100, 200, 300}
    usage = tree.read()
    assert usage is not None
    assert (usage.page_faults, usage.rss_bytes) == (3 * 13, 3 * 3 * os.sysconf("SC_PAGE_SIZE"))
    assert (usage.user_ticks, usage.kernel_ticks) == (0, 0)  # shares begin with the second reading
    numbers = "S 1 1 1 0 -1 0 11 0 2 0 57 24 0 0 20 0 1 0 5 9999 3 0"
    (tmp_path / "100" / "stat").write_text(f"100 (a) {numbers}\n")
    usage = tree.read()
    assert usage is not None
    assert (usage.user_ticks, usage.kernel_ticks) == (7, 4)
    tree.close()


def _machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_facts_of_this_machine() -> None:
    facts = host_facts()
    assert facts.kernel == os.uname().release
    assert 1 <= facts.num_usable_processors <= len(os.sched_getaffinity(0))
    assert facts.memory_total_bytes > 1 << 28
    assert facts.cpu_model
    assert facts.libc


def test_facts_of_an_x86_server_in_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    for name in ("container", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    root = _machine(
        tmp_path,
        {
            "proc/cpuinfo": "processor : 0\nmodel name\t: AMD EPYC 9654\nflags\t\t: fpu vme\n",
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/memory.max": "4294967296\n",
            "etc/os-release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 24.04.1 LTS"\n',
            ".dockerenv": "",
            **{f"sys/devices/system/cpu/cpu{n}/cpufreq/scaling_governor": "performance\n" for n in range(8)},
            **{f"sys/devices/system/cpu/cpu{n}/cpufreq/cpuinfo_max_freq": "3707812\n" for n in range(8)},
        },
    )
    facts = host_facts(root)
    assert (facts.cpu_model, facts.os) == ("AMD EPYC 9654", "Ubuntu 24.04.1 LTS")
    assert (facts.num_usable_processors, facts.memory_limit_bytes) == (2, 1 << 32)
    assert (facts.governor, facts.cpu_max_mhz) == ("performance", pytest.approx(3707.812))
    assert (facts.container, facts.virtual_machine) == ("docker", False)


def test_facts_of_a_machine_that_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("container", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    facts = host_facts(tmp_path)
    assert facts.cpu_model == os.uname().machine
    assert facts.num_usable_processors == len(os.sched_getaffinity(0))
    unknown = (facts.memory_limit_bytes, facts.governor, facts.cpu_max_mhz)
    assert (*unknown, facts.container, facts.virtual_machine) == (None,) * 5


@pytest.mark.parametrize(
    ("files", "processors", "memory"),
    [
        ({}, None, None),
        (
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/cpu.max": "max 100000\n",
                "sys/fs/cgroup/memory.max": "max",
            },
            None,
            None,
        ),
        (  # the tightest level holds, not the process's own
            {
                "proc/self/cgroup": "0::/user.slice/job\n",
                "sys/fs/cgroup/user.slice/cpu.max": "200000 100000\n",
                "sys/fs/cgroup/user.slice/job/cpu.max": "400000 100000\n",
                "sys/fs/cgroup/user.slice/job/memory.max": "1000\n",
                "sys/fs/cgroup/user.slice/memory.max": "max\n",
            },
            2.0,
            1000,
        ),
        (  # version 1 in a container: the path lies outside of what is mounted
            {
                "proc/self/cgroup": "4:memory:/docker/a\n3:cpu,cpuacct:/docker/a\n1:name=systemd:/docker/a\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "2000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            0.5,
            2000,
        ),
        (  # version 1 without limits, version 2 beside it
            {
                "proc/self/cgroup": "4:memory:/\n1:cpu:/\n0::/\n",
                "sys/fs/cgroup/unified/cgroup.procs": "",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
            None,
        ),
        (
            {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "\n", "sys/fs/cgroup/memory.max": "?"},
            None,
            None,
        ),
    ],
)
def test_control_groups(
    tmp_path: Path, files: dict[str, str], processors: float | None, memory: int | None
) -> None:
    root = _machine(tmp_path, files)
    assert cgroup.num_processors(root) == processors
    assert cgroup.memory_limit_bytes(root) == memory
