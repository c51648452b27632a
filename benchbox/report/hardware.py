"""Tables for ``benchbox hw``: the list of profiles, one in full, and what this machine has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from benchbox.report.text import UNKNOWN, clean
from benchbox.schema import HardwareProfile, PrecisionRates

MAX_TEXT_CHARACTERS = 2000


class DetectedDevice(NamedTuple):
    """A device of this machine and the profile that matches it."""

    name: str
    memory_total_bytes: int | None
    profile: HardwareProfile | None


def list_table(profiles: Sequence[HardwareProfile]) -> Table:
    """One row a profile, within 80 columns."""
    caption = "Dense peaks in TFLOP/s, accumulating in fp32; memory, its bandwidth, power."
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, caption=Text(caption))
    table.add_column("name", overflow="fold")
    for heading in ("fp32", "tf32", "bf16", "fp16", "GiB", "GB/s", "W"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("confi-\ndence", no_wrap=True)
    for profile in profiles:
        peaks = profile.peak_dense_tflops
        numbers = (
            *(peaks.fp32, peaks.tf32, peaks.bf16, peaks.fp16),
            *(profile.memory_gib, profile.memory_bandwidth_gb_per_s, profile.tdp_w),
        )
        table.add_row(_text(profile.name), *map(_number, numbers), profile.confidence)
    return table


def profile_table(profile: HardwareProfile) -> Table:
    """Everything that ``profile`` says, a figure a row, each with its unit; unknown figures are left out."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=False, title=_text(profile.name))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in (
        *(("kind", profile.kind), ("vendor", profile.vendor), ("architecture", profile.architecture)),
        *(("compute capability", profile.compute_capability), ("form factor", profile.form_factor)),
        ("matches", ", ".join(profile.match_names)),
        *_peak_rows("dense peak", profile.peak_dense_tflops),
        *_fact_rows(profile),
        *_reached_rows(profile),
        ("confidence", profile.confidence),
        *(("source", source) for source in profile.sources),
        *(("disagreement", disagreement) for disagreement in profile.disagreements),
        ("notes", profile.notes),
    ):
        if value:
            table.add_row(Text(label), _text(value))
    return table


def detected_table(devices: Sequence[DetectedDevice]) -> Group:
    """The devices of this machine with their profiles, and what to do about one that none matches."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("device", overflow="fold")
    table.add_column("memory", justify="right")
    table.add_column("profile", overflow="fold")
    table.add_column("measured here")
    for device in devices:
        memory = (
            UNKNOWN if device.memory_total_bytes is None else f"{device.memory_total_bytes / 2**30:.1f} GiB"
        )
        profile = device.profile
        name = Text("none") if profile is None else _text(profile.name)
        measured = "yes" if profile is not None and profile.reached is not None else "no"
        table.add_row(_text(device.name), memory, name, measured)
    if all(device.profile is not None for device in devices):
        return Group(table)
    hint = "No profile matches: there is no MFU. `benchbox hw init` measures what the device reaches."
    return Group(table, Text(hint))


def _peak_rows(label: str, rates: PrecisionRates) -> list[tuple[str, str]]:
    named = msgspec.structs.asdict(rates).items()
    return [(f"{label} {precision}", f"{rate:g} TFLOP/s") for precision, rate in named if rate is not None]


def _fact_rows(profile: HardwareProfile) -> list[tuple[str, str]]:
    is_cpu = profile.kind == "cpu"
    facts = (
        ("memory", profile.memory_gib, "GiB"),
        ("memory bandwidth", profile.memory_bandwidth_gb_per_s, "GB/s"),
        ("processors" if is_cpu else "multiprocessors", profile.num_multiprocessors, ""),
        ("L2 cache", profile.l2_mib, "MiB"),
        ("boost clock", profile.boost_clock_mhz, "MHz"),
        ("power limit (TDP)", profile.tdp_w, "W"),
        ("NVLink, both directions", profile.nvlink_gb_per_s, "GB/s"),
        ("PCIe generation", profile.pcie_gen, ""),
    )
    rows = [(label, f"{value:g} {unit}".strip()) for label, value, unit in facts if value is not None]
    if profile.memory_mib_reported:
        rows.append(("memory, as reported", f"{', '.join(map(str, profile.memory_mib_reported))} MiB"))
    return rows


def _reached_rows(profile: HardwareProfile) -> list[tuple[str, str]]:
    reached = profile.reached
    if reached is None:
        return []
    rows = _peak_rows("reached, matmul", reached.matmul_tflops)
    rows += _peak_rows("reached, conv", reached.conv_tflops)
    for label, rate in (
        ("reached, copy (read + written)", reached.copy_gb_per_s),
        ("reached, host to device", reached.host_to_device_gb_per_s),
    ):
        if rate is not None:
            rows.append((label, f"{rate:g} GB/s"))
    if reached.num_threads is not None:
        rows.append(("reached with threads", str(reached.num_threads)))
    return rows


def _text(value: str) -> Text:
    """Profiles come from anywhere: no markup is read in them and no control character is printed."""
    return Text(clean(value, MAX_TEXT_CHARACTERS))


def _number(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.6g}"
