"""What this interpreter's torch says of itself and of the devices it sees."""

from __future__ import annotations

import importlib.metadata
import platform

import torch

from benchbox.schema import DeviceFacts, TorchFacts
from benchbox.worker.engine import set_precision_flags


def torch_facts(cudnn_benchmark: bool) -> TorchFacts:
    """Versions, flags and devices. Opens CUDA where there is one, so call it in a process of its own."""
    set_precision_flags("fp32")
    torch.backends.cudnn.benchmark = cudnn_benchmark
    has_cuda = torch.cuda.is_available()
    has_nccl = has_cuda and torch.distributed.is_available() and torch.distributed.is_nccl_available()
    cudnn = torch.backends.cudnn.version() if has_cuda else None  # type: ignore[no-untyped-call]
    return TorchFacts(
        python=platform.python_version(),
        torch=str(torch.__version__),
        deepspeed=_version("deepspeed"),
        numpy=_version("numpy"),
        cuda=torch.version.cuda,
        cudnn=None if cudnn is None else str(cudnn),
        nccl=".".join(map(str, torch.cuda.nccl.version())) if has_nccl else None,  # type: ignore[no-untyped-call]
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
        has_mkldnn=torch.backends.mkldnn.is_available(),  # type: ignore[no-untyped-call]
        num_threads=torch.get_num_threads(),
        num_interop_threads=torch.get_num_interop_threads(),
        cudnn_benchmark=cudnn_benchmark,
        fp32_matmul_allows_tf32=torch.backends.cuda.matmul.allow_tf32,
        fp32_cudnn_allows_tf32=torch.backends.cudnn.allow_tf32,
        cpu_flushes_denormals=torch.set_flush_denormal(True),
        devices=tuple(_device(index) for index in range(torch.cuda.device_count())) if has_cuda else (),
    )


def _device(index: int) -> DeviceFacts:
    properties = torch.cuda.get_device_properties(index)
    return DeviceFacts(
        index=index,
        name=properties.name,
        uuid=str(properties.uuid),
        memory_total_bytes=properties.total_memory,
        compute_capability=f"{properties.major}.{properties.minor}",
        num_multiprocessors=properties.multi_processor_count,
    )


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
