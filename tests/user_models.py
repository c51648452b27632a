"""Models as a user might write them, most of them bad; tests copy this file beside a suite.

Where ``BENCHBOX_TEST_NOTES`` names a folder, each factory starts a child that would outlive it and notes both
process numbers there.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

NUM_INPUTS, NUM_CLASSES = 16, 4


class NotANumber(nn.Module):
    """Computes NaN from anything."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = good()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) * float("nan")


class FailsOnDenormals(nn.Module):
    """Trains well where a product that is below the smallest normal number is zero, in every thread."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = good()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        products = torch.full((1 << 20,), 1e-38) * 0.1
        kept = products.view(torch.int32).count_nonzero().item()
        if kept:
            raise RuntimeError(f"{kept} denormal numbers were kept")
        return self.inner(x)


class TroubleOnceTrained(nn.Module):
    """Trains well; the next model of the same process is built after measuring, and then trouble comes."""

    has_trained = False

    def __init__(self, trouble: Callable[[], object]) -> None:
        super().__init__()
        if TroubleOnceTrained.has_trained:
            trouble()
        self.inner = good()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        TroubleOnceTrained.has_trained = True
        return self.inner(x)


class TroubleOnRankOne(nn.Module):
    """Trains well for a few steps; then ``trouble`` comes over rank 1, while the others go on."""

    def __init__(self, trouble: Callable[[], float], rank: str = "1") -> None:
        super().__init__()
        self.inner = good()
        self.trouble = trouble
        self.rank = rank
        self.num_steps = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.num_steps += 1
        comes = self.num_steps == 5 and os.environ.get("RANK") == self.rank
        return self.inner(x) * (self.trouble() if comes else 1.0)


def good() -> nn.Module:
    _start_a_child()
    return nn.Linear(NUM_INPUTS, NUM_CLASSES)


def raises_memory_error() -> nn.Module:
    _start_a_child()
    raise MemoryError


def allocates_beyond_its_limit() -> nn.Module:
    _start_a_child()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + (256 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    return nn.Linear(NUM_INPUTS, 50_000_000)


def hangs() -> nn.Module:
    _start_a_child()
    while True:
        time.sleep(60)


def segfaults() -> nn.Module:
    _start_a_child()
    ctypes.string_at(0)
    raise AssertionError("unreachable")


def segfaults_after_measuring() -> nn.Module:
    return TroubleOnceTrained(lambda: ctypes.string_at(0))


def hangs_after_measuring() -> nn.Module:
    return TroubleOnceTrained(_sleep_for_ever)


def ends_the_process() -> nn.Module:
    _start_a_child()
    os._exit(7)


def calls_sys_exit() -> nn.Module:
    _start_a_child()
    sys.exit("there is nothing to do")


def gives_nan() -> nn.Module:
    return NotANumber()


def fails_on_denormals() -> nn.Module:
    return FailsOnDenormals()


def needs_a_missing_extension() -> nn.Module:
    _start_a_child()
    import an_extension_that_nobody_built  # type: ignore[import-not-found]  # noqa: F401

    raise AssertionError("unreachable")


def prints_to_a_terminal() -> nn.Module:
    _start_a_child()
    sys.stderr.write("\x1b[2J\x1b]0;title\x07\x9b31mred\r\u202e\n")
    raise RuntimeError("\x1b[31mthe last line\x1b[0m")


def kills_its_server() -> nn.Module:
    _start_a_child()
    os.kill(os.getppid(), signal.SIGKILL)
    return hangs()


def returns_no_module() -> object:
    _start_a_child()
    return "a model"


def asks_for_a_gpu() -> nn.Module:
    torch.cuda.is_available()
    return good()


def rank_1_raises() -> nn.Module:
    def trouble() -> float:
        raise ArithmeticError("of rank 1")

    return TroubleOnRankOne(trouble)


def rank_1_raises_and_rank_0_heeds_nothing() -> nn.Module:
    if os.environ.get("RANK") == "1":
        return rank_1_raises()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return TroubleOnRankOne(_sleep_for_ever, rank="0")


def rank_1_has_no_memory() -> nn.Module:
    def trouble() -> float:
        raise MemoryError

    return TroubleOnRankOne(trouble)


def rank_1_gives_nan() -> nn.Module:
    return TroubleOnRankOne(lambda: float("nan"))


def rank_1_segfaults() -> nn.Module:
    def trouble() -> float:
        os.kill(os.getpid(), signal.SIGSEGV)
        return 1.0

    return TroubleOnRankOne(trouble)


def rank_1_hangs() -> nn.Module:
    return TroubleOnRankOne(_sleep_for_ever)


def rank_1_ends_without_a_word() -> nn.Module:
    def trouble() -> float:
        os._exit(7)

    return TroubleOnRankOne(trouble)


def _sleep_for_ever() -> float:
    while True:
        time.sleep(60)


def _start_a_child() -> None:
    folder = os.environ.get("BENCHBOX_TEST_NOTES")
    if folder is not None:
        child = subprocess.Popen(["sleep", "600"])
        Path(folder, f"{os.getpid()}-{time.monotonic_ns()}").write_text(f"{os.getpid()} {child.pid}")
