"""Estimates asked of a real worker server, user models that misbehave among them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchbox.measure.estimate import (
    EstimateDevice,
    detected_device,
    device_of_environment,
    device_of_profile,
    estimates_for,
    why_skipped,
)
from benchbox.measure.launch import WorkerServer
from tests.factories import make_case, make_environment, make_profile
from tests.runs import copy_user_models
from tests.user_models import NUM_CLASSES, NUM_INPUTS

GPU = EstimateDevice("a GPU", "gpu", "9.0", 80 << 30)
GOOD = make_case(model="small-cnn", input_shape=(1, 28, 28), num_classes=10)


@pytest.fixture(scope="module")
def server() -> Iterator[WorkerServer]:
    with WorkerServer({}) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> str:
    copy_user_models(tmp_path)
    return str(tmp_path)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("segfaults", "status -11"),
        ("ends_the_process", "status 7"),
        ("calls_sys_exit", "there is nothing to do"),
        ("prints_to_a_terminal", "the last line"),
        ("hangs", "tracing was ended after"),
    ],
)
def test_a_model_that_misbehaves_costs_its_own_cases_only(
    server: WorkerServer, folder: str, name: str, reason: str
) -> None:
    bad = [
        make_case(
            model=f"zoo.models:{name}",
            input_shape=(NUM_INPUTS,),
            num_classes=NUM_CLASSES,
            per_device_batch_size=size,
        )
        for size in (1, 2)
    ]
    other = make_case(
        model="zoo.models:good", input_shape=(NUM_INPUTS,), num_classes=NUM_CLASSES, per_device_batch_size=3
    )
    cases = [GOOD, bad[0], other, bad[1]]
    found = estimates_for(cases, GPU, lambda: server, (folder,), timeout_s=10 if name == "hangs" else 100)
    assert set(found) == {case.case_id for case in cases}
    for case in bad:
        assert found[case.case_id].estimate is None
        assert reason in (found[case.case_id].unknown_reason or "")
    for case in (GOOD, other):
        estimate = found[case.case_id].estimate
        assert estimate is not None
        assert estimate.fits is True


def test_a_profile_gives_the_memory_that_drivers_report() -> None:
    assert device_of_profile(make_profile()).memory_bytes == 80 << 30
    reported = device_of_profile(make_profile(memory_mib_reported=(81_559, 81_000)))
    assert reported == EstimateDevice("H100-SXM5-80GB", "gpu", None, 81_000 << 20)
    assert device_of_profile(make_profile(memory_gib=None)).memory_bytes is None


def test_a_run_is_foretold_for_the_device_that_it_trains_on() -> None:
    gpu, cpu = (device_of_environment(make_environment(kind)) for kind in ("cuda", "cpu"))
    assert gpu == EstimateDevice("NVIDIA H100 80GB HBM3", "gpu", "9.0", 85_520_809_984)
    assert cpu == EstimateDevice("AMD EPYC 7B13", "cpu", None, 8 << 30)


def test_only_what_surely_does_not_fit_is_skipped(server: WorkerServer) -> None:
    reasons = []
    for gib in (1, 5, 80):
        device = GPU._replace(memory_bytes=gib << 30)
        case = make_case()
        reasons.append(why_skipped(estimates_for([case], device, lambda: server, ())[case.case_id]))
    assert reasons[0] is not None
    assert reasons[0].endswith("the device has 1 GiB")
    assert reasons[1:] == [None, None]  # between the bounds, and well within
    assert why_skipped(None) is None


def test_this_machine_has_a_device_with_memory() -> None:
    assert (detected_device().memory_bytes or 0) > 0
