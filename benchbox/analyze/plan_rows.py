"""Which ways to train there are on which device, before it is asked how many devices there are."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from benchbox.analyze.plan_memory import Need, need
from benchbox.analyze.plan_rates import Rate, Refusal, fixed_ms, foretell, interpolate
from benchbox.analyze.plan_sources import Configured, Measured
from benchbox.analyze.predict_rates import has_peer_access, link_gb_per_s
from benchbox.schema import HardwareProfile, Strategy

# Times (n - 1) / n times the bytes of the parameters in fp32: what each rank sends in an optimizer step.
_TRAFFIC: dict[Strategy, float] = {
    "ddp": 2.0,
    "zero1": 2.0,
    "zero2": 2.0,
    "zero2-offload": 2.0,
    "zero3": 3.0,
    "zero3-offload": 3.0,
    "fsdp2": 3.0,
}
_BYTES_PER_PARAMETER = 4
# What a report of one device is taken to do on several.
_UNMEASURED: list[Strategy] = ["ddp"]


class Target(NamedTuple):
    """A device that the job may run on."""

    name: str
    profile: HardwareProfile | None
    """``None``: a device of a report that no profile describes; only what was measured is known of it."""
    all_reduce_gb_per_s: float | None = None
    """What a probe on this device reached."""


class Row(NamedTuple):
    """One configuration and batch on one device with one strategy; how many devices is open."""

    target: Target
    configured: Configured
    strategy: Strategy
    """For two devices and more; one device is always ``single``."""
    batch: int
    accumulation: int
    """Of the source case; a given global batch asks for its own."""
    rate: Rate
    collective_s: float | None
    """Seconds of collectives in a step, but for the factor (n - 1) / n, within one host; ``None`` where the
    model's size or the device's link is not known."""
    collective_gb: float | None
    """The same in GB, for links between hosts."""
    shared_link: bool
    """Whether that time grows with the devices that use the host's memory at once."""
    need: Need
    only_count: int | None = None
    """A case that was measured with several devices says nothing about another number of them."""
    skipped_counts: frozenset[int] = frozenset()
    """Numbers of devices that another row has."""


def rows(cases: Sequence[Measured], targets: Sequence[Target]) -> Iterator[Row | tuple[Refusal, str]]:
    """All rows, and a refusal with an example for each that cannot be."""
    by_configuration: dict[Configured, list[Measured]] = defaultdict(list)
    for case in cases:
        by_configuration[case.configured].append(case)
    for configured, own in by_configuration.items():
        siblings = [
            others
            for other, others in by_configuration.items()
            if other._replace(precision=configured.precision) == configured and other != configured
        ]
        for batch in sorted({case.case.per_device_batch_size for case in own}):
            for target in targets:
                yield from _measured_together(own, configured, batch, target)
                rate = _rate(own, siblings, batch, target)
                if isinstance(rate, Refusal):
                    label = f"{configured.model} b{batch} {configured.precision}"
                    yield rate, f"{label} on {target.name}"
                else:
                    yield from _with_strategies(own, configured, batch, target, rate)


def _rate(
    own: Sequence[Measured], siblings: Sequence[Sequence[Measured]], batch: int, target: Target
) -> Rate | Refusal:
    on_target = [case for case in own if case.device == target.name]
    there = interpolate(on_target, batch)
    if there is not None:
        return there
    if target.profile is None:
        return Refusal("no hardware profile describes the device", "the same suite on the device")
    elsewhere = _by_device([case for case in own if case.device != target.name and _is_gpu(case)])
    if not elsewhere:
        return Refusal("no GPU with a hardware profile was measured", "the same suite on one GPU")
    sources, no_split = [], False
    for cases in elsewhere.values():
        rate, fixed = interpolate(cases, batch), fixed_ms(cases)
        no_split = no_split or (rate is not None and fixed is None)
        if rate is not None and fixed is not None:
            sources.append((rate, fixed))
    if not sources and no_split:
        return Refusal(
            "one batch size only: the fixed part of a step cannot be told from the part for each sample",
            "the same configuration with a second batch size",
        )
    if not sources:
        return Refusal("no other device was measured with this batch", "this batch on another device")
    related = [
        [rate for cases in _by_device(sibling).values() if (rate := interpolate(cases, batch)) is not None]
        for sibling in ([case for case in one if case.device != target.name] for one in siblings)
    ]
    return foretell(sources, [one for one in related if one], target.profile)


def _is_gpu(case: Measured) -> bool:
    return case.profile is not None and case.profile.kind == "gpu"


def _by_device(cases: Sequence[Measured]) -> Mapping[str, list[Measured]]:
    found: dict[str, list[Measured]] = defaultdict(list)
    for case in cases:
        found[case.device].append(case)
    return found


def _with_strategies(
    own: Sequence[Measured], configured: Configured, batch: int, target: Target, rate: Rate
) -> Iterator[Row]:
    strategies: list[Strategy] = sorted({c.case.strategy for c in own if c.case.strategy != "single"})
    for place, strategy in enumerate(strategies or _UNMEASURED):
        seconds, gigabytes = _collectives(own, strategy, batch, target, rate)
        yield Row(
            target=target,
            configured=configured,
            strategy=strategy,
            batch=batch,
            accumulation=rate.source.case.gradient_accumulation_steps,
            rate=rate,
            collective_s=seconds,
            collective_gb=gigabytes,
            shared_link=_is_shared(target),
            need=need(own, strategy, batch, rate.source, target.name),
            skipped_counts=_measured_counts(own, strategy, batch, target)
            # One device has no strategy: it is not listed once for each.
            | (frozenset({1}) if place else frozenset()),
        )


def _measured_together(
    own: Sequence[Measured], configured: Configured, batch: int, target: Target
) -> Iterator[Row]:
    """The cases that several of this very device were measured in, each for its own number of them."""
    for case in own:
        n = case.case.world_size
        if case.device != target.name or n == 1 or case.case.per_device_batch_size != batch:
            continue
        rate = Rate(math.log(case.samples_per_second / n), case.log_half, "measured", case)
        yield Row(
            target=target,
            configured=configured,
            strategy=case.case.strategy,
            batch=batch,
            accumulation=case.case.gradient_accumulation_steps,
            rate=rate,
            collective_s=0.0,  # in the rate
            collective_gb=0.0,
            shared_link=False,
            need=need([case], case.case.strategy, batch, case, target.name),
            only_count=n,
        )


def _is_shared(target: Target) -> bool:
    """A probe among all devices has it in its figure."""
    profile = target.profile
    if profile is None or profile.kind != "gpu" or target.all_reduce_gb_per_s is not None:
        return False
    return not has_peer_access(profile)


def _measured_counts(
    own: Sequence[Measured], strategy: Strategy, batch: int, target: Target
) -> frozenset[int]:
    return frozenset(
        case.case.world_size
        for case in own
        if case.device == target.name
        and case.case.strategy == strategy
        and case.case.per_device_batch_size == batch
    ) - {1}


def _collectives(
    own: Sequence[Measured], strategy: Strategy, batch: int, target: Target, rate: Rate
) -> tuple[float | None, float | None]:
    """Seconds within one host and GB, both but for (n - 1) / n: from a measured case, else from the bytes."""
    gigabytes = _gigabytes(own, strategy, rate)
    same = [c for c in own if c.case.strategy == strategy and c.device == target.name]
    measured = [c for c in same if c.case.per_device_batch_size == batch and c.case.world_size > 1]
    if measured and rate.basis == "measured":
        most = max(measured, key=lambda case: case.case.world_size)
        n = most.case.world_size
        step_s = most.case.global_batch_size / most.samples_per_second
        alone_s = most.case.global_batch_size / n / math.exp(rate.log_rate)
        return math.sqrt(max(0.0, step_s**2 - alone_s**2)) * n / (n - 1), gigabytes
    link = target.all_reduce_gb_per_s
    if link is None and target.profile is not None and target.profile.kind == "gpu":
        link = link_gb_per_s(target.profile)
    return None if gigabytes is None or link is None else gigabytes / link, gigabytes


def _gigabytes(own: Sequence[Measured], strategy: Strategy, rate: Rate) -> float | None:
    """What a rank sends in a step, but for (n - 1) / n: as a run counted it, else from the parameters."""
    for case in own:
        n = case.case.world_size
        if case.case.strategy == strategy and n > 1 and case.sent_bytes is not None:
            return case.sent_bytes * n / (n - 1) / 1e9
    parameters = rate.source.num_parameters
    return None if parameters is None else _TRAFFIC[strategy] * parameters * _BYTES_PER_PARAMETER / 1e9
