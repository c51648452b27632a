"""What benchbox costs, as ratios in one run. `make perf` runs these; the figures are printed.

The machine may be shared and noisy, so a ratio comes with an interval over alternated pairs, and step time
passes only where the whole interval keeps to the bound: noise can make it inconclusive, never good.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import msgspec
import pytest

from benchbox import stats
from benchbox.measure.launch import WorkerServer, tuned_allocator, worker_variables
from benchbox.plan.suite import load_suite
from benchbox.schema import Case, MeasureSettings, RankResult, Report, WorkerTask
from tests.nvml_stand_in import StandIn

pytestmark = [pytest.mark.perf, pytest.mark.timeout(1800)]

HAND_WRITTEN = Path(__file__).with_name("hand_written.py")
SIDE_BY_SIDE = Path(__file__).with_name("side_by_side.py")
SUITE = """
[workload]
model = "{model}"
{extra}
[axes]
per_device_batch_size = [{batch}]
"""
EXTRA = {"mlp": "sizes = [784, 512, 10]"}
LOOKS = (9, 17, 25, 49)  # numbers of pairs; few looks, because each is one more chance to be decided by luck


def device() -> str:
    answer = subprocess.run(
        [sys.executable, "-c", "import torch; print(torch.cuda.is_available())"],
        capture_output=True,
        text=True,
        check=True,
    )
    return "cuda:0" if answer.stdout.strip() == "True" else "cpu"


def case_of(model: str, batch: int, folder: Path) -> Case:
    path = folder / f"{model}.toml"
    path.write_text(SUITE.format(model=model, batch=batch, extra=EXTRA.get(model, "")))
    return load_suite(path).cases[0]


def task_of(case: Case, folder: Path, settings: MeasureSettings, on: str) -> WorkerTask:
    return WorkerTask(
        case=case,
        measure=settings,
        attempt=0,
        device=on,
        extra_passes=False,
        run_dir=str(folder),
        attempt_dir=str(folder),
        import_dirs=(),
        data_root=str(folder),
    )


def through_worker(
    server: WorkerServer, case: Case, folder: Path, num_warmup: int, num_steps: int, on: str
) -> list[int]:
    """The step times of one attempt with a fixed number of steps."""
    attempt_dir = folder / f"attempt-{time.monotonic_ns()}"
    attempt_dir.mkdir()
    settings = MeasureSettings(
        max_seconds=3600,
        min_warmup_steps=num_warmup,
        max_warmup_steps=num_warmup,
        min_measured_steps=num_steps,
        max_measured_steps=num_steps,
    )
    task = task_of(case, attempt_dir, settings, on)
    (attempt_dir / "case.json").write_bytes(msgspec.json.encode(task))
    server.start(task=str(attempt_dir / "case.json"), stderr=str(attempt_dir / "stderr.txt"))
    assert server.wait(900) == 0, (attempt_dir / "stderr.txt").read_text()
    rank = msgspec.json.decode((attempt_dir / "rank0.json").read_bytes(), type=RankResult)
    assert rank.outcome == "ok", rank.reason
    return list(rank.step_time_ns)


def by_hand(model: str, batch: int, num_warmup: int, num_steps: int, variables: dict[str, str]) -> list[int]:
    """The step times of the hand-written loop."""
    command = [sys.executable, str(HAND_WRITTEN), model, str(batch), str(num_warmup), str(num_steps)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, **variables}, timeout=900
    )
    times: list[int] = json.loads(done.stdout)
    return times


def show(what: str, ratios: list[float]) -> tuple[float, float, float]:
    """Print and return the geometric mean of the ratios and its 95 % interval."""
    logs = [math.log(ratio) for ratio in ratios]
    low, high = stats.mean_interval(logs, independent=True)
    figures = math.exp(stats.mean(logs)), math.exp(low), math.exp(high)
    print(f"\n{what}: {figures[0]:.4f} [{figures[1]:.4f}, {figures[2]:.4f}] over {len(ratios)} pairs")
    return figures


def decide(more_ratios: Callable[[int], list[float]], bound: float) -> tuple[str, str]:
    """Take pairs until the 95 % interval of their median ratio lies on one side of ``bound``.

    The interval rests on order statistics, so that one disturbed pair cannot decide. Returns the verdict and
    the figures. A bound that the last look leaves open is not kept.
    """
    ratios: list[float] = []
    for num_pairs in LOOKS:
        ratios += more_ratios(num_pairs - len(ratios))
        low, high = stats.median_interval(ratios)
        figures = f"{stats.median(ratios):.4f} [{low:.4f}, {high:.4f}] over {num_pairs} pairs, bound {bound}"
        if high <= bound:
            return "kept", figures
        if low > bound:
            return "broken", figures
    return "inconclusive: machine too noisy", figures


@pytest.mark.parametrize(
    ("ratios", "verdict", "num_pairs"),
    [
        ([1.002] * 25, "kept", 9),
        ([1.02] * 25, "broken", 9),
        ([1.002, 1.004, 1.0, 1.003] * 2 + [3.0] + [1.0] * 16, "kept", 9),
        ([1.0, 1.02] * 25, "inconclusive: machine too noisy", 49),
    ],
)
def test_a_bound_is_kept_only_by_the_whole_interval(
    ratios: list[float], verdict: str, num_pairs: int
) -> None:
    left = iter(ratios)
    found, figures = decide(lambda number: list(islice(left, number)), 1.01)
    assert found == verdict
    assert f"over {num_pairs} pairs" in figures


@pytest.mark.parametrize(
    ("model", "batch", "num_turns", "num_steps"),
    [("mlp", 256, 10, 60), ("small-cnn", 128, 6, 15), ("reference-cnn", 4, 4, 4)],
)
def test_a_step_of_the_worker_takes_what_it_takes_by_hand(
    model: str, batch: int, num_turns: int, num_steps: int, tmp_path: Path
) -> None:
    on = device()
    bound = 1.01 if on == "cpu" else 1.005
    task = task_of(case_of(model, batch, tmp_path), tmp_path, MeasureSettings(), on)
    (tmp_path / "case.json").write_bytes(msgspec.json.encode(task))
    variables = worker_variables(MeasureSettings(), len(os.sched_getaffinity(0)), None)

    def more_ratios(num_rounds: int) -> list[float]:
        numbers = map(str, (num_rounds, num_turns, num_steps))
        command = [sys.executable, str(SIDE_BY_SIDE), str(tmp_path / "case.json"), *numbers]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env={**os.environ, **variables}, timeout=1500
        )
        ratios: list[float] = json.loads(done.stdout)
        return ratios

    verdict, figures = decide(more_ratios, bound)
    print(f"\nstep time, worker over hand-written, {model} batch {batch}, {on}: {figures}")
    assert verdict == "kept", f"{verdict}: {figures}"


def test_the_tuned_allocator_at_least_doubles_the_reference_model_on_a_cpu(tmp_path: Path) -> None:
    if device() != "cpu":
        pytest.skip("the host allocator matters where the host computes")
    case = case_of("reference-cnn", 32, tmp_path)
    threads = len(os.sched_getaffinity(0))
    tuned = worker_variables(MeasureSettings(), threads, None)
    system = {name: value for name, value in tuned.items() if name not in tuned_allocator()}
    gains = []
    with WorkerServer(tuned) as server:
        for _ in range(3):
            slow = stats.median(by_hand("reference-cnn", 32, 2, 4, system))
            fast = stats.median(through_worker(server, case, tmp_path, 3, 4, "cpu"))
            gains.append(slow / fast)
    mean, _, _ = show("samples/s, benchbox over hand-written with the system allocator", gains)
    assert mean >= 2.0


def run_suite(text: str, folder: Path) -> tuple[Report, float]:
    """Run a suite through the command line; the report and the seconds it took."""
    path = folder / "suite.toml"
    path.write_text(text)
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "benchbox.cli", "run", str(path), "--out", str(folder / "out"), "--quiet"],
        check=True,
    )
    took_s = time.perf_counter() - began
    return msgspec.json.decode((folder / "out" / "report.json").read_bytes(), type=Report), took_s


def best_of(command: list[str], times: int = 5) -> float:
    """The shortest of a few runs: start-up time has a floor and only noise above it."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        taken.append(time.perf_counter() - began)
    return min(taken)


def test_all_that_is_not_measuring_costs_less_than_importing_torch(tmp_path: Path) -> None:
    report, took_s = run_suite(
        """
        [workload]
        model = "small-cnn"
        [axes]
        per_device_batch_size = [16, 32, 64, 128]
        [measure]
        repetitions = 2
        max_seconds = 1
        telemetry_hz = 0
        """,
        tmp_path,
    )
    ranks = [attempt.ranks[0] for case in report.cases for attempt in case.attempts]
    measuring_s = sum(
        rank.warmup_s + sum(window.end_at_ns - window.start_at_ns for window in rank.windows) / 1e9
        for rank in ranks
    )
    extra_passes_s = sum(rank.extra_passes_s for rank in ranks)
    with_passes_s = (took_s - measuring_s) / len(ranks)
    # docs/decisions/0006: the extra passes measure too, and only the first attempt of a case has them.
    overhead_s = with_passes_s - extra_passes_s / len(ranks)
    import_s = best_of([sys.executable, "-c", "import torch"], 3)
    print(
        f"\noverhead an attempt, the run's start included: {overhead_s:.2f} s; with phases, FLOPs and the "
        f"loss check ({extra_passes_s / len(report.cases):.2f} s a case): {with_passes_s:.2f} s; "
        f"import torch: {import_s:.2f} s"
    )
    assert len(ranks) == 8
    assert overhead_s <= import_s + 0.5


def test_the_sampler_and_the_controller_are_light(tmp_path: Path) -> None:
    report, _ = run_suite(
        '[workload]\nmodel = "small-cnn"\n[measure]\nrepetitions = 1\nmax_seconds = 2\n', tmp_path
    )
    cost = report.telemetry_cost
    assert cost is not None
    assert report.controller_peak_rss_bytes is not None
    megabytes = report.controller_peak_rss_bytes / 1e6
    print(
        f"\nsampler: {cost.sampler_cpu_pct:.2f} % of one core; effect on step time {cost.effect_pct:+.2f} % "
        f"[{cost.effect_pct_interval.low:+.2f}, {cost.effect_pct_interval.high:+.2f}]; "
        f"controller: {megabytes:.0f} MB"
    )
    assert cost.sampler_cpu_pct < 1.0
    assert megabytes < 120


def test_watching_a_device_takes_less_than_one_percent_of_a_processor(nvml_stand_in: StandIn) -> None:
    nvml_stand_in.set("*.processes 1,2,3", "*.power_mw 90000")
    share_pct, num_samples = nvml_stand_in.run(
        """
from benchbox.measure.nvml import Nvml
from benchbox.measure.sampler import Sampler
from benchbox.schema import Window
nvml = Nvml()
sampler = Sampler(10, [nvml.devices[0].uuid], nvml)
sampler.start(os.getpid())
time.sleep(5)
sampler.stop()
host = sampler.telemetry([Window(start_at_ns=0, end_at_ns=2**62, num_steps=1)])[1]
print(json.dumps((sampler.cpu_share_pct, len(host.sample_at_ns))))
"""
    )
    print(f"\nsampler with one stand-in device: {share_pct:.2f} % of one core")
    assert num_samples >= 40
    assert share_pct < 1


def test_help_comes_within_twice_the_time_of_importing_typer() -> None:
    script = Path(sys.executable).with_name("benchbox")
    help_s = best_of([str(script), "--help"], 9)
    typer_s = best_of([sys.executable, "-c", "import typer"], 9)
    print(f"\nbenchbox --help over import typer: {help_s / typer_s:.2f}")
    assert help_s <= 2 * typer_s
