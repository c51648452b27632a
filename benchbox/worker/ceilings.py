"""What this machine reaches, from the probes of ``benchbox hw init`` in short: once a run, in the run's own
process environment, so with the threads and the allocator that its workers have."""

from __future__ import annotations

import time

import torch

from benchbox.schema import Ceilings, PrecisionCeiling
from benchbox.worker.probe import probe, supported_precisions


def measure_ceilings(device: str, num_threads: int | None, seconds: float) -> Ceilings:
    """Probe ``device`` (``cpu`` or ``cuda:0``) for about ``seconds`` in all.

    Every precision that the device computes in at speed is probed, not only those of the suite: whether
    another one would help is what people ask. All-reduce is not probed, because one process cannot:
    the ranks of a case time their own.

    Raises:
        RuntimeError: there is no such device.
    """
    began = time.monotonic()
    precisions = supported_precisions(torch.device(device))
    num_probes = 2 * len(precisions) + (1 if device == "cpu" else 2)
    reached = probe(device, num_threads, seconds / num_probes)
    return Ceilings(
        precisions=tuple(
            PrecisionCeiling(
                precision=precision,
                matmul_tflops=getattr(reached.matmul_tflops, precision),
                convolution_tflops=getattr(reached.conv_tflops, precision),
            )
            for precision in precisions
        ),
        device_copy_bytes_per_s=_bytes(reached.copy_gb_per_s),
        host_to_device_bytes_per_s=_bytes(reached.host_to_device_gb_per_s),
        probe_s=time.monotonic() - began,
    )


def _bytes(gb_per_s: float | None) -> float | None:
    return None if gb_per_s is None else gb_per_s * 1e9
