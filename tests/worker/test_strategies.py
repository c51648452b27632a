"""Every strategy trains with two ranks over gloo, and computes what one device computes."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from msgspec.structs import replace

from benchbox.schema import MeasureSettings, RankResult, WorkerTask
from benchbox.worker.all_reduce import BUCKET_BYTES
from benchbox.worker.passes import _num_communication_steps
from benchbox.worker.strategies.own_part import take_own
from tests.worker.mixed_model import MIXED, NUM_FROZEN, NUM_TRAINED
from tests.worker.tasks import SMALL_CNN, make_case, make_task
from tests.worker.together import results, torchrun, write_task

pytestmark = pytest.mark.timeout(1860)  # DeepSpeed's Adam for the host is compiled at first use

NUM_PARAMETERS = 693_962
NUM_MIXED = NUM_FROZEN + NUM_TRAINED
STRATEGIES = ("ddp", "fsdp2", "zero1", "zero2", "zero3", "zero2-offload", "zero3-offload")
WAYS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "bf16": {"precision": "bf16"},
    "accumulated": {"gradient_accumulation_steps": 2, "gradient_checkpointing": True},
    "mixed": MIXED,
}
NOT_BY = {"accumulated": ("zero2-offload",), "mixed": ("zero2-offload", "zero3-offload")}
"""One strategy that offloads stands for both, and those without offload do."""
ALL = [(s, way) for s in STRATEGIES for way in WAYS if s not in NOT_BY.get(way, ())]
TRACED = [("ddp", "fp32"), ("zero2", "fp32")]
Ran = tuple[WorkerTask, list[RankResult], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Ran]:
    """All strategies in all ways, in one start of two ranks; and one device on the same global batches."""
    folder = tmp_path_factory.mktemp("strategies")
    tasks: dict[tuple[str, str], WorkerTask] = {}
    for strategy, way in ALL:
        case = make_case(SMALL_CNN | WAYS[way], strategy=strategy, world_size=2)
        tasks[strategy, way] = make_task(
            folder,
            case,
            extra_passes=True,
            timeout_s=900,  # the host's Adam may have to be built first, which no controller has done here
            max_seconds=0.05,
            max_measured_steps=6,
            num_phase_steps=1,
            num_communication_steps=0 if way in ("accumulated", "mixed") else 3,
            num_trajectory_steps=3,
            repetitions=1000 if (strategy, way) in TRACED else 1,  # which is time enough for a profile
            profile_step=(strategy, way) in TRACED,
        )
        if (strategy, way) in TRACED:
            tasks[strategy, way] = replace(
                tasks[strategy, way], trace_path=str(folder / f"{strategy}.json.gz")
            )
    listed = folder / "tasks"
    listed.write_text("\n".join(write_task(task) for task in tasks.values()))
    ended = torchrun("-m", "tests.worker.together", str(listed))
    assert ended.returncode == 0, ended.stderr[-20000:]
    found: dict[tuple[str, str], Ran] = {}
    for key, task in tasks.items():
        inside = [json.loads(Path(task.attempt_dir, f"inside{rank}.json").read_text()) for rank in (0, 1)]
        found[key] = task, results(task), inside
    return found


@pytest.mark.parametrize("key", ALL, ids=" ".join)
def test_both_ranks_end_well_having_taken_the_same_steps(
    ran: dict[tuple[str, str], Ran], key: tuple[str, str]
) -> None:
    first, second = ran[key][1]
    for number, rank in enumerate((first, second)):
        assert (rank.outcome, rank.reason, rank.extra_passes_failed_reason) == ("ok", None, None)
        assert (rank.rank, rank.local_rank, rank.node) == (number, number, 0)
        assert rank.phases is not None
        assert rank.flops is not None
        assert rank.flops.num_parameters == (NUM_MIXED if key[1] == "mixed" else NUM_PARAMETERS)
    assert len(first.step_time_ns) == len(second.step_time_ns) > 0
    assert [w.num_steps for w in first.windows] == [w.num_steps for w in second.windows]
    assert len(first.warmup_step_time_ns) == len(second.warmup_step_time_ns)
    assert (first.warmup_end, first.stop_reason) == (second.warmup_end, second.stop_reason)
    assert first.first_loss != second.first_loss  # each has its own samples


@pytest.mark.parametrize("key", ALL, ids=" ".join)
def test_the_losses_are_those_of_one_device_on_the_same_global_batch(
    ran: dict[tuple[str, str], Ran], key: tuple[str, str]
) -> None:
    first, second = (rank.loss_check for rank in ran[key][1])
    assert first is not None
    assert first == second
    assert first.agrees_with_fp32 is True
    assert first.reference_losses is not None
    if key[1] != "bf16":
        assert first.losses == pytest.approx(first.reference_losses, rel=2e-5)


def test_strategies_share_one_reference(ran: dict[tuple[str, str], Ran]) -> None:
    """But for what has another global batch, as accumulation has, or another model."""
    run_dir = Path(ran["ddp", "fp32"][0].run_dir)
    assert len(list(run_dir.glob("fp32-losses-*"))) == 3


@pytest.mark.parametrize("strategy", ["fsdp2", "zero1", "zero2", "zero3"])
def test_fp32_digests_are_equal(ran: dict[tuple[str, str], Ran], strategy: str) -> None:
    ours, ddps = (ran[name, "fp32"][1][0].loss_check for name in (strategy, "ddp"))
    assert ours is not None
    assert ddps is not None
    assert ours.digest == ddps.digest


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_who_updates_the_weights_is_told(ran: dict[tuple[str, str], Ran], strategy: str) -> None:
    name = ran[strategy, "fp32"][1][0].optimizer
    on_host = "deepspeed.ops.adam.DeepSpeedCPUAdam(adamw_mode=False)"
    assert name == (on_host if strategy.endswith("offload") else "torch.optim.Adam(fused=True)")


@pytest.mark.parametrize("key", TRACED, ids=" ".join)
def test_every_rank_is_profiled_and_rank_0_keeps_the_trace(
    ran: dict[tuple[str, str], Ran], key: tuple[str, str]
) -> None:
    task, both, _ = ran[key]
    for rank in both:
        assert rank.profile is not None
        assert "communication" in {found.operator_class for found in rank.profile.operators}
    assert task.trace_path is not None
    trace = json.loads(gzip.decompress(Path(task.trace_path).read_bytes()))
    assert (trace["distributedInfo"]["rank"], trace["distributedInfo"]["world_size"]) == (0, 2)


# --- communication -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("way", ["fp32", "bf16"])
def test_communication_is_timed_on_every_rank(
    ran: dict[tuple[str, str], Ran], strategy: str, way: str
) -> None:
    for rank in ran[strategy, way][1]:
        found = rank.communication
        assert found is not None
        assert (found.num_steps_on, found.num_steps_off) == (3, 3)
        assert found.step_time_on_ns > 0
        assert found.step_time_off_quickest_ns is not None
        assert 0 < found.step_time_off_quickest_ns <= found.step_time_off_ns
        assert found.exposed_ns == pytest.approx(found.step_time_on_ns - found.step_time_off_ns, abs=2)
        assert found.exposed_interval_ns.low <= found.exposed_ns <= found.exposed_interval_ns.high


@pytest.mark.parametrize(("step_s", "num_steps"), [(0.01, 12), (2.0, 5), (5.0, 1), (9.0, 0)])
def test_so_many_steps_are_taken_for_it_as_leave_time_for_what_follows(step_s: float, num_steps: int) -> None:
    """Six tenths of 42 s, less two steps at the beginning, for steps of both kinds."""
    settings = MeasureSettings(timeout_s=42, num_communication_steps=12)
    found = _num_communication_steps(settings, [round(step_s * 1e9)] * 3, time.monotonic_ns())
    assert found == num_steps


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_all_reduce_is_timed_for_the_same_buckets_on_every_rank(
    ran: dict[tuple[str, str], Ran], strategy: str
) -> None:
    first, second = (rank.all_reduce for rank in ran[strategy, "fp32"][1])
    assert [rate.num_bytes for rate in first] == [rate.num_bytes for rate in second]
    assert [rate.num_bytes for rate in first] == list(BUCKET_BYTES["cpu"][: len(first)])
    assert len(first) > 0
    for ours, theirs in zip(first, second, strict=True):  # of one and the same exchange
        assert 0.2 < ours.bytes_per_s / theirs.bytes_per_s < 5


def test_the_passes_can_be_left_out(ran: dict[tuple[str, str], Ran]) -> None:
    assert ran["ddp", "accumulated"][1][0].communication is None
    assert ran["ddp", "accumulated"][1][0].all_reduce == ()


@pytest.mark.parametrize("key", ALL, ids=" ".join)
def test_a_silent_step_exchanges_nothing(ran: dict[tuple[str, str], Ran], key: tuple[str, str]) -> None:
    """That ranks came back from different numbers of silent steps says so too."""
    assert [inside["silent"] for inside in ran[key][2]] == [{}, {}]


def test_a_silent_step_of_ddp_copies_gradients_into_buckets_as_any_other(
    ran: dict[tuple[str, str], Ran],
) -> None:
    for rank, inside in enumerate(ran["ddp", "fp32"][2]):
        assert inside["bucket_bytes"] == (1 + rank) * 4 * NUM_PARAMETERS


@pytest.mark.parametrize("way", WAYS)
def test_ddps_hook_holds_no_model(ran: dict[tuple[str, str], Ran], way: str) -> None:
    """Its losses are compared with another one, and there may be no room for two."""
    assert [inside["model_is_gone"] for inside in ran["ddp", way][2]] == [True, True]


@pytest.mark.parametrize(
    ("strategy", "way", "bytes_per_step"),
    [
        ("ddp", "fp32", 4 * NUM_PARAMETERS),
        ("ddp", "bf16", 4 * NUM_PARAMETERS),
        ("zero1", "fp32", 4 * NUM_PARAMETERS),
        ("zero1", "bf16", 2 * NUM_PARAMETERS),
        ("zero2", "fp32", 4 * NUM_PARAMETERS),
        ("zero3", "fp32", 4 * NUM_PARAMETERS),
        ("fsdp2", "fp32", 6 * NUM_PARAMETERS),
        ("fsdp2", "bf16", 4 * NUM_PARAMETERS),
    ],
)
def test_the_formula_is_for_two_ranks(
    ran: dict[tuple[str, str], Ran], strategy: str, way: str, bytes_per_step: int
) -> None:
    found = ran[strategy, way][1][0].communication
    assert found is not None
    assert found.bytes_per_step == bytes_per_step
    assert found.bytes_formula.startswith("(W - 1) / W × (")


def expected(must: list[dict[str, Any]], strategy: str) -> dict[str, int]:
    """What calls of an unfrozen small-cnn are to be seen; DeepSpeed's stages 1 and 2 reduce to all ranks."""
    seen: dict[str, int] = {}
    for collective in must:
        kind = collective["kind"].replace("-", "_")
        if kind == "reduce_scatter" and strategy in ("zero1", "zero2", "zero2-offload"):
            kind = "all_reduce"
        size = collective["num_bytes"] // NUM_PARAMETERS
        seen[f"{kind} {size}"] = seen.get(f"{kind} {size}", 0) + collective["times"] * collective["num_bytes"]
    return seen


@pytest.mark.parametrize("key", [key for key in ALL if key[1] != "mixed"], ids=" ".join)
def test_the_formula_counts_what_is_really_sent(
    ran: dict[tuple[str, str], Ran], key: tuple[str, str]
) -> None:
    inside = ran[key][2][0]
    loud = {kind: value for kind, value in inside["loud"].items() if value > 100}  # without single numbers
    want = expected(inside["must"], key[0])
    assert set(loud) == set(want)
    for kind, num_bytes in want.items():
        assert loud[kind] == pytest.approx(num_bytes, rel=0.01)  # padding; small weights are kept by stage 3


@pytest.mark.parametrize(
    ("strategy", "num_bytes"),
    [
        ("ddp", {"all_reduce 4": 4 * NUM_TRAINED}),
        ("fsdp2", {"all_gather 4": 8 * NUM_MIXED, "reduce_scatter 4": 4 * NUM_TRAINED}),
        ("zero1", {"all_reduce 4": 4 * NUM_TRAINED, "all_gather 4": 4 * NUM_TRAINED}),
        ("zero2", {"all_reduce 4": 4 * NUM_TRAINED, "all_gather 4": 4 * NUM_TRAINED}),
        ("zero3", {"all_gather 4": 4 * NUM_MIXED, "reduce_scatter 4": 4 * NUM_TRAINED}),
    ],
)
def test_frozen_weights_are_gathered_and_have_no_gradients(
    ran: dict[tuple[str, str], Ran], strategy: str, num_bytes: dict[str, int]
) -> None:
    inside = ran[strategy, "mixed"][2][0]
    loud = {kind: value for kind, value in inside["loud"].items() if value > 100}
    assert set(loud) == set(num_bytes)
    for kind, sent in num_bytes.items():
        assert loud[kind] == pytest.approx(sent, rel=0.02)  # padding; small weights are kept by stage 3
    by_formula = sorted(collective["num_bytes"] * collective["times"] for collective in inside["must"])
    assert by_formula == sorted(num_bytes.values())


def test_a_rank_that_exchanges_nothing_keeps_its_own_share_of_the_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not what lay in the memory before, which could make Adam skip the step."""
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    output = torch.full((3,), float("nan"))
    take_own(output=output, input=torch.arange(6.0), group=None, op=None, async_op=False)
    assert output.tolist() == [3, 4, 5]
