"""The search for the largest batch, with real trainings in a small memory, and its figures."""

from __future__ import annotations

import signal
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from benchbox.cli.max_batch import parse_bytes
from benchbox.errors import BadInputError
from benchbox.measure import cgroup
from benchbox.measure.batch_tries import headroom_bytes, summarize_try
from benchbox.measure.max_batch import MaxBatchRun, Options, try_settings
from benchbox.plan.suite import load_suite
from benchbox.report.max_batch import render_markdown
from benchbox.schema import (
    AttemptResult,
    BatchTry,
    ConfigurationResult,
    DeviceFacts,
    DeviceTelemetry,
    Interval,
    MaxBatchReport,
    MeasureSettings,
    RankResult,
    WorkerMemory,
)
from tests.factories import make_case
from tests.runs import (
    MARK,
    benchbox,
    copy_user_models,
    marked_processes,
    start_benchbox,
    wait_until,
    write_suite,
)

pytestmark = pytest.mark.timeout(400)

GIB, MIB = 2**30, 2**20
LIMIT_MIB = 900
WIDE = '[workload]\nmodel = "mlp"\nsizes = [64, 8192, 8]\n'
OF_ONE = """
[axes]
per_device_batch_size = [2048, 1024]
[[include]]
precision = "fp16"
[[include]]
model = "zoo.models:raises_memory_error"
input_shape = [16]
num_classes = 4
per_device_batch_size = 4
[[include]]
model = "zoo.models:ends_the_process"
input_shape = [16]
num_classes = 4
"""


def read(path: Path) -> MaxBatchReport:
    return msgspec.json.decode(path.read_bytes(), type=MaxBatchReport)


class Searched:
    """A finished search through the command line. Not to be changed."""

    def __init__(self, folder: Path) -> None:
        copy_user_models(folder)
        self.suite = write_suite(folder, WIDE + OF_ONE)
        self.out = folder / "out"
        options = ["--memory-limit", f"{LIMIT_MIB}MiB", "--precision", "30", "--format", "json"]
        self.done = benchbox("max-batch", self.suite, "--out", self.out, *options, cwd=folder)
        assert self.done.returncode == 0, self.done.stderr
        self.report = read(self.out / "max-batch.json")

    def of(self, name: str) -> ConfigurationResult:
        (found,) = (c for c in self.report.configurations if name in f"{c.case.model} {c.case.precision}")
        return found


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    return Searched(tmp_path_factory.mktemp("max-batch"))


def test_the_largest_batch_fits_and_a_little_more_runs_out_of_memory(searched: Searched) -> None:
    found = searched.of("mlp fp32")
    assert found.case.per_device_batch_size == 1024
    assert found.ended_by == "precision"
    largest, failing = found.largest_batch_size, found.smallest_failing_batch_size
    assert largest is not None
    assert failing is not None
    assert largest < failing <= 1.3 * largest
    outcomes = {tried.per_device_batch_size: tried.outcome for tried in found.tries}
    assert outcomes[largest] == "ok"
    assert outcomes[failing] == "oom"
    assert set(outcomes.values()) == {"ok", "oom"}
    assert all((outcome == "ok") == (batch <= largest) for batch, outcome in outcomes.items())


def test_what_fits_has_stayed_within_the_limit_and_grown_with_the_batch(searched: Searched) -> None:
    found = searched.of("mlp fp32")
    assert found.memory_limit_bytes == LIMIT_MIB * MIB
    fits = sorted(
        (t for t in found.tries if t.outcome == "ok"), key=lambda tried: tried.per_device_batch_size
    )
    peaks = [tried.peak_host_rss_bytes or 0 for tried in fits]
    assert 0 < peaks[0] < peaks[-1] < LIMIT_MIB * MIB
    used_pct = fits[-1].memory_limit_used_pct
    assert used_pct is not None
    assert 50 < used_pct <= 100
    assert found.headroom_bytes == round(LIMIT_MIB * MIB * (1 - used_pct / 100))
    assert found.fragmentation_pct is None  # torch keeps no account on a CPU


def test_the_throughput_on_the_way_is_kept(searched: Searched) -> None:
    found = searched.of("mlp fp32")
    rates = {
        tried.per_device_batch_size: tried.samples_per_second
        for tried in found.tries
        if tried.outcome == "ok"
    }
    known = {batch: rate for batch, rate in rates.items() if rate is not None and rate > 0}
    assert known == rates
    assert found.fastest_batch_size == max(known, key=known.__getitem__)
    for tried in found.tries:
        if tried.outcome == "ok":
            assert tried.step_time_ns is not None
            assert tried.samples_per_second == pytest.approx(
                tried.per_device_batch_size / (tried.step_time_ns / 1e9), rel=1e-6
            )
        else:
            assert (tried.samples_per_second, tried.step_time_ns) == (None, None)


def test_a_failure_that_is_no_lack_of_memory_ends_a_configuration_with_its_reason(searched: Searched) -> None:
    unsupported, crashed = searched.of("fp16"), searched.of("ends_the_process")
    assert (unsupported.ended_by, unsupported.tries) == ("failure", ())
    assert "fp16 training on a CPU" in (unsupported.reason or "")
    assert (crashed.ended_by, len(crashed.tries)) == ("failure", 1)
    assert crashed.reason == "batch 32: crashed: the worker left no result; its exit status was 7"
    assert (crashed.largest_batch_size, crashed.fastest_batch_size) == (None, None)


def test_where_not_even_one_sample_fits_that_is_the_answer(searched: Searched) -> None:
    found = searched.of("raises_memory_error")
    assert [tried.per_device_batch_size for tried in found.tries] == [4, 1]
    assert (found.ended_by, found.largest_batch_size) == ("nothing-fits", None)
    assert found.headroom_bytes is None
    assert "not even batch 1 fits: MemoryError" in render_markdown(searched.report)


def test_the_file_and_what_is_printed_say_the_same(searched: Searched) -> None:
    assert searched.report.complete
    assert msgspec.json.decode(searched.done.stdout, type=MaxBatchReport) == searched.report
    lines = searched.done.stderr.splitlines()
    assert len(lines) == sum(len(found.tries) for found in searched.report.configurations)
    first = searched.report.configurations[0].tries[0]
    assert f"mlp fp32  batch 1024  {first.outcome}" in lines[0]
    markdown = render_markdown(searched.report)
    found = searched.of("mlp fp32")
    assert f"{found.largest_batch_size} fits, {found.smallest_failing_batch_size} does not" in markdown
    for tried in found.tries:
        assert f"| {tried.per_device_batch_size} " in markdown


def test_what_is_there_is_not_replaced_unasked(searched: Searched, tmp_path: Path) -> None:
    before = (searched.out / "max-batch.json").read_bytes()
    done = benchbox("max-batch", searched.suite, "--out", searched.out, cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "max-batch.json: exists; replace it with --force" in line
    assert (searched.out / "max-batch.json").read_bytes() == before


def test_ranks_share_the_limit_and_a_cap_is_kept_to(tmp_path: Path) -> None:
    ranks = '[axes]\nstrategy = ["ddp"]\nworld_size = [2]\nper_device_batch_size = [8]\n'
    suite = load_suite(write_suite(tmp_path, '[workload]\nmodel = "mlp"\nsizes = [16, 8, 4]\n' + ranks))
    options = Options(max_batch_size=8, memory_limit_bytes=4 * GIB)
    with MaxBatchRun(suite, tmp_path, device="cpu", options=options) as search:
        for _ in search.events():
            pass
        report = search.report()
    (found,) = report.configurations
    assert (found.ended_by, found.largest_batch_size, found.smallest_failing_batch_size) == ("cap", 8, None)
    assert found.memory_limit_bytes == 2 * GIB
    (tried,) = found.tries
    assert tried.outcome == "ok"
    assert tried.samples_per_second == pytest.approx(16 / ((tried.step_time_ns or 0) / 1e9), rel=1e-6)


def test_ctrl_c_keeps_what_is_known(tmp_path: Path) -> None:
    mark = tmp_path.name
    suite = write_suite(tmp_path)
    process = start_benchbox("max-batch", suite, "--out", "out", cwd=tmp_path, **{MARK: mark})
    assert process.stderr is not None
    assert "batch 4  ok" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "interrupted" in stderr.splitlines()[-1]
    report = read(tmp_path / "out" / "max-batch.json")
    (found,) = report.configurations
    assert (report.complete, found.ended_by) == (False, "interrupt")
    assert (found.largest_batch_size or 0) >= 4
    assert f"interrupted; {found.largest_batch_size} is known to fit" in stdout
    assert wait_until(lambda: not marked_processes(mark), 20)


# --- figures -----------------------------------------------------------------------------------------------


def rank_of(
    number: int, step_ns: int, allocated: int | None, reserved: int | None, **limit: Any
) -> RankResult:
    return RankResult(
        rank=number,
        outcome="ok",
        reason=None,
        process_start_at_ns=0,
        ready_at_ns=0,
        finished_at_ns=1,
        extra_passes_s=0,
        step_time_ns=(step_ns - step_ns // 100, step_ns + step_ns // 100) * 4,
        memory=WorkerMemory(
            peak_memory_allocated_bytes=allocated,
            peak_memory_reserved_bytes=reserved,
            peak_host_rss_bytes=number * GIB,
            **limit,
        ),
    )


def attempt_of(*ranks: RankResult, **changes: Any) -> AttemptResult:
    fields: dict[str, Any] = {
        "case_id": "x",
        "attempt": 0,
        "outcome": "ok",
        "reason": None,
        "stderr_tail": None,
        "started_at": "2026-01-01T00:00:00+00:00",
        "duration_s": 1.0,
        "overhead_s": None,
        "ranks": ranks,
        "devices": (),
        "host": None,
    }
    return AttemptResult(**(fields | changes))


def test_a_try_is_as_slow_as_its_slowest_rank_and_as_large_as_its_largest() -> None:
    devices = tuple(
        DeviceTelemetry(uuid=uuid, sample_at_ns=(1, 2), memory_used_bytes=used)
        for uuid, used in (("a", (5, 70)), ("b", (None, 60)))
    )
    ranks = (rank_of(0, 10**9, 40, 50), rank_of(1, 2 * 10**9, 30, 60))
    case = make_case(strategy="ddp", world_size=2, per_device_batch_size=8, gradient_accumulation_steps=3)
    tried = summarize_try(case, attempt_of(*ranks, devices=devices))
    assert tried.samples_per_second == 48 / 2
    assert tried.step_time_ns == 2 * 10**9
    assert (tried.peak_memory_allocated_bytes, tried.peak_memory_reserved_bytes) == (40, 60)
    assert (tried.device_memory_used_bytes, tried.peak_host_rss_bytes) == (70, GIB)
    interval = tried.samples_per_second_interval
    assert interval is not None
    assert interval.low < 24 < interval.high < 1.1 * interval.low


def test_a_try_that_failed_has_no_rate_and_one_that_is_invalid_has() -> None:
    rank = rank_of(0, 10**9, 40, 50)
    assert summarize_try(make_case(), attempt_of(rank, outcome="crashed")).samples_per_second is None
    assert summarize_try(make_case(), attempt_of(outcome="oom")).samples_per_second is None
    assert summarize_try(make_case(), attempt_of(rank, outcome="invalid")).samples_per_second == 32


def try_of(**fields: Any) -> BatchTry:
    return BatchTry(per_device_batch_size=1, outcome="ok", reason=None, duration_s=1, **fields)


@pytest.mark.parametrize(
    ("memory", "pct"),
    [
        ([(30, 40)], 25),
        ([(30, 40), (60, 75)], 25),  # of one rank, never one's reserved over another's allocated memory
        ([(None, None)], None),
        ([(0, 0)], None),
        ([], None),
    ],
)
def test_fragmentation_is_a_ranks_reserved_memory_without_a_tensor_in_it(
    memory: list[tuple[int | None, int | None]], pct: float | None
) -> None:
    ranks = [rank_of(number, 10, *of_rank) for number, of_rank in enumerate(memory)]
    assert summarize_try(make_case(), attempt_of(*ranks)).fragmentation_pct == pct


@pytest.mark.parametrize(
    ("limits", "pct"),
    [
        ([("RLIMIT_DATA", 40.0), ("RLIMIT_DATA", 60.0)], 60),
        ([("RLIMIT_DATA", 40.0), ("RLIMIT_AS", 60.0)], None),
        ([(None, None)], None),
        ([], None),
    ],
)
def test_the_share_of_the_limit_is_that_of_the_rank_closest_to_it(
    limits: list[tuple[str | None, float | None]], pct: float | None
) -> None:
    ranks = [
        rank_of(number, 10, None, None, tightest_limit=name, tightest_limit_used_pct=used)
        for number, (name, used) in enumerate(limits)
    ]
    assert summarize_try(make_case(), attempt_of(*ranks)).memory_limit_used_pct == pct


@pytest.mark.parametrize(
    ("fastest", "is_said"),
    [(Interval(low=110, high=120), True), (Interval(low=105, high=120), False), (None, False)],
)
def test_that_the_largest_batch_is_slower_is_said_beyond_noise_only(
    searched: Searched, fastest: Interval | None, is_said: bool
) -> None:
    found = searched.of("mlp fp32")
    tries = [
        replace(
            try_of(samples_per_second=rate, samples_per_second_interval=interval),
            per_device_batch_size=batch,
        )
        for batch, rate, interval in ((1, 115, fastest), (2, 100, Interval(low=94, high=106)))
    ]
    found = replace(found, tries=tuple(tries), largest_batch_size=2, fastest_batch_size=1)
    markdown = render_markdown(replace(searched.report, configurations=(found,)))
    assert ("in 1 of 1 a smaller batch than the largest is faster" in markdown) == is_said


def test_headroom_is_of_the_smallest_device_or_of_the_limit() -> None:
    devices = [DeviceFacts(index=n, name="G", memory_total_bytes=total) for n, total in enumerate((100, 80))]
    tried = try_of(
        device_memory_used_bytes=70,
        peak_memory_reserved_bytes=60,
        peak_host_rss_bytes=50,
        memory_limit_used_pct=75,
    )
    for keeps_freed in (True, False):
        left = partial(headroom_bytes, keeps_freed=keeps_freed)
        assert left(tried, devices, None) == 10
        assert left(try_of(peak_memory_reserved_bytes=60), devices, None) == 20
        assert left(tried, [], 80) == (20 if keeps_freed else None)
        assert left(try_of(peak_host_rss_bytes=50), [], 80) is None
        assert left(try_of(), devices, None) is None
        assert left(tried, [DeviceFacts(index=0, name="G")], None) is None


def test_a_try_is_short_and_otherwise_as_the_suite_says() -> None:
    settings = MeasureSettings(max_seconds=60, num_threads=3, host_allocator="system", telemetry_hz=2)
    short = try_settings(settings)
    assert (short.num_threads, short.host_allocator, short.telemetry_hz) == (3, "system", 2)
    assert short.max_seconds < settings.max_seconds
    assert short.repetitions == 1
    assert try_settings(MeasureSettings(max_seconds=0.5)).max_seconds == 0.5


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [("8GiB", 8 * GIB), ("1.5 gib", 3 * GIB // 2), ("512MB", 512 * 10**6), ("4096", 4096), ("7 B", 7)],
)
def test_amounts_of_memory_are_understood(text: str, num_bytes: int) -> None:
    assert parse_bytes(text) == num_bytes


@pytest.mark.parametrize("text", ["", "GiB", "-1GiB", "0", "8 TB", "1e9", "٣GiB", "nan", "9" * 20, "1GiB\n2"])
def test_other_amounts_are_refused(text: str) -> None:
    with pytest.raises(BadInputError, match="--memory-limit"):
        parse_bytes(text)


def test_memory_that_control_groups_leave_counts_cached_files_as_free(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/job\n",
        "sys/fs/cgroup/memory.max": "max\n",
        "sys/fs/cgroup/memory.current": "5000\n",
        "sys/fs/cgroup/memory.stat": "anon 1\ninactive_file 9\n",
        "sys/fs/cgroup/job/memory.max": "1000\n",
        "sys/fs/cgroup/job/memory.current": "800\n",
        "sys/fs/cgroup/job/memory.stat": "anon 600\ninactive_file 150\nactive_file 50\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cgroup.memory_available_bytes(tmp_path) == [350]
    (tmp_path / "proc/self/cgroup").write_text("5:memory:/\n")
    v1 = tmp_path / "sys/fs/cgroup/memory"
    v1.mkdir()
    (v1 / "memory.limit_in_bytes").write_text("2000")
    (v1 / "memory.usage_in_bytes").write_text("1500")
    (v1 / "memory.stat").write_text("inactive_file 1\ntotal_inactive_file 100")
    assert cgroup.memory_available_bytes(tmp_path) == [600]
    (v1 / "memory.limit_in_bytes").write_text(str(2**63 - 4096))
    assert cgroup.memory_available_bytes(tmp_path) == []
