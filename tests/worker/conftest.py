"""What a worker sets for its whole process is put back, because tests share one."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def process_as_it_was() -> Iterator[None]:
    num_threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    paths, modules = list(sys.path), set(sys.modules)
    yield
    torch.set_flush_denormal(False)
    torch.set_num_threads(num_threads)
    torch.backends.cudnn.benchmark = benchmark
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, cudnn
    sys.path[:] = paths
    for name in set(sys.modules) - modules:
        if name.startswith("own_"):
            del sys.modules[name]
