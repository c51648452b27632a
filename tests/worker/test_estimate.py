"""Estimates: parts by formula, whether they fit, the largest batch, and models that cannot be traced."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from benchbox.schema import Case, CaseEstimate, EstimateTask, MemoryEstimate
from benchbox.worker.estimate import Estimator
from benchbox.worker.strategy_memory import BUCKET_ELEMENTS
from tests.factories import NUM_PARAMETERS, make_case

GIB = 1 << 30
PSI = NUM_PARAMETERS["reference-cnn"]
SMALL: dict[str, Any] = {"model": "small-cnn", "input_shape": (1, 28, 28), "num_classes": 10}

MODELS = """
import torch
from torch import nn

class Quadratic(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(16, 4)
    def forward(self, x):
        y = self.inner(x)
        return (y @ y.T).softmax(-1) @ y

class LooksAtData(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(16, 4)
    def forward(self, x):
        return self.inner(x) * (2 if x.sum().item() > 0 else 1)

class TiedWithBuffers(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(16, 16), nn.BatchNorm1d(16), nn.Linear(16, 16)
        self.second.weight = self.first.weight
        self.last = nn.Linear(16, 4)
    def forward(self, x):
        return self.last(self.second(self.norm(self.first(x))))

def quits():
    raise SystemExit(3)
"""


def estimator(
    *cases: Case,
    device: str = "gpu",
    capability: str | None = "9.0",
    memory: int | None = None,
    folder: str = "",
) -> Estimator:
    return Estimator(
        EstimateTask(
            cases=cases,
            device=device,  # type: ignore[arg-type]
            compute_capability=capability,
            device_memory_bytes=memory,
            import_dirs=(folder,) if folder else (),
            out="",
        )
    )


def answer(case: Case, **about: Any) -> CaseEstimate:
    return estimator(case, **about).answer(case)


def known(case: Case, **about: Any) -> MemoryEstimate:
    estimate = answer(case, **about).estimate
    assert estimate is not None
    return estimate


@pytest.fixture
def own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "models_to_estimate.py").write_text(MODELS)
    sys.modules.pop("models_to_estimate", None)
    return str(tmp_path)


def own(name: str, **changes: Any) -> Case:
    return make_case(
        model=f"models_to_estimate:{name}",
        input_shape=(16,),
        num_classes=4,
        **({"precision": "fp32"} | changes),
    )


def test_a_peak_lies_within_its_interval_and_above_its_states() -> None:
    estimate = known(make_case())
    for middle, interval in (
        (estimate.peak_allocated_bytes, estimate.peak_allocated_interval_bytes),
        (estimate.peak_device_bytes, estimate.peak_device_interval_bytes),
    ):
        assert interval.low < middle < interval.high
    assert estimate.peak_reserved_bytes is not None
    assert 4 * 4 * PSI < estimate.peak_allocated_bytes <= estimate.peak_reserved_bytes
    assert estimate.peak_device_bytes == estimate.peak_reserved_bytes + estimate.context_bytes
    assert (estimate.fits, estimate.largest_per_device_batch_size) == (None, None)


def test_a_cpu_keeps_no_account_but_has_a_resident_size() -> None:
    estimate = known(make_case(), device="cpu", capability=None)
    assert estimate.peak_reserved_bytes is None
    assert estimate.peak_allocated_interval_bytes.low == estimate.peak_allocated_bytes
    assert estimate.peak_device_bytes > estimate.peak_allocated_bytes + estimate.context_bytes


def test_the_largest_batch_fits_and_one_more_does_not() -> None:
    largest = known(make_case(), memory=16 * GIB).largest_per_device_batch_size
    assert largest is not None
    at, above = (
        known(make_case(per_device_batch_size=size), memory=16 * GIB) for size in (largest, largest + 1)
    )
    assert at.fits is True
    sure = 0.985 * 16 * GIB  # the driver keeps a part of what it reports
    assert at.peak_device_interval_bytes.high <= sure < above.peak_device_interval_bytes.high
    assert (above.fits, above.device_memory_bytes) == (None, 16 * GIB)
    assert above.fits is None  # its interval spans the limit
    assert known(make_case(per_device_batch_size=4 * largest), memory=16 * GIB).fits is False


def test_ranks_share_the_memory_of_their_host() -> None:
    one, two = (
        known(make_case(strategy="ddp", world_size=size, **SMALL), device="cpu", memory=8 * GIB)
        for size in (1, 2)
    )
    assert (one.device_memory_bytes, two.device_memory_bytes) == (8 * GIB, 4 * GIB)


def test_where_not_even_one_sample_fits_there_is_no_largest_batch() -> None:
    estimate = known(make_case(), memory=2 * GIB)
    assert (estimate.fits, estimate.largest_per_device_batch_size) == (False, None)


@pytest.mark.parametrize(
    ("strategy", "parameters", "gradients", "optimizer", "host"),
    [
        ("single", 4, 4, 8, 0),
        ("ddp", 4, 4, 8, 0),
        ("zero1", 2, 2, 12 / 4, 0),
        ("zero2", 2, 2 / 4, 12 / 4, 0),
        ("zero3", 2 / 4, 2 / 4, 12 / 4, 0),
        ("zero2-offload", 2, 0, 0, 16 / 4),
        ("zero3-offload", 0, 0, 0, 18 / 4),
        ("fsdp2", 4 / 4, 4 / 4, 8 / 4, 0),
    ],
)
def test_states_in_bf16_over_four_ranks_are_those_of_the_papers(
    strategy: str, parameters: float, gradients: float, optimizer: float, host: float
) -> None:
    world_size = 1 if strategy == "single" else 4
    estimate = known(make_case(strategy=strategy, world_size=world_size, precision="bf16"))
    found = (
        estimate.parameters_bytes,
        estimate.gradients_bytes,
        estimate.optimizer_state_bytes,
        estimate.host_bytes,
    )
    assert found == pytest.approx([n * PSI for n in (parameters, gradients, optimizer, host)], rel=1e-6)


def test_buckets_of_ddp_and_deepspeed_count() -> None:
    single, ddp = (known(make_case(strategy=name)) for name in ("single", "ddp"))
    assert ddp.communication_buffers_bytes == 4 * PSI
    assert ddp.peak_allocated_bytes - single.peak_allocated_bytes == pytest.approx(4 * PSI, rel=0.01)
    zero = known(make_case(strategy="zero1", world_size=2, precision="bf16"))
    assert zero.communication_buffers_bytes == 2 * BUCKET_ELEMENTS
    assert zero.peak_allocated_bytes > zero.communication_buffers_bytes + (2 + 2 + 6) * PSI


def test_on_a_cpu_a_bucket_takes_what_fills_it_and_offloading_moves_nothing_away() -> None:
    zero, offloaded = (
        known(make_case(strategy=name, world_size=2, precision="fp32"), device="cpu")
        for name in ("zero2", "zero2-offload")
    )
    assert zero.communication_buffers_bytes == 4 * PSI
    assert offloaded.peak_allocated_bytes >= offloaded.host_bytes + 4 * PSI


def test_more_ranks_need_less_each() -> None:
    peaks = [
        known(make_case(strategy="zero3", world_size=size, precision="bf16")).peak_allocated_bytes
        for size in (1, 2, 8)
    ]
    assert peaks == sorted(peaks, reverse=True)


def test_every_micro_batch_on_the_device_counts() -> None:
    ten, four = (known(make_case(gradient_accumulation_steps=steps, **SMALL)) for steps in (10, 4))
    assert ten.batch_bytes == pytest.approx(2.5 * four.batch_bytes)
    assert ten.peak_allocated_bytes > four.peak_allocated_bytes


@pytest.mark.parametrize("data", ["device", "host"])
def test_every_micro_batch_counts_on_a_cpu_wherever_it_comes_from(data: str) -> None:
    sixteen, four = (
        known(make_case(gradient_accumulation_steps=steps, data=data, **SMALL), device="cpu")
        for steps in (16, 4)
    )
    assert sixteen.batch_bytes == pytest.approx(4 * four.batch_bytes)
    assert sixteen.peak_allocated_bytes - four.peak_allocated_bytes >= 2 * four.batch_bytes


def test_a_gpu_gets_micro_batches_of_the_host_one_by_one() -> None:
    sixteen, four = (
        known(make_case(gradient_accumulation_steps=steps, data="host", **SMALL)) for steps in (16, 4)
    )
    assert sixteen.batch_bytes == four.batch_bytes


def test_compiling_widens_the_interval_only() -> None:
    eager, compiled = (known(make_case(compile=compiles)) for compiles in (False, True))
    assert compiled.peak_allocated_bytes == eager.peak_allocated_bytes
    assert compiled.peak_allocated_interval_bytes.low < eager.peak_allocated_interval_bytes.low
    assert compiled.peak_allocated_interval_bytes.high > eager.peak_allocated_interval_bytes.high


@pytest.mark.parametrize(
    ("device", "capability", "precision", "reason"),
    [
        ("cpu", None, "fp16", "CPU"),
        ("cpu", None, "tf32", "CPU"),
        ("gpu", "7.5", "bf16", "compute capability"),
    ],
)
def test_a_precision_that_the_device_lacks_has_no_estimate(
    device: str, capability: str | None, precision: str, reason: str
) -> None:
    found = answer(make_case(precision=precision, **SMALL), device=device, capability=capability)
    assert found.estimate is None
    assert reason in (found.unknown_reason or "")


def test_another_vendors_capability_is_no_number() -> None:
    assert known(make_case(precision="bf16", **SMALL), capability="gfx90a").peak_allocated_bytes


def test_a_model_that_grows_faster_than_its_batch_is_traced_as_it_is(own_models: str) -> None:
    small, large = (
        known(own("Quadratic", per_device_batch_size=size), memory=GIB * 80, folder=own_models)
        for size in (100, 1000)
    )
    assert small.largest_per_device_batch_size is None
    assert large.saved_activations_bytes > 50 * small.saved_activations_bytes


def test_tied_weights_count_once_and_buffers_are_parameters(own_models: str) -> None:
    estimate = known(own("TiedWithBuffers"), device="cpu", folder=own_models)
    num_parameters = 16 * 16 + 16 + 16 + 16 * 4 + 4 + 2 * 16
    assert estimate.gradients_bytes == 4 * num_parameters
    assert estimate.parameters_bytes == 4 * (num_parameters + 2 * 16) + 8


@pytest.mark.parametrize(
    ("name", "reason"), [("LooksAtData", "fake tensors"), ("quits", "SystemExit"), ("absent", "absent")]
)
def test_a_model_that_cannot_be_traced_says_why_and_ends_none_other(
    own_models: str, name: str, reason: str
) -> None:
    bad, good = own(name), make_case(**SMALL)
    both = estimator(bad, good, folder=own_models)
    for _ in range(2):
        found = both.answer(bad)
        assert found.estimate is None
        assert reason in (found.unknown_reason or "")
    assert both.answer(good).estimate is not None
