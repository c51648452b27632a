"""The facts about one device."""

from __future__ import annotations

from typing import Literal

from benchbox.schema._base import Confidence, Count, Positive, PositiveInt, Record


class PrecisionRates(Record, frozen=True, kw_only=True):
    """TFLOP/s by precision. Tensor-core rates accumulate in fp32. Dense: sparse figures appear nowhere."""

    fp32: Positive | None = None
    tf32: Positive | None = None
    bf16: Positive | None = None
    fp16: Positive | None = None
    fp8: Positive | None = None


class ReachedRates(Record, frozen=True, kw_only=True):
    """What probes reached on the device itself: the ceiling that is there, beside the one that is sold."""

    matmul_tflops: PrecisionRates
    conv_tflops: PrecisionRates
    copy_gb_per_s: Positive | None = None
    """Bytes read plus bytes written by a device-to-device copy; on a CPU by a copy or an addition in
    place, whichever moves more."""
    host_to_device_gb_per_s: Positive | None = None
    num_threads: PositiveInt | None = None


class ProbeResult(Record, frozen=True, kw_only=True):
    """What the probe process of ``benchbox hw init`` hands back."""

    device_name: str | None
    """As torch prints it; ``None`` on a CPU, which torch does not name."""
    memory_total_bytes: Count | None
    compute_capability: str | None
    num_multiprocessors: PositiveInt | None
    torch: str
    """Version."""
    reached: ReachedRates


class HardwareProfile(Record, frozen=True, kw_only=True):
    """The facts about one device that figures are set against."""

    name: str
    kind: Literal["gpu", "cpu"]
    vendor: str
    architecture: str | None = None
    match_names: tuple[str, ...]
    """Names as the driver or torch prints them; matched whole, never as a part of a longer name."""
    sources: tuple[str, ...]
    confidence: Confidence
    compute_capability: str | None = None
    form_factor: str | None = None
    peak_dense_tflops: PrecisionRates = PrecisionRates()
    """The vendor's figures; all ``None`` in a profile that was only measured."""
    memory_gib: Positive | None = None
    """Nominal memory."""
    memory_mib_reported: tuple[PositiveInt, ...] = ()
    """Totals that the driver has been seen to report; they tell variants of one name apart."""
    memory_bandwidth_gb_per_s: Positive | None = None
    num_multiprocessors: PositiveInt | None = None
    """Multiprocessors of a GPU, processors used on a CPU."""
    l2_mib: Positive | None = None
    boost_clock_mhz: Positive | None = None
    tdp_w: Positive | None = None
    nvlink_gb_per_s: Positive | None = None
    """Sum of both directions over all links."""
    pcie_gen: PositiveInt | None = None
    reached: ReachedRates | None = None
    disagreements: tuple[str, ...] = ()
    notes: str = ""
