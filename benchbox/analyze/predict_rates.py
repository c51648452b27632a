"""What a device can be expected to reach: the three rates that a training step is limited by, and its link.

A data sheet's peak is a ceiling that no training reaches, and devices fall short of theirs by different
shares. Two corrections, both from facts about the devices and not from training throughputs:

- matrix units reach ``_MATMUL_SHARE`` of their peak in the best matrix product that others found on each
  architecture (MAMF, stas00/ml-engineering: A100 271 of 312, H100 795 of 989, B200 1745 of 2250, MI300X 668
  and MI325X 785 of 1307 TFLOP/s in bf16);
- a device that has less power for each multiprocessor and GHz than the best-fed card of its architecture
  cannot hold its boost clock. Dynamic power grows with clock times voltage squared, and voltage with clock,
  so near the boost clock rate goes about with the square root of power.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from benchbox.schema import HardwareProfile

RatePrecision = Literal["fp32", "tf32", "bf16", "fp16"]
Probes = Literal["ignored", "a cap", "used"]

# Architecture, then watts for each multiprocessor and GHz of the best-fed card (V100-SXM2, TITAN RTX,
# A100-SXM4, RTX 3090, RTX 4090, H100-SXM5, B200, RTX 5090, MI325X), then the matrix units' share.
_ARCHITECTURES = (
    ("Volta", 2.45, 0.85),
    ("Turing", 2.3, 0.80),
    ("GA100", 2.63, 0.87),
    ("Ampere", 2.4, 0.85),
    ("Ada", 1.35, 0.85),
    ("Hopper", 2.68, 0.80),
    ("GB100", 3.4, 0.78),
    ("Blackwell", 1.4, 0.85),
    ("CDNA3", 1.57, 0.60),
)
_UNKNOWN_SHARE = 0.80
# Of a copy against the data sheet; it divides a measured copy so that both stand on one footing.
_COPY_SHARE = 0.9
_HBM = ("Volta", "GA100", "Hopper", "GB100", "CDNA")
# Architectures whose training throughputs the constants of the predictor were checked against.
_CHECKED = ("Volta", "Turing", "Ampere", "Ada AD102", "Hopper")

# Bus bandwidth of an all-reduce in GB/s: 40 % of the sum of both directions over NVLink, and a good half of
# one direction of a x16 slot.
_NVLINK_SHARE = 0.4
_PCIE_GB_PER_S = {3: 7.0, 4: 14.0, 5: 28.0}
# GeForce cards have no peer access: every byte goes through host memory and back.
_NO_PEER_ACCESS_FACTOR = 1 / 3


class DeviceRates(NamedTuple):
    """Expected rates of one device in one precision."""

    name: str
    vendor: str
    architecture: str
    compute_tflops: float
    bandwidth_gb_per_s: float
    on_chip_ghz: float
    """Multiprocessors times sustained clock: what bounds instruction issue, caches and shared memory."""
    link_gb_per_s: float
    peer_access: bool
    """Whether devices of one host reach each other's memory without going through the host's."""
    hbm: bool
    checked: bool
    """Whether the architecture is one that the constants were checked against."""
    peak_tflops: float
    """The data sheet's, for the naive rule."""

    def link_among(self, num_devices: int) -> float:
        """The link in GB/s where ``num_devices`` of one host use it at once.

        Cards without peer access all copy through the same host memory, so what two of them reach is shared
        by however many there are.
        """
        if self.peer_access or num_devices <= 2:
            return self.link_gb_per_s
        return self.link_gb_per_s * 2 / num_devices


def device_rates(
    profile: HardwareProfile, precision: RatePrecision, *, probes: Probes = "ignored"
) -> DeviceRates | str:
    """The rates of a GPU, or, in words, what its profile lacks.

    What probes reached on the device takes the place of expectations where ``probes`` are ``used``: for
    comparisons in which every device was probed. A short probe runs at clocks that a long training does not
    hold, so probed and expected rates do not stand on one footing. Where they are ``a cap``, only a device
    that falls short of its expectation counts as probed: training does not reach what a probe does not.

    ``tf32`` on a device that has no such mode is its ``fp32``: the switch has no effect there.
    """
    if profile.kind != "gpu":
        return "the device is no GPU"
    peaks, bandwidth = profile.peak_dense_tflops, profile.memory_bandwidth_gb_per_s
    peak = getattr(peaks, precision) or (peaks.fp32 if precision == "tf32" else None)
    if peak is None:
        return f"the profile has no {precision} peak"
    if bandwidth is None or profile.num_multiprocessors is None or profile.boost_clock_mhz is None:
        return "the profile lacks bandwidth, multiprocessors or clock"
    architecture = profile.architecture or ""
    clock = _sustained_clock_share(profile)
    compute = peak * _matmul_share(architecture) * clock
    reached = profile.reached if probes != "ignored" else None
    matmul = getattr(reached.matmul_tflops, precision) if reached else None
    copy = reached.copy_gb_per_s / _COPY_SHARE if reached and reached.copy_gb_per_s else None
    if probes == "a cap":
        matmul, copy = min(matmul or compute, compute), min(copy or bandwidth, bandwidth)
    return DeviceRates(
        name=profile.name,
        vendor=profile.vendor,
        architecture=architecture,
        compute_tflops=matmul or compute,
        bandwidth_gb_per_s=copy or bandwidth,
        on_chip_ghz=profile.num_multiprocessors * profile.boost_clock_mhz / 1e3 * clock,
        link_gb_per_s=link_gb_per_s(profile),
        peer_access=has_peer_access(profile),
        hbm=any(word in architecture for word in _HBM),
        checked=any(word in architecture for word in _CHECKED),
        peak_tflops=peak,
    )


def link_gb_per_s(profile: HardwareProfile) -> float:
    """Expected bus bandwidth of an all-reduce within one host.

    NVLink counts only where it is part of the module's board (SXM, OAM). A bridge between two cards may be
    there or not, so it is never assumed.
    """
    if _has_links_on_board(profile):
        assert profile.nvlink_gb_per_s is not None
        return _NVLINK_SHARE * profile.nvlink_gb_per_s
    slot = _PCIE_GB_PER_S[min(5, max(3, profile.pcie_gen or 4))]
    return slot if has_peer_access(profile) else slot * _NO_PEER_ACCESS_FACTOR


def link_kind(profile: HardwareProfile) -> Literal["board", "slot", "host"]:
    """What devices of one host exchange through: links on their board, slots, or the host's memory."""
    if _has_links_on_board(profile):
        return "board"
    return "slot" if has_peer_access(profile) else "host"


def _has_links_on_board(profile: HardwareProfile) -> bool:
    on_board = (profile.form_factor or "").startswith(("SXM", "OAM"))
    return on_board and bool(profile.nvlink_gb_per_s)


def has_peer_access(profile: HardwareProfile) -> bool:
    """Whether devices of one host reach each other's memory without going through the host's."""
    return not any("GeForce" in name for name in profile.match_names)


def _sustained_clock_share(profile: HardwareProfile) -> float:
    needed = next((watts for word, watts, _ in _ARCHITECTURES if word in (profile.architecture or "")), None)
    if needed is None or profile.tdp_w is None:
        return 1.0
    assert profile.num_multiprocessors is not None
    assert profile.boost_clock_mhz is not None
    there = profile.tdp_w / (profile.num_multiprocessors * profile.boost_clock_mhz / 1e3)
    return min(1.0, math.sqrt(there / needed))


def _matmul_share(architecture: str) -> float:
    return next((share for word, _, share in _ARCHITECTURES if word in architecture), _UNKNOWN_SHARE)
