"""DeepSpeed's Adam for the host, which has to be compiled."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import nn
from torch.utils import cpp_extension

from benchbox.worker.models import UnsupportedCase

OPTIMIZER_NAME = "deepspeed.ops.adam.DeepSpeedCPUAdam(adamw_mode=False)"


def host_adam(parameters: Iterable[nn.Parameter], learning_rate: float) -> torch.optim.Optimizer:
    """Adam as torch has it (not AdamW), over weights that lie in host memory.

    Raises:
        UnsupportedCase: the extension cannot be built here.
    """
    from deepspeed.ops.adam import DeepSpeedCPUAdam

    with own_folder():
        _build()
        optimizer: torch.optim.Optimizer = DeepSpeedCPUAdam(parameters, lr=learning_rate, adamw_mode=False)
    return optimizer


def why_not_built() -> str | None:
    """Build it, where that has not been done; why that cannot be done, ``None`` where it is there.

    The first call in an environment may take minutes, later ones take a second.
    """
    from benchbox.worker.strategies.zero import import_quietly

    import_quietly()
    try:
        with own_folder():
            _build()
    except UnsupportedCase as error:
        return str(error)
    return None


@contextlib.contextmanager
def own_folder() -> Iterator[None]:
    """Have torch build in a folder of this environment's own, unless the user has named one.

    By itself torch has one for all environments of a Python version, and two of them that include headers
    from different places rebuild the extension by turns.
    """
    if "TORCH_EXTENSIONS_DIR" in os.environ:
        yield
        return
    of = hashlib.blake2s(f"{sys.prefix}\n{torch.__version__}".encode()).hexdigest()[:12]
    os.environ["TORCH_EXTENSIONS_DIR"] = str(Path(cpp_extension.get_default_build_root(), f"benchbox-{of}"))
    try:
        yield
    finally:
        del os.environ["TORCH_EXTENSIONS_DIR"]


def _build() -> None:
    from deepspeed.ops.op_builder import CPUAdamBuilder

    folder = Path(cpp_extension._get_build_directory(CPUAdamBuilder.NAME, verbose=False))  # noqa: SLF001
    with (folder / "one-at-a-time").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # the kernel lets go of this one when a builder is killed
        (folder / "lock").unlink(missing_ok=True)  # torch's own stays, and is waited for for ever
        try:
            CPUAdamBuilder().load(verbose=False)
        except Exception as error:
            raise UnsupportedCase(f"DeepSpeedCPUAdam cannot be built: {first_error(str(error))}") from error


def first_error(text: str) -> str:
    """The line that says what is wrong: the compiler's first error, or else the first line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no reason given"]
    return next((line for line in lines if " error: " in line or "fatal error" in line), lines[0])
