"""Which ways to train there are on which device, before it is asked how many devices there are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from benchbox.analyze.plan_collectives import IN_THE_RATE, Collectives, collectives
from benchbox.analyze.plan_memory import Need, need, ran_there, with_ran_out
from benchbox.analyze.plan_rates import (
    Rate,
    Refusal,
    fixed_ms,
    foretell,
    interpolate,
    measured_rate,
    under_its_roofline,
)
from benchbox.analyze.plan_sources import Configured, Measured, RanOut
from benchbox.schema import HardwareProfile, Strategy

# What a report of one device is taken to do on several.
_UNMEASURED: list[Strategy] = ["ddp"]

_ONLY_TOGETHER = Refusal("measured with several devices only", "the same case with the strategy `single`")


class Target(NamedTuple):
    """A device that the job may run on."""

    name: str
    profile: HardwareProfile | None
    """``None``: a device of a report that no profile describes; only what was measured is known of it."""
    all_reduce_gb_per_s: float | None = None
    """What a probe on this device reached."""
    is_host: bool = False
    """It trains on its processors: each more is a host more."""


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
    collectives: Collectives
    need: Need
    only_count: int | None = None
    """A case that was measured with several devices says nothing about another number of them."""
    measured_apart: frozenset[tuple[int, int]] = frozenset()
    """Numbers of devices and samples of a step that have a row of their own, with what they reached."""
    lists_one_device: bool = True
    """One device has no strategy: only the first strategy's row lists it."""


def rows(
    cases: Sequence[Measured], targets: Sequence[Target], ran_out: Sequence[RanOut] = ()
) -> Iterator[Row | tuple[Refusal, str]]:
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
                rate = _rate(own, siblings, batch, target)
                apart = _measured_apart(own, batch, target, rate)
                yield from (_as_measured(case, configured, target) for case in apart)
                if isinstance(rate, Refusal):
                    label = f"{configured.model} b{batch} {configured.precision}"
                    yield rate, f"{label} on {target.name}"
                else:
                    for row in _with_strategies(own, apart, configured, batch, target, rate):
                        known = with_ran_out(row.need, ran_out, configured, row.strategy, batch, target.name)
                        yield row._replace(need=known)


def _rate(
    own: Sequence[Measured], siblings: Sequence[Sequence[Measured]], batch: int, target: Target
) -> Rate | Refusal:
    on_target = [case for case in own if case.device == target.name]
    there = interpolate(on_target, batch)
    if there is not None:
        return under_its_roofline(there, target.profile)
    if target.profile is None:
        return Refusal("no hardware profile describes the device", "the same suite on the device")
    elsewhere = _by_device([case for case in own if case.device != target.name and _is_gpu(case)])
    if not elsewhere:
        return _not_measured_so(on_target, batch)
    rates = [(interpolate(cases, batch), fixed_ms(cases)) for cases in elsewhere.values()]
    sources = [(rate, fixed) for rate, fixed in rates if rate is not None and fixed is not None]
    if not sources:
        return _no_source(elsewhere, batch, has_rate=any(rate is not None for rate, _ in rates))
    related = [
        [rate for cases in _by_device(sibling).values() if (rate := interpolate(cases, batch)) is not None]
        for sibling in ([case for case in one if case.device != target.name] for one in siblings)
    ]
    ran = [*(rate.source for rate, _ in sources), *on_target]
    return foretell(
        sources,
        [one for one in related if one],
        target.profile,
        one_software=len({case.software for case in ran}) == 1,
    )


def _not_measured_so(on_target: Sequence[Measured], batch: int) -> Refusal:
    """Why a device has no rate at ``batch`` where no other GPU has one either."""
    if not on_target:
        return Refusal("no GPU with a hardware profile was measured", "the same suite on one GPU")
    if any(case.case.per_device_batch_size == batch for case in on_target):
        return _ONLY_TOGETHER
    return Refusal("the device was not measured with this batch", "this batch on the device")


def _no_source(elsewhere: Mapping[str, Sequence[Measured]], batch: int, *, has_rate: bool) -> Refusal:
    """Why none of the GPUs in ``elsewhere`` can be scaled from at ``batch``."""
    if has_rate:
        return Refusal(
            "one batch size only: the fixed part of a step cannot be told from the part for each sample",
            "the same configuration with a second batch size",
        )
    if any(case.case.per_device_batch_size == batch for cases in elsewhere.values() for case in cases):
        return _ONLY_TOGETHER
    return Refusal("no other device was measured with this batch", "this batch on another device")


def _is_gpu(case: Measured) -> bool:
    return case.profile is not None and case.profile.kind == "gpu"


def _by_device(cases: Sequence[Measured]) -> Mapping[str, list[Measured]]:
    found: dict[str, list[Measured]] = defaultdict(list)
    for case in cases:
        found[case.device].append(case)
    return found


def _with_strategies(
    own: Sequence[Measured],
    apart: Sequence[Measured],
    configured: Configured,
    batch: int,
    target: Target,
    rate: Rate,
) -> Iterator[Row]:
    strategies: list[Strategy] = sorted({c.case.strategy for c in own if c.case.strategy != "single"})
    for place, strategy in enumerate(strategies or _UNMEASURED):
        link = (target.name, target.profile, target.all_reduce_gb_per_s)
        yield Row(
            target=target,
            configured=configured,
            strategy=strategy,
            batch=batch,
            accumulation=rate.source.case.gradient_accumulation_steps,
            rate=rate,
            collectives=collectives(own, strategy, batch, link, rate),
            need=need(own, strategy, batch, rate.source, target.name),
            measured_apart=frozenset(
                (case.case.world_size, case.case.global_batch_size)
                for case in apart
                if case.case.strategy == (strategy if case.case.world_size > 1 else "single")
            ),
            lists_one_device=place == 0,
        )


def _measured_apart(
    own: Sequence[Measured], batch: int, target: Target, rate: Rate | Refusal
) -> list[Measured]:
    """What ran on this very device with several of it, a strategy or an accumulation that ``rate`` lacks."""
    known = None
    if isinstance(rate, Rate) and rate.basis == "measured":
        known = ("single", 1, rate.source.case.gradient_accumulation_steps)
    found: dict[tuple[Strategy, int, int], Measured] = {}
    for measured in own:
        case = measured.case
        if measured.device != target.name or case.per_device_batch_size != batch:
            continue
        way = (case.strategy, case.world_size, case.gradient_accumulation_steps)
        if way != known:
            found.setdefault(way, measured)
    return list(found.values())


def _as_measured(measured: Measured, configured: Configured, target: Target) -> Row:
    """A row for just the number of devices that ``measured`` ran on."""
    case = measured.case
    rate = under_its_roofline(measured_rate(measured), target.profile)
    return Row(
        target=target,
        configured=configured,
        strategy=case.strategy,
        batch=case.per_device_batch_size,
        accumulation=case.gradient_accumulation_steps,
        rate=rate,
        collectives=IN_THE_RATE,
        need=ran_there(case.world_size),
        only_count=case.world_size,
    )
