"""Strategies, one module each. FSDP and DeepSpeed are imported only where they are used."""

from __future__ import annotations

import torch

from benchbox.schema import Case
from benchbox.worker.engine import Engine


def make_engine(
    case: Case, device: torch.device, import_dirs: tuple[str, ...], *, on_host: bool = False
) -> Engine:
    """The case's model in its strategy. All but ``single`` need a process group.

    They draw the weights on the host: from one seed each device type draws others, and no device has to hold
    the whole model. ``on_host`` asks the same of ``single``.

    Raises:
        UnsupportedCase: the strategy cannot train this case here.
    """
    match case.strategy:
        case "single":
            from benchbox.worker.strategies.single import SingleEngine

            return SingleEngine(case, device, import_dirs, on_host=on_host)
        case "ddp":
            from benchbox.worker.strategies.ddp import DdpEngine

            return DdpEngine(case, device, import_dirs)
        case "fsdp2":
            from benchbox.worker.strategies.fsdp2 import Fsdp2Engine

            return Fsdp2Engine(case, device, import_dirs)
        case _:
            from benchbox.worker.strategies.zero import ZeroEngine

            return ZeroEngine(case, device, import_dirs)
