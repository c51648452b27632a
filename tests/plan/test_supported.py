"""What is known to be impossible before any process starts."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from benchbox.plan.supported import Machine, why_unsupported
from benchbox.schema import DeviceFacts
from tests.factories import make_case


def gpus(*capabilities: str | None) -> tuple[DeviceFacts, ...]:
    return tuple(
        DeviceFacts(index=index, name=f"GPU {index}", compute_capability=capability)
        for index, capability in enumerate(capabilities)
    )


CPU = Machine(gpus=(), num_usable_processors=2, has_deepspeed=True)
OLD_AND_NEW = Machine(gpus=gpus("9.0", "7.5"), num_usable_processors=64, has_deepspeed=True)
UNTOLD = Machine(gpus=gpus(None), num_usable_processors=64, has_deepspeed=True)
BARE = Machine(gpus=(), num_usable_processors=2, has_deepspeed=False)


@pytest.mark.parametrize(
    ("machine", "fields", "reason"),
    [
        (CPU, {"strategy": "ddp", "world_size": 3}, "world size 3 needs 3 usable processors; this run has 2"),
        (OLD_AND_NEW, {"strategy": "ddp", "world_size": 3}, "world size 3 needs 3 GPUs; this run has 2"),
        (CPU, {"world_size": 2}, "strategy single trains on one device, not on 2"),
        (CPU, {"precision": "tf32"}, "tf32 needs an NVIDIA GPU"),
        (CPU, {"precision": "fp16"}, "fp16 training on a CPU"),
        (
            OLD_AND_NEW,
            {"strategy": "ddp", "world_size": 2, "precision": "bf16"},
            "bf16 needs compute capability 8.0 or later; GPU 1 has 7.5",
        ),
        (BARE, {"strategy": "zero2"}, "zero2 needs deepspeed, which is not installed"),
        (CPU, {"strategy": "fsdp2", "compile": True}, "torch.compile is offered with strategy single"),
        (CPU, {"memory_format": "channels_last", "input_shape": (16,)}, "three dimensions"),
    ],
)
def test_what_cannot_run_is_told_with_the_reason(
    machine: Machine, fields: dict[str, Any], reason: str
) -> None:
    assert reason in (why_unsupported(make_case(**fields), machine) or "")


@pytest.mark.parametrize(
    ("machine", "fields"),
    [
        (CPU, {}),
        (CPU, {"strategy": "zero3", "world_size": 2, "precision": "bf16"}),
        (OLD_AND_NEW, {"precision": "tf32"}),  # the first device can
        (OLD_AND_NEW, {"strategy": "ddp", "world_size": 2, "precision": "fp16"}),
        (UNTOLD, {"precision": "bf16"}),  # the worker will see
        (BARE, {"strategy": "fsdp2", "world_size": 2}),
        (CPU, {"memory_format": "channels_last"}),
    ],
)
def test_nothing_stands_in_the_way_of_the_rest(machine: Machine, fields: dict[str, Any]) -> None:
    assert why_unsupported(make_case(**fields), machine) is None


@pytest.mark.parametrize(
    ("machine", "fields", "compilers"),
    [
        (CPU, {"strategy": "zero2-offload"}, ("c++", "g++", "clang++")),
        (OLD_AND_NEW, {"strategy": "zero3-offload"}, ("c++", "g++", "clang++")),
        (CPU, {"compile": True}, ("c++", "g++", "clang++")),
        (OLD_AND_NEW, {"compile": True}, ("cc", "gcc", "clang")),
    ],
)
def test_one_compiler_is_enough_and_none_is_not(
    machine: Machine, fields: dict[str, Any], compilers: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_case(**fields)
    there: set[str] = set()
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if name in there else None)
    assert f"none of {', '.join(compilers)} is there" in (why_unsupported(case, machine) or "")
    for compiler in compilers:
        there = {compiler}
        assert why_unsupported(case, machine) is None
