"""Which ways to train there are on which device, before it is asked how many devices there are."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from benchbox.analyze.plan_memory import Need, need, ran_there
from benchbox.analyze.plan_rates import (
    Rate,
    Refusal,
    fixed_ms,
    foretell,
    interpolate,
    measured_rate,
    under_its_roofline,
)
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
    measured_apart: frozenset[tuple[int, int]] = frozenset()
    """Numbers of devices and samples of a step that have a row of their own, with what they reached."""
    lists_one_device: bool = True
    """One device has no strategy: only the first strategy's row lists it."""


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
                rate = _rate(own, siblings, batch, target)
                apart = _measured_apart(own, batch, target, rate)
                yield from (_as_measured(case, configured, target) for case in apart)
                if isinstance(rate, Refusal):
                    label = f"{configured.model} b{batch} {configured.precision}"
                    yield rate, f"{label} on {target.name}"
                else:
                    yield from _with_strategies(own, apart, configured, batch, target, rate)


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
    return foretell(sources, [one for one in related if one], target.profile)


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
        collective_s=0.0,  # in the rate
        collective_gb=0.0,
        shared_link=False,
        need=ran_there(case.world_size),
        only_count=case.world_size,
    )


def _is_shared(target: Target) -> bool:
    """A probe among all devices has it in its figure."""
    profile = target.profile
    if profile is None or profile.kind != "gpu" or target.all_reduce_gb_per_s is not None:
        return False
    return not has_peer_access(profile)


def _collectives(
    own: Sequence[Measured], strategy: Strategy, batch: int, target: Target, rate: Rate
) -> tuple[float | None, float | None]:
    """Seconds within one host and GB, both but for (n - 1) / n: from a measured case, else from the bytes.

    The bytes are those of the model, so what another batch of the same device lost to them counts too; but a
    larger batch may have hidden more, so there no less than the link says.
    """
    gigabytes = _gigabytes(own, strategy, rate)
    link = target.all_reduce_gb_per_s
    if link is None and target.profile is not None and target.profile.kind == "gpu":
        link = link_gb_per_s(target.profile)
    by_link = None if gigabytes is None or link is None else gigabytes / link
    if rate.basis == "predicted":
        return by_link, gigabytes
    on_target = [case for case in own if case.device == target.name]
    found = [
        (abs(math.log(case.case.per_device_batch_size / batch)), -case.case.world_size, seconds)
        for case in on_target
        if case.case.strategy == strategy and (seconds := _lost_s(case, on_target)) is not None
    ]
    if not found:
        return by_link, gigabytes
    far, _, lost = min(found)
    return (lost if far == 0 or by_link is None else max(lost, by_link)), gigabytes


def _lost_s(together: Measured, on_target: Sequence[Measured]) -> float | None:
    """What a step with several devices took beside one device's, but for (n - 1) / n; ``None``: not known."""
    case = together.case
    n = case.world_size
    alone = interpolate(on_target, case.per_device_batch_size)
    if n == 1 or alone is None:
        return None
    step_s = case.global_batch_size / together.samples_per_second
    alone_s = case.global_batch_size / n / math.exp(alone.log_rate)
    return math.sqrt(max(0.0, step_s**2 - alone_s**2)) * n / (n - 1)


def _gigabytes(own: Sequence[Measured], strategy: Strategy, rate: Rate) -> float | None:
    """What a rank sends in a step, but for (n - 1) / n: as a run counted it, else from the parameters."""
    for case in own:
        n = case.case.world_size
        if case.case.strategy == strategy and n > 1 and case.sent_bytes is not None:
            return case.sent_bytes * n / (n - 1) / 1e9
    parameters = rate.source.num_parameters
    return None if parameters is None else _TRAFFIC[strategy] * parameters * _BYTES_PER_PARAMETER / 1e9
