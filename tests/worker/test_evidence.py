"""The passes that find out why: what they count, that shares add up, and that they keep to their time."""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from msgspec.structs import replace
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from benchbox.schema import Case, RankResult
from benchbox.worker import evidence, profile, turns
from benchbox.worker.attempt import run_attempt
from benchbox.worker.batch_split import split_batch
from benchbox.worker.clock import make_clock
from benchbox.worker.counting import StepCounter
from benchbox.worker.data import make_batches
from benchbox.worker.engine import Engine
from benchbox.worker.operators import classify
from benchbox.worker.profile import profile_step
from benchbox.worker.ranks import ALONE
from benchbox.worker.strategies import make_engine
from tests.worker.tasks import CPU, SMALL_CNN, make_case, make_task


def engine_and_batch(case: Case, folder: Path) -> tuple[Engine, Any]:
    engine = make_engine(case, CPU, ())
    return engine, next(make_batches(make_task(folder, case), CPU))


@pytest.mark.parametrize(
    ("name", "operator_class"),
    [
        ("aten::addmm", "matmul"),
        ("aten::mkldnn_convolution", "convolution"),
        ("aten::convolution_backward", "convolution"),
        ("aten::max_pool2d_with_indices_backward", "pooling"),
        ("aten::threshold_backward", "activation"),
        ("aten::_log_softmax_backward_data", "loss"),
        ("aten::_softmax", "activation"),
        ("aten::native_batch_norm", "normalization"),
        ("aten::copy_", "copy"),
        ("Optimizer.step#Adam.step", "optimizer"),
        ("aten::_fused_adam_", "optimizer"),
        ("c10d::allreduce_", "communication"),
        ("ncclDevKernel_AllReduce_Sum_f32_RING_LL", "communication"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n", "matmul"),
        ("sm90_xmma_wgrad_implicit_gemm_indexed_tf32f32", "convolution"),
        ("Memcpy HtoD (Pinned -> Device)", "copy"),
        ("aten::add_", None),
        ("aten::view", None),
        ("autograd::engine::evaluate_function: ConvolutionBackward0", None),
    ],
)
def test_operators_and_kernels_are_known_by_name(name: str, operator_class: str | None) -> None:
    assert classify(name) == operator_class


def test_flops_are_torchs_own_count_and_bytes_are_each_tensor_once() -> None:
    a, b = torch.randn(32, 64), torch.randn(64, 16)
    with StepCounter() as counter:
        a @ b
    assert counter.flops == {"matmul": 2 * 32 * 64 * 16}
    assert counter.least_bytes == {"matmul": 4 * (32 * 64 + 64 * 16 + 32 * 16)}


@pytest.mark.parametrize(
    ("operator", "num_moved"),
    [
        (torch.relu, 2),
        (lambda x: x.add_(x), 2),
        (lambda x: x.add_(1), 2),
        (lambda x: x.fill_(0), 1),
        (lambda x: x.copy_(torch.empty(1000)), 2),
        (lambda x: x.view(10, 100), 0),
        (lambda x: x[:10].expand(10, 10), 0),
        (lambda x: torch.relu(x[:1].expand(1000)), 1.001),
    ],
)
def test_what_is_only_written_is_not_read_and_a_view_moves_nothing(operator: Any, num_moved: float) -> None:
    x = torch.zeros(1000)
    with StepCounter() as counter:
        operator(x)
    assert sum(counter.least_bytes.values()) == round(4000 * num_moved)


def test_the_fused_optimizer_reads_four_tensors_and_writes_three() -> None:
    module = torch.nn.Linear(100, 100, bias=False)
    optimizer = torch.optim.Adam(module.parameters(), fused=True)
    for _ in range(2):
        functional.mse_loss(module(torch.ones(1, 100)), torch.ones(1, 100)).backward()
        with StepCounter() as counter:
            optimizer.step()
    assert counter.least_bytes["optimizer"] == pytest.approx(7 * 4 * 100 * 100, rel=0.01)


def test_without_kernels_in_the_profile_nothing_is_known_of_the_device(tmp_path: Path) -> None:
    """As on a GPU where CUPTI may not be used: it was not idle for the whole step."""
    engine, batch = engine_and_batch(make_case(), tmp_path)
    profiler, step_time_ns = profile._look(engine, batch)
    step = profile._read(profiler, step_time_ns, StepCounter(), torch.device("cuda"), compiled=False)
    assert (step.device_idle_ns, step.num_kernels) == (None, None)


@pytest.mark.parametrize("case", [make_case(), make_case(SMALL_CNN, gradient_checkpointing=True)])
def test_a_profiled_step_has_the_hardwares_flops_and_its_operators_fill_it(
    case: Case, tmp_path: Path
) -> None:
    engine, batch = engine_and_batch(case, tmp_path)
    with FlopCounterMode(display=False) as exact:
        engine.step(batch)
    step = profile_step(engine, batch, num_looks=5, compiled=False, trace_path=None)
    assert sum(o.flops or 0 for o in step.operators) == exact.get_total_flops()
    told = sum(o.time_ns for o in step.operators)
    assert 0.5 * step.step_time_ns < told < 1.05 * step.step_time_ns
    assert (step.device_idle_ns, step.num_kernels) == (None, None)
    classes = [o.operator_class for o in step.operators]
    assert len(set(classes)) == len(classes)
    assert {"matmul", "activation", "loss", "optimizer"} <= set(classes)
    assert ("convolution" in classes) == (case.model == "small-cnn")


def test_a_compiled_steps_bytes_are_unknown(tmp_path: Path) -> None:
    engine, batch = engine_and_batch(make_case(), tmp_path)
    step = profile_step(engine, batch, num_looks=1, compiled=True, trace_path=None)
    assert all(operator.least_bytes is None for operator in step.operators)


def test_the_trace_is_kept_for_perfetto(tmp_path: Path) -> None:
    path = tmp_path / "traces" / "case.json.gz"
    engine, batch = engine_and_batch(make_case(), tmp_path)
    profile_step(engine, batch, num_looks=1, compiled=False, trace_path=path)
    names = {event.get("name") for event in json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]}
    assert {"aten::addmm", "aten::_fused_adam_"} <= names


def timed(monkeypatch: pytest.MonkeyPatch, step_ns: Any) -> None:
    """Let turns take as long as ``step_ns(samples in the batch)`` says."""

    def turn(step: Any, device: torch.device, num_steps: int) -> float:
        return float(step_ns(len(step.args[0][0][1])))

    monkeypatch.setattr(turns, "time_turn", turn)


def test_a_straight_line_is_split_into_what_made_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    engine, batch = engine_and_batch(make_case(per_device_batch_size=7), tmp_path)
    drift = itertools.count()
    timed(monkeypatch, lambda samples: 5_000_000 + 1_000_000 * samples + 1000 * next(drift))
    split = split_batch(engine, batch, num_steps=2, num_rounds=3)
    assert (split.half_batch_size, split.num_steps) == (3, 12)
    assert split.per_sample_ns == pytest.approx(1_000_000, rel=0.01)
    assert split.fixed_ns == pytest.approx(5_000_000, rel=0.01)
    assert split.fixed_interval_ns.low <= split.fixed_ns <= split.fixed_interval_ns.high
    assert split.full_step_time_ns > split.half_step_time_ns


def test_a_batch_is_halved_in_each_micro_batch(tmp_path: Path) -> None:
    case = make_case(per_device_batch_size=4, gradient_accumulation_steps=3)
    engine, batch = engine_and_batch(case, tmp_path)
    split = split_batch(engine, batch, num_steps=1, num_rounds=1)
    assert split.half_batch_size == 2
    line = split.fixed_ns + 12 * split.per_sample_ns
    assert line == pytest.approx(split.full_step_time_ns, rel=0.01, abs=100)


def attempt(folder: Path, case: Case, **measure: Any) -> RankResult:
    task = make_task(folder, case, extra_passes=True, **measure)
    run_attempt(task)
    rank = msgspec.json.decode(Path(task.attempt_dir, "rank0.json").read_bytes(), type=RankResult)
    assert (rank.outcome, rank.reason, rank.extra_passes_failed_reason) == ("ok", None, None)
    return rank


def test_an_attempt_makes_all_passes_that_make_sense(tmp_path: Path) -> None:
    case = make_case(data="loader", num_loader_workers=1)
    rank = attempt(tmp_path, case, max_seconds=1.0, max_measured_steps=2000, repetitions=1000)
    assert rank.profile is not None
    assert rank.batch_split is not None
    assert rank.input_ablation is not None
    assert rank.input_ablation.loaded_step_time_ns > 0
    assert rank.input_ablation.on_device_step_time_ns > 0


def test_a_single_sample_has_no_half_and_a_ready_batch_no_input(tmp_path: Path) -> None:
    rank = attempt(tmp_path, make_case(per_device_batch_size=1), max_seconds=0.5, repetitions=1000)
    assert rank.profile is not None
    assert (rank.batch_split, rank.input_ablation) == (None, None)


def spent(
    monkeypatch: pytest.MonkeyPatch, folder: Path, left_steps: float, started_at_ns: int = 0, **case: Any
) -> list[str]:
    """The passes that are made where as much time is left as ``left_steps`` steps of a second take."""
    found = []
    made = {"profile": evidence.profile, "input": evidence.input_ablation, "split": evidence.batch_split}
    for name, module in made.items():
        function = {"profile": "profile_step", "input": "ablate_input", "split": "split_batch"}[name]

        def note(*_: object, name: str = name, **numbers: Any) -> None:
            count = numbers.get("num_looks") or numbers.get("num_rounds")
            found.append(f"{name} {count}" if count else name)

        monkeypatch.setattr(module, function, note)
    # Time stands still: what passes would take is not taken, so each sees what is left at the start.
    monkeypatch.setattr(evidence.time, "monotonic", lambda: 0.0)
    one = make_case(case)
    engine, _ = engine_and_batch(one, folder)
    task = make_task(folder, one, repetitions=1)
    batches = make_batches(task, CPU)
    steps = [10**9] * round(left_steps)
    for _ in evidence.collect_evidence(
        engine, batches, task, ALONE, steps, spent_s=0.0, started_at_ns=started_at_ns
    ):
        pass
    return found


@pytest.mark.parametrize(
    ("left_steps", "passes"),
    [
        (2, []),
        (4, ["profile 1"]),
        (8, ["profile 1", "input 1", "split"]),
        (40, ["profile 3", "input 3", "split"]),
    ],
)
def test_passes_are_cut_to_the_time_that_is_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, left_steps: float, passes: list[str]
) -> None:
    assert spent(monkeypatch, tmp_path, left_steps, data="host") == passes


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_passes_keep_to_their_time_on_a_gpu_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: str
) -> None:
    """There each turn takes one step that is not counted. Every step takes a second, and 34 may be spent."""
    now_s = 0.0

    class SlowEngine:
        device: torch.device

        def step(self, batch: object) -> None:
            nonlocal now_s
            now_s += 1.0

    engine = SlowEngine()
    engine.device = torch.device(device)
    monkeypatch.setattr(evidence.time, "monotonic", lambda: now_s)
    monkeypatch.setattr(evidence.profile, "on_device", lambda engine, batch: batch)
    monkeypatch.setattr(turns, "make_clock", lambda device, size: make_clock(CPU, size))
    case = make_case(data="host", per_device_batch_size=2)
    task = make_task(tmp_path, case, repetitions=1, profile_step=False)
    found = evidence.collect_evidence(
        engine,  # type: ignore[arg-type]
        make_batches(task, CPU),
        task,
        ALONE,
        [10**9] * 40,
        spent_s=0.0,
        started_at_ns=0,
    )
    assert [*itertools.chain.from_iterable(found)] == ["input_ablation", "batch_split"]
    assert now_s <= 0.85 * 40


def test_no_pass_makes_a_slow_case_one_that_hangs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Time stands at 0, and the process began so long ago that half of the time to hang is over."""
    timeout_s = make_task(tmp_path, make_case()).measure.effective_timeout_s
    assert spent(monkeypatch, tmp_path, 40, started_at_ns=round(-0.5e9 * timeout_s)) == []


@pytest.mark.parametrize(
    ("probe_share_s", "left_s"),
    [(0.0, 7.65), (5.0, 2.65), (100.0, 0.25 * 8.5 - 0.85)],
    ids=["no probe", "a probe", "a probe that takes longer than all measuring"],
)
def test_the_probe_counts_among_what_a_case_may_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, probe_share_s: float, left_s: float
) -> None:
    """Ten seconds are measured in two repetitions, 8.5 may be spent, of which phases took 0.85."""
    task = replace(make_task(tmp_path, make_case(), repetitions=2), probe_share_s=probe_share_s)
    monkeypatch.setattr(evidence.time, "monotonic", lambda: 1e6)
    budget = evidence.Budget(task, [1_000_000_000] * 5, spent_s=0.85, started_at_ns=10**15)
    assert budget.left_s() == pytest.approx(left_s)
