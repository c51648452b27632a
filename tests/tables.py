"""Synthetic tables of throughputs: rates by a formula of the test's own, not the predictor's."""

from __future__ import annotations

import csv
import io
import random
from pathlib import Path
from typing import Any

from benchbox.plan.hardware import load_profiles
from benchbox.plan.throughput_table import REQUIRED
from benchbox.schema import HardwareProfile

GPUS = (
    "A100-SXM4-40GB",
    "A100-SXM4-80GB",
    "H100-SXM5-80GB",
    "V100-SXM2-32GB",
    "RTX 3090",
    "RTX A6000",
    "L40S",
)
FIELDS = [*REQUIRED, "source"]


PROFILES = load_profiles([])


def profile(name: str) -> HardwareProfile:
    return next(one for one in PROFILES if one.name == name)


def true_rate(gpu: str, compute_share: float, precision: str = "fp16") -> float:
    """Time for a sample: so much at 60 % of the matrix peak, the rest at 80 % of the bandwidth."""
    facts = profile(gpu)
    peak = getattr(facts.peak_dense_tflops, precision)
    assert peak is not None
    assert facts.memory_bandwidth_gb_per_s is not None
    a100 = profile("A100-SXM4-80GB")
    peak_a100 = getattr(a100.peak_dense_tflops, precision)
    assert a100.memory_bandwidth_gb_per_s is not None
    time_s = compute_share * peak_a100 / peak
    time_s += (1 - compute_share) * a100.memory_bandwidth_gb_per_s / facts.memory_bandwidth_gb_per_s
    return 1000 / time_s


def row(gpu: str, rate: float, **changes: Any) -> dict[str, Any]:
    cells = {
        "model": "resnet50",
        "gpu": gpu,
        "n_gpus": 1,
        "precision": "fp16",
        "batch_per_gpu": 256,
        "throughput_samples_per_s": rate,
        "software": "container 1.0",
        "source": "made up",
    }
    return cells | changes


def synthetic_rows(noise: float = 0.03, num_models: int = 6, seed: int = 3) -> list[dict[str, Any]]:
    """Several models on several GPUs, each with another share of compute-bound work, lognormal noise."""
    rng = random.Random(seed)
    rows = []
    for number in range(num_models):
        share = (number + 0.5) / num_models
        rows += [
            row(gpu, true_rate(gpu, share) * rng.lognormvariate(0, noise), model=f"net{number}")
            for gpu in GPUS
        ]
    return rows


def table_text(rows: list[dict[str, Any]], fields: list[str] | None = None) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=fields or FIELDS)
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def write_table(path: Path, rows: list[dict[str, Any]], fields: list[str] | None = None) -> Path:
    path.write_text(table_text(rows, fields), encoding="utf-8")
    return path
