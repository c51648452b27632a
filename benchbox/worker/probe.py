"""What a device reaches: short probes of matrix products, convolution and copies, for ``benchbox hw init``.

Run as ``python -m benchbox.worker.probe --out FILE.json --device cuda:0``, in its own process. Figures are
the best of several runs on random data: a ceiling, not a typical speed.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import torch
from torch.nn import functional

from benchbox.schema import Precision, PrecisionRates, ProbeResult, ReachedRates
from benchbox.worker.clock import make_clock

DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
MATMUL_SIZES = {"cpu": (512, 1024, 2048, 4096), "cuda": (2048, 4096, 8192, 16384)}
CONV_BATCH_SIZES = {"cpu": (2, 8, 32), "cuda": (32, 128)}
# Larger than the last-level cache of nearly all devices.
COPY_BYTES = {"cpu": 512 << 20, "cuda": 1 << 30}
PINNED_BYTES = 256 << 20
# Runs are timed in groups of about this length, so that neither launching nor the clock is what is measured.
GROUP_SECONDS = 0.02
MAX_GROUP_RUNS = 1000


@dataclass(frozen=True)
class Trial:
    """One thing to time: ``amount`` is the FLOPs or bytes of one run, ``prepare`` makes the data."""

    amount: float
    prepare: Callable[[], Callable[[], object]]


def probe(device: str, num_threads: int | None, seconds_per_probe: float) -> ReachedRates:
    """Measure what ``device`` (``cpu`` or ``cuda:0``) reaches.

    ``num_threads`` sets torch's arithmetic threads on a CPU (``None``: as torch would). Each of up to ten
    probes takes about ``seconds_per_probe``, and at least three runs of its smallest size.

    Raises:
        RuntimeError: there is no such device.
    """
    target = torch.device(device)
    if target.type == "cuda":
        if not torch.cuda.is_available():
            raise RuntimeError("torch sees no GPU on this machine")
        torch.cuda.set_device(target)  # the clock's events go to the current device
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    torch.backends.cudnn.benchmark = True
    matmul: dict[str, float | None] = {}
    conv: dict[str, float | None] = {}
    with torch.inference_mode():
        for precision in supported_precisions(target):
            torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
            torch.backends.cudnn.allow_tf32 = precision == "tf32"
            dtype = DTYPES[precision]
            matmul[precision] = _tera(best_rate(matmul_trials(target, dtype), target, seconds_per_probe))
            conv[precision] = _tera(best_rate(conv_trials(target, dtype), target, seconds_per_probe))
        moving = [_copy_trial(target)] if target.type == "cuda" else [_copy_trial(target), _update_trial()]
        copy = best_rate(moving, target, seconds_per_probe)
        to_device = None
        if target.type == "cuda":
            to_device = best_rate([_host_to_device_trial(target)], target, seconds_per_probe)
    return ReachedRates(
        matmul_tflops=PrecisionRates(**matmul),
        conv_tflops=PrecisionRates(**conv),
        copy_gb_per_s=_giga(copy),
        host_to_device_gb_per_s=_giga(to_device),
        num_threads=torch.get_num_threads() if target.type == "cpu" else None,
    )


def supported_precisions(device: torch.device) -> tuple[Precision, ...]:
    """The precisions that ``device`` computes in at speed; emulated ones are left out.

    On a CPU fp16 is left out too: torch runs much of it orders of magnitude slower than fp32.
    """
    if device.type == "cpu":
        return ("fp32", "bf16")
    precisions: list[Precision] = ["fp32"]
    if torch.version.cuda is not None and torch.cuda.get_device_capability(device) >= (8, 0):
        precisions.append("tf32")
    if torch.cuda.is_bf16_supported(including_emulation=False):
        precisions.append("bf16")
    return (*precisions, "fp16")


def matmul_trials(device: torch.device, dtype: torch.dtype) -> list[Trial]:
    """Square matrix products, smallest first; one is 2 n³ FLOPs."""

    def prepare(n: int) -> Callable[[], object]:
        a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
        out = torch.empty_like(a)
        return lambda: torch.mm(a, b, out=out)

    return [Trial(2.0 * n**3, partial(prepare, n)) for n in MATMUL_SIZES[device.type]]


def conv_trials(device: torch.device, dtype: torch.dtype) -> list[Trial]:
    """The second convolution of ``reference-cnn``, forward: 64 → 128 channels, 3×3, no padding, on 111×111.

    One sample is 2 · 128 · 109² · 64 · 9 FLOPs (1.75e9).
    """

    def prepare(batch: int, memory_format: torch.memory_format) -> Callable[[], object]:
        x = torch.randn(batch, 64, 111, 111, device=device, dtype=dtype)
        weight = torch.randn(128, 64, 3, 3, device=device, dtype=dtype)
        x, weight = (tensor.contiguous(memory_format=memory_format) for tensor in (x, weight))
        return lambda: functional.conv2d(x, weight)

    return [
        Trial(2.0 * batch * 128 * 109**2 * 64 * 9, partial(prepare, batch, memory_format))
        for batch in CONV_BATCH_SIZES[device.type]
        for memory_format in (torch.channels_last, torch.contiguous_format)
    ]


def best_rate(trials: Sequence[Trial], device: torch.device, seconds: float) -> float | None:
    """The highest amount per second over ``trials``, in about ``seconds``.

    The first trial always runs; a later one is left out where three runs would outlast the time that is
    left, or where it finds no memory. On a GPU the first run of each, in which libraries load and tune
    themselves, is not paid from that time. ``None`` where no trial could run.
    """
    left = seconds
    best = 0.0
    for index, trial in enumerate(trials):
        if best and 3 * trial.amount / best > left:
            continue
        try:
            began_at = time.perf_counter()
            run = trial.prepare()
            _time(run, 1, device)
            if device.type == "cuda":
                began_at = time.perf_counter()
            share = (left - (time.perf_counter() - began_at)) / (len(trials) - index)
            best = max(best, trial.amount / _best_seconds(run, device, share))
            left -= time.perf_counter() - began_at
        except torch.OutOfMemoryError:
            continue
    return best or None


def _best_seconds(run: Callable[[], object], device: torch.device, seconds: float) -> float:
    end_at = time.perf_counter() + seconds
    num_runs = math.ceil(GROUP_SECONDS / _time(run, 1, device))
    num_runs = min(max(num_runs, 1), MAX_GROUP_RUNS)
    best = _time(run, num_runs, device)
    while time.perf_counter() < end_at:
        best = min(best, _time(run, num_runs, device))
    return best


def _time(run: Callable[[], object], num_runs: int, device: torch.device) -> float:
    """Seconds for one of ``num_runs`` runs in a row."""
    clock = make_clock(device, 1)
    clock.start()
    for _ in range(num_runs):
        run()
    clock.mark(0)
    return max(clock.read_ns(1)[0], 1) / num_runs * 1e-9


def _copy_trial(device: torch.device) -> Trial:
    num_bytes = COPY_BYTES[device.type]
    if device.type == "cuda":
        num_bytes = min(num_bytes, torch.cuda.mem_get_info(device)[0] // 4)

    def prepare() -> Callable[[], object]:
        source = _random_bytes(num_bytes, device)
        target = torch.empty_like(source)
        return lambda: target.copy_(source)

    return Trial(2.0 * num_bytes, prepare)


def _update_trial() -> Trial:
    """An addition in place, on a CPU: a copy there also reads what it overwrites, and so moves half more
    than is counted."""
    num_bytes = COPY_BYTES["cpu"] // 2
    num_values = num_bytes // 4

    def prepare() -> Callable[[], object]:
        added, target = torch.ones(num_values), torch.zeros(num_values)
        return lambda: target.add_(added)

    return Trial(3.0 * num_bytes, prepare)


def _host_to_device_trial(device: torch.device) -> Trial:
    def prepare() -> Callable[[], object]:
        source = _random_bytes(PINNED_BYTES, torch.device("cpu")).pin_memory()
        target = torch.empty_like(source, device=device)
        return lambda: target.copy_(source, non_blocking=True)

    return Trial(float(PINNED_BYTES), prepare)


def _random_bytes(num_bytes: int, device: torch.device) -> torch.Tensor:
    block = torch.randint(256, (min(num_bytes, 16 << 20),), dtype=torch.uint8, device=device)
    return block.repeat(math.ceil(num_bytes / len(block)))[:num_bytes]


def _tera(rate: float | None) -> float | None:
    return None if rate is None else float(f"{rate * 1e-12:.4g}")


def _giga(rate: float | None) -> float | None:
    return None if rate is None else float(f"{rate * 1e-9:.4g}")


def describe(device: str, reached: ReachedRates) -> ProbeResult:
    """``reached`` together with what torch says of ``device``."""
    if device == "cpu":
        return ProbeResult(
            device_name=None,
            memory_total_bytes=None,
            compute_capability=None,
            num_multiprocessors=None,
            torch=str(torch.__version__),
            reached=reached,
        )
    properties = torch.cuda.get_device_properties(device)
    is_amd = torch.version.hip is not None
    capability = properties.gcnArchName.split(":")[0] if is_amd else f"{properties.major}.{properties.minor}"
    return ProbeResult(
        device_name=properties.name,
        memory_total_bytes=properties.total_memory,
        compute_capability=capability,
        num_multiprocessors=properties.multi_processor_count,
        torch=str(torch.__version__),
        reached=reached,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Probe and write the result: by rename, so that a file that exists is whole."""
    parser = argparse.ArgumentParser(prog="python -m benchbox.worker.probe")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args(arguments)
    result = describe(options.device, probe(options.device, options.threads, options.seconds))
    unfinished = options.out.with_suffix(".part")
    unfinished.write_bytes(msgspec.json.encode(result))
    unfinished.rename(options.out)


if __name__ == "__main__":
    main()
