from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import torch

from benchbox.schema import ProbeResult
from benchbox.worker import probe
from benchbox.worker.probe import Trial, best_rate

CPU = torch.device("cpu")


@pytest.fixture
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(probe.MATMUL_SIZES, "cpu", (64, 128))
    monkeypatch.setitem(probe.CONV_BATCH_SIZES, "cpu", (1,))
    monkeypatch.setitem(probe.COPY_BYTES, "cpu", 1 << 20)


@pytest.fixture
def own_threads() -> object:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("small_sizes", "own_threads")
def test_a_cpu_gets_the_figures_that_it_can_have() -> None:
    reached = probe.probe("cpu", 1, 0.05)
    assert reached.num_threads == 1
    assert reached.copy_gb_per_s is not None
    assert reached.host_to_device_gb_per_s is None
    for rates in (reached.matmul_tflops, reached.conv_tflops):
        assert rates.fp32 is not None
        assert rates.bf16 is not None
        # Within anything that a core can do: the units are right.
        assert 1e-4 < rates.fp32 < 10
        assert (rates.tf32, rates.fp16, rates.fp8) == (None, None, None)
    assert 0.01 < reached.copy_gb_per_s < 10_000


@pytest.mark.usefixtures("small_sizes", "own_threads")
def test_the_result_is_one_whole_file(tmp_path: Path) -> None:
    out = tmp_path / "probe.json"
    probe.main(["--out", str(out), "--device", "cpu", "--threads", "1", "--seconds", "0.01"])
    result = msgspec.json.decode(out.read_bytes(), type=ProbeResult)
    assert result.device_name is None
    assert result.torch == str(torch.__version__)
    assert result.reached.num_threads == 1
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_missing_gpu_is_said_to_be_missing() -> None:
    with pytest.raises(RuntimeError, match="no GPU"):
        probe.probe("cuda:0", None, 0.01)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gets_the_figures_that_it_can_have() -> None:
    reached = probe.probe("cuda:0", None, 0.2)
    assert reached.num_threads is None
    assert reached.matmul_tflops.fp16 is not None
    assert reached.conv_tflops.fp16 is not None
    assert reached.host_to_device_gb_per_s is not None
    result = probe.describe("cuda:0", reached)
    assert result.device_name == torch.cuda.get_device_name(0)
    assert result.memory_total_bytes


def test_nothing_is_timed_on_zeros() -> None:
    data = probe._random_bytes((16 << 20) + 3, CPU)
    assert len(data) == (16 << 20) + 3
    assert data.float().std() > 70


def test_the_trials_compute_what_their_flops_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(probe.CONV_BATCH_SIZES, "cpu", (2,))
    monkeypatch.setitem(probe.MATMUL_SIZES, "cpu", (32,))
    from torch.utils.flop_counter import FlopCounterMode

    trials = probe.conv_trials(CPU, torch.float32) + probe.matmul_trials(CPU, torch.float32)
    for trial in trials:
        run = trial.prepare()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            run()
        assert counter.get_total_flops() == trial.amount


class Watch:
    """A clock that only trials move, so that what is found does not depend on this machine's load."""

    def __init__(self) -> None:
        self._now_s = self._start_s = 0.0
        self.prepared: list[float] = []

    def pass_by(self, seconds: float) -> None:
        self._now_s += seconds

    def perf_counter(self) -> float:
        return self._now_s

    def start(self) -> None:
        self._start_s = self._now_s

    def mark(self, step: int) -> None:
        pass

    def read_ns(self, num_steps: int) -> list[int]:
        return [round((self._now_s - self._start_s) * 1e9)]

    def trial(self, seconds: float, amount: float) -> Trial:
        """One that takes ``seconds`` a run."""

        def run() -> None:
            self._now_s += seconds

        def prepare() -> Callable[[], object]:
            self.prepared.append(amount)
            return run

        return Trial(amount, prepare)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    watch = Watch()
    monkeypatch.setattr(probe, "time", watch)
    monkeypatch.setattr(probe, "make_clock", lambda device, capacity: watch)
    return watch


def test_the_best_rate_is_amount_over_time(watch: Watch) -> None:
    trials = [watch.trial(0.002, 1.0), watch.trial(0.002, 4.0)]
    assert best_rate(trials, CPU, 0.3) == pytest.approx(4.0 / 0.002)
    assert watch.prepared == [1.0, 4.0]
    assert watch.perf_counter() == pytest.approx(0.3, rel=0.1)


def test_on_a_gpu_libraries_load_and_tune_themselves_on_nobodys_time(watch: Watch) -> None:
    def slow_at_first(trial: Trial) -> Trial:
        def prepare() -> Callable[[], object]:
            run, waits = trial.prepare(), [1.0, 0.0]
            return lambda: (watch.pass_by(waits.pop(0) if waits else 0.0), run())

        return Trial(trial.amount, prepare)

    trials = [slow_at_first(watch.trial(0.002, 1.0)), slow_at_first(watch.trial(0.002, 4.0))]
    assert best_rate(trials, torch.device("cuda"), 0.3) == pytest.approx(4.0 / 0.002)
    assert watch.perf_counter() == pytest.approx(2.3, rel=0.1)


def test_a_trial_that_would_outlast_the_time_is_left_out(watch: Watch) -> None:
    trials = [watch.trial(0.01, 1.0), watch.trial(0.08, 8.0)]
    assert best_rate(trials, CPU, 0.1) == pytest.approx(100)
    assert watch.prepared == [1.0]


def test_without_memory_for_any_trial_the_rate_is_unknown() -> None:
    def prepare() -> Callable[[], object]:
        raise torch.OutOfMemoryError

    assert best_rate([Trial(1.0, prepare)], CPU, 0.01) is None
