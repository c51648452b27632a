from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchbox.worker.data import make_batches
from benchbox.worker.failures import MAX_REASON_CHARACTERS, classify
from tests.worker.tasks import CPU, IMAGES, first_error, make_case, make_task


class InductorError(RuntimeError):
    """Named as torch.compile's own."""


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (ValueError("boom"), "crashed", "ValueError: boom"),
        (ValueError(), "crashed", "ValueError"),
        (ValueError("\n\n  first \nsecond"), "crashed", "ValueError: first"),
        (ValueError("\x1b[2Jred\udcff"), "crashed", "ValueError: [2Jred"),
        (MemoryError(), "oom", "MemoryError"),
        (torch.OutOfMemoryError("CUDA out of memory."), "oom", "OutOfMemoryError: CUDA out of memory."),
        (RuntimeError("CUDA error: out of memory\nmore"), "oom", "RuntimeError: CUDA error: out of memory"),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"), "oom", "RuntimeError: CUBLAS_STATUS_ALLOC_FAILED"),
        (
            RuntimeError("NCCL error in: x.cpp:94\nncclE: y\nLast error:\nCuda failure 2 'out of memory'"),
            "oom",
            "RuntimeError: NCCL error in: x.cpp:94: Cuda failure 2 'out of memory'",
        ),
        (
            RuntimeError("NCCL error in: x.cpp:94\nLast error:\nCuda failure 999 'unknown error'"),
            "crashed",
            "RuntimeError: NCCL error in: x.cpp:94: Cuda failure 999 'unknown error'",
        ),
        (
            InductorError("InvalidCxxCompiler: No working C++ compiler found\n\nSet TORCHDYNAMO_VERBOSE"),
            "unsupported",
            "InductorError: InvalidCxxCompiler: No working C++ compiler found",
        ),
        (
            InductorError("TritonMissing: Cannot find a working triton installation."),
            "unsupported",
            "InductorError: TritonMissing: Cannot find a working triton installation.",
        ),
        (
            InductorError("CalledProcessError: gcc failed\nx.c:1: Python.h: No such file"),
            "unsupported",
            "InductorError: CalledProcessError: gcc failed",
        ),
        (
            RuntimeError("CUDA error: no kernel image is available for execution on the device"),
            "unsupported",
            "RuntimeError: CUDA error: no kernel image is available for execution on the device",
        ),
    ],
)  # fmt: skip
def test_an_error_stands_for_an_outcome_and_one_line(error: Exception, outcome: str, reason: str) -> None:
    assert classify(error) == (outcome, reason)


@pytest.mark.parametrize("shape", [(2**50,), (2**48, 3, 224, 224)])
def test_what_torch_says_when_host_memory_runs_out_is_recognized(shape: tuple[int, ...]) -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(shape)
    assert classify(caught.value)[0] == "oom"


def test_a_reason_is_not_of_any_length() -> None:
    assert len(classify(ValueError("x" * 100_000))[1]) == MAX_REASON_CHARACTERS


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_error_in_a_loaders_process_is_told_as_if_it_happened_here(
    tmp_path: Path, num_workers: int
) -> None:
    bad = tmp_path / "images" / "class" / "bad.png"
    bad.parent.mkdir(parents=True)
    bad.write_bytes(b"no image")
    case = make_case(IMAGES, data="folder", data_dir="images", num_loader_workers=num_workers)
    outcome, reason = classify(first_error(make_batches(make_task(tmp_path, case), CPU)))
    assert outcome == "crashed"
    assert reason.startswith(f"OSError: {bad}: cannot be decoded: cannot identify image file")


@pytest.mark.parametrize(
    "text",
    [
        "[third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:35996",
        "NCCL error: remote process exited or there was a network error",
        "failed to recv, got 0 bytes. Connection was likely closed. Did the remote server shutdown or crash?",
    ],
)
def test_a_lost_peer_is_told_from_a_failure_of_ones_own(text: str) -> None:
    assert classify(RuntimeError(text), has_peers=True) == (
        "crashed",
        f"another rank ended: RuntimeError: {text}",
    )
    assert classify(RuntimeError(text)) == ("crashed", f"RuntimeError: {text}")


def test_an_error_of_ones_own_is_ones_own_among_peers_too() -> None:
    assert classify(ValueError("boom"), has_peers=True) == ("crashed", "ValueError: boom")
    assert classify(MemoryError(), has_peers=True) == ("oom", "MemoryError")
