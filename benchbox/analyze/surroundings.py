"""What stands above the shares of a step: memory used up, a device held back, others on the machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from benchbox.analyze.causes import percent
from benchbox.analyze.gathered import Gathered, others_pct
from benchbox.analyze.samples import summarize_samples
from benchbox.schema import (
    SLOWING_REASONS_MASK,
    THROTTLE_REASONS,
    AttemptResult,
    DeviceTelemetry,
    Environment,
    Evidence,
    Sureness,
)
from benchbox.stats import mean

NEAR_CAPACITY = 0.92
"""Of memory: what is left is less than what fragments and short-lived buffers need."""
_NAMED_OTHERS_PCT = 10.0
_WEAKENING_OTHERS_PCT = 25.0
_DROWNING_OTHERS_PCT = 40.0
_THROTTLED = 0.3
_LOST_CLOCK = 0.05
_HARD_REASONS = SLOWING_REASONS_MASK & ~THROTTLE_REASONS["sw_power_cap"]


class Standing(NamedTuple):
    """A finding that decides the verdict, unless it is about a part of the step that hardly matters."""

    sureness: Sureness
    evidence: tuple[Evidence, ...]


class Disturbance(NamedTuple):
    """Somebody else's work."""

    evidence: tuple[Evidence, ...]
    at_most: Sureness
    """How sure a verdict can be all the same."""
    drowns: bool
    """Whether the figures say more of others' work than of the case."""
    names: str


def memory_capacity(
    gathered: Gathered, environment: Environment, attempts: Sequence[AttemptResult]
) -> Standing | None:
    """Whether the peak came near to what there is: of a GPU's memory, or of a limit set for the worker."""
    shares: list[tuple[float, str]] = []
    memories = [rank.memory for rank in gathered.ranks if rank.memory]
    if environment.devices:
        total = min((d.memory_total_bytes or 0) for d in environment.devices)
        # What a neighbour's process holds is not the case's own, and the driver tells the sum alone.
        shared = any(n for a in attempts for d in a.devices for n in d.num_foreign_processes or ())
        used = None if shared else summarize_samples(attempts).device_memory_used_bytes
        reserved = max((m.peak_memory_reserved_bytes or 0 for m in memories), default=0)
        if total:
            shares.append((max(used or 0, reserved) / total, "of the device's memory at the peak"))
    else:
        host = environment.host
        held = host.memory_limit_bytes is not None and host.memory_limit_bytes < host.memory_total_bytes
        total = (host.memory_limit_bytes or 0) if held else host.memory_total_bytes
        num_local = max((rank.local_rank for rank in gathered.ranks), default=0) + 1
        peak = max((m.peak_host_rss_bytes or 0 for m in memories), default=0)
        limit = "of the control group's limit" if held else "of the machine's memory"
        if total:
            shares.append((num_local * peak / total, f"{limit} at the peak"))
    shares += [
        (m.tightest_limit_used_pct / 100, f"of {m.tightest_limit} at the peak")
        for m in memories
        if m.tightest_limit is not None and m.tightest_limit_used_pct is not None
    ]
    share, what = max(shares, default=(0.0, ""))
    if share < NEAR_CAPACITY:
        return None
    return Standing("likely", (percent(what, share),))


def held_back(attempts: Sequence[AttemptResult], environment: Environment) -> Standing | None:
    """Whether power or heat kept the clocks below what was asked for, and they were in fact lower."""
    devices = [device for attempt in attempts for device in attempt.devices]
    masks = [mask for device in devices for mask in device.throttle_reasons or () if mask is not None]
    if not masks:
        return None
    throttled = [mask for mask in masks if mask & SLOWING_REASONS_MASK]
    share = len(throttled) / len(masks)
    if share < _THROTTLED:
        return None
    reasons = [
        name
        for name, bit in THROTTLE_REASONS.items()
        if any(m & bit & SLOWING_REASONS_MASK for m in throttled)
    ]
    figures = [percent(f"of samples held back ({', '.join(reasons)})", share)]
    lost = _lost_clock(devices, environment)
    hard = sum(bool(mask & _HARD_REASONS) for mask in throttled) / len(masks) >= _THROTTLED
    if lost is not None:
        figures.append(percent("of the highest clock is lost", lost))
        if lost < _LOST_CLOCK:
            return None  # at its limit, and as fast as ever
    power = summarize_samples(attempts).power_w
    if power is not None:
        figures.append(Evidence(what="power", value=power, unit="W"))
        limit = next((d.power_limit_w for d in environment.devices if d.power_limit_w), None)
        if limit is not None:
            figures.append(Evidence(what="power limit", value=limit, unit="W"))
    sure = lost is not None and (hard or lost >= 2 * _LOST_CLOCK)
    return Standing("sure" if sure else "likely", tuple(figures))


def disturbance(
    gathered: Gathered, environment: Environment, attempts: Sequence[AttemptResult]
) -> Disturbance | None:
    """Others' work that took processors or the device away while steps were measured."""
    figures: list[Evidence] = []
    names: list[str] = []
    others = others_pct(gathered)
    if others is not None and others >= _NAMED_OTHERS_PCT:
        figures.append(Evidence(what="of all processors used by others meanwhile", value=others, unit="%"))
        names.append(f"other processes used {others:.0f} % of the processors")
    foreign = [n for a in attempts for d in a.devices for n in d.num_foreign_processes or () if n is not None]
    if foreign and max(foreign) > 0:
        figures.append(Evidence(what="other processes on the device", value=max(foreign), unit=""))
        names.append("another process was on the device")
    if not figures:
        return None
    taken = others or 0.0
    weak = bool(foreign and max(foreign) > 0) or taken >= _WEAKENING_OTHERS_PCT
    return Disturbance(
        tuple(figures),
        at_most="unsure" if weak else "likely",
        drowns=environment.device == "cpu" and taken >= _DROWNING_OTHERS_PCT,
        names=" and ".join(names),
    )


def _lost_clock(devices: Sequence[DeviceTelemetry], environment: Environment) -> float | None:
    highest = next((d.max_clock_sm_mhz for d in environment.devices if d.max_clock_sm_mhz), None)
    clocks = [clock for d in devices for clock in d.clock_sm_mhz or () if clock is not None]
    return max(0.0, 1 - mean(clocks) / highest) if clocks and highest else None
