"""What a change should bring, from the shares that were measured: Amdahl's law with its uncertainties."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from benchbox.analyze.gathered import Gathered
from benchbox.analyze.roofline import Place, Rates, rates
from benchbox.schema import Ceilings, HardwareProfile, Interval, OperatorClass, Precision

_SLACK = 0.1
"""What nothing foresees: caches that no longer hold, other kernels for other shapes."""
_CAST_BYTES = 12
"""A parameter: fp32 read and 16 bits written, and back again for its gradient."""
_PRODUCTS: frozenset[OperatorClass] = frozenset(("matmul", "convolution"))
_ELEMENTWISE: frozenset[OperatorClass] = frozenset(("activation", "normalization", "pooling"))


class PrecisionGain(NamedTuple):
    """How many times the rate of products this machine reaches, and what that makes of the step."""

    ratio: float
    speedup: Interval


def by_removing(share: float, uncertainty: float) -> Interval:
    """A part of the step gone, where ``share`` may be off by ``uncertainty`` of itself."""
    low = 1 / (1 - min(0.98, share * (1 - uncertainty)))
    high = 1 / (1 - min(0.98, share * (1 + uncertainty)))
    return Interval(low=low, high=high)


def by_batch(
    gathered: Gathered, places: Sequence[Place], factor: int, inferred_fixed: float
) -> Interval | None:
    """``factor`` times the batch, by the fixed part of the step.

    With fixed share f the rate grows by ``k / (f + k (1 - f))``. The share comes from the batch split with
    its interval; without one it is at least ``inferred_fixed``, by what the profile says does not grow. At
    the least, products that arithmetic bounds grow with the batch, although half of them took as long: they
    may have been bound by their weights' bytes there.
    """
    split = gathered.split
    if split is not None and split.full_step_time_ns > 0:
        whole = split.full_step_time_ns
        low, high = split.fixed_interval_ns.low / whole, split.fixed_interval_ns.high / whole
        # What the profile knows not to grow bounds a split that noise has made vague.
        low = max(low, min(inferred_fixed * 0.7, split.fixed_ns / whole))
    elif inferred_fixed > 0:
        low, high = inferred_fixed * 0.8, inferred_fixed + 0.3
    else:
        return None

    growing = sum(p.share for p in places if p.operator_class in _PRODUCTS and p.bound == "compute")
    low = min(low, 1 - growing)

    def gain(fixed: float) -> float:
        fixed = min(1.0, max(0.0, fixed))
        return factor / (fixed + factor * (1 - fixed))

    return Interval(low=gain(low) * (1 - _SLACK), high=gain(high) * (1 + _SLACK / 2))


def by_half_the_collectives(share: float, optimizer: float) -> Interval:
    """Half as many collectives for a sample, of which ``share`` of the step is.

    At the least half of what that saves: what was between two is done twice. At the most all of it, with the
    ``optimizer``'s share, which runs half as often too. Twice the rate is the end of it: a step that
    takes as long for twice the samples.
    """
    once = 2 / (2 - share)
    both = min(1.0, share + optimizer)
    return Interval(low=1 + 0.5 * (once - 1), high=min(2.0, (1 + _SLACK / 2) * 2 / (2 - both)))


def by_precision(
    gathered: Gathered,
    places: Sequence[Place],
    precision: Precision,
    ceilings: Ceilings | None,
    profile: HardwareProfile | None,
) -> PrecisionGain | None:
    """Products at the other precision's rate, the rest as it is or, at best, with half the bytes.

    The shares of ``places`` are of the whole step, here and below: what is no operator stays as it is.

    Products gain no more than half of their bytes allow; at worst autocast's copies of weights and gradients
    come on top. Products that memory bounds read, round and write every weight before it is used.
    ``None`` where one of the two rates is unknown.
    """
    now, then = (rates(each, ceilings, profile) for each in (gathered.case.precision, precision))
    if now is None or then is None or not now.matmul_flops or not then.matmul_flops:
        return None
    ratios = {"matmul": then.matmul_flops / now.matmul_flops}
    ratios["convolution"] = ratios["matmul"]
    if now.convolution_flops and then.convolution_flops:
        ratios["convolution"] = then.convolution_flops / now.convolution_flops
    if max(ratios.values()) < 1.1:
        return None
    slow = fast = 1.0
    if now.bytes and gathered.num_parameters:
        slow += _CAST_BYTES * gathered.num_parameters / now.bytes / (gathered.step_ns / 1e9)
    for place in places:
        if place.operator_class in _PRODUCTS:
            ratio = max(1.0, min(ratios[place.operator_class], _ratio_of_bytes(place, now)))
            if place.bound == "compute":
                slow -= place.share * (1 - 1 / (1 + 0.4 * (ratio - 1)))
                fast -= place.share * (1 - 1 / (1.2 * ratio))
            else:
                slow += 0.5 * place.share  # every weight is read, rounded and written before it is used
                fast -= place.share * (1 - 1 / ratio)
        elif place.operator_class in _ELEMENTWISE:
            slow += 0.2 * place.share
            fast -= place.share * 0.5
        elif gathered.case.strategy not in ("single", "ddp"):
            fast -= place.share * 0.5  # weights and gradients themselves are of that precision
    weighed = sum(p.share * ratios[p.operator_class] for p in places if p.operator_class in _PRODUCTS)
    products = sum(p.share for p in places if p.operator_class in _PRODUCTS)
    ratio = weighed / products if products else ratios["matmul"]
    return PrecisionGain(ratio, Interval(low=1 / slow * (1 - _SLACK), high=1 / max(0.02, fast)))


def _ratio_of_bytes(place: Place, now: Rates) -> float:
    """The rate at which memory bounds products of half the bytes, over their arithmetic's ceiling now."""
    rate = now.convolution_flops if place.operator_class == "convolution" else now.matmul_flops
    if place.intensity is None or not now.bytes or not rate:
        return math.inf
    return 2 * place.intensity * now.bytes / rate


def by_channels_last(places: Sequence[Place]) -> Interval | None:
    """Convolutions and pooling nearer to their ceilings; at worst a little slower, by the copies between."""
    fast = 1.0
    for place in places:
        if place.operator_class in ("convolution", "pooling") and place.reached is not None:
            fast -= place.share * (1 - min(1.0, place.reached)) * 0.9
    if fast > 0.98:
        return None
    return Interval(low=1 - _SLACK, high=1 / max(0.1, fast))


def by_fusing(places: Sequence[Place], launch_share: float) -> Interval | None:
    """What one fused operator saves of several: launches, and reading what the one before wrote."""
    elementwise = sum(p.share for p in places if p.operator_class in _ELEMENTWISE and p.bound != "launch")
    high = 1 / max(0.1, 1 - 0.8 * launch_share - 0.7 * elementwise)
    return Interval(low=1 - _SLACK / 2, high=high)


def by_keeping_activations(gathered: Gathered) -> Interval | None:
    """At most one forward pass less; the last stages are not recomputed, so at least a little less."""
    phases = gathered.phases
    if phases is None:
        return None
    share = min(0.45, phases.forward_ns / phases.whole_ns) if phases.whole_ns else 0.0
    return Interval(low=1 / (1 - 0.4 * share), high=(1 + _SLACK / 2) / (1 - share))
