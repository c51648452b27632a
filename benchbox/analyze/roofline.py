"""Each operator class of a profiled step on the roofline of this machine.

Williams, Waterman and Patterson 2009: work of ``flops`` over ``bytes`` takes at least
``max(flops / peak rate, bytes / bandwidth)``; which of the two is larger says what bounds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from benchbox.schema import (
    Ceilings,
    HardwareProfile,
    OperatorClass,
    OperatorTime,
    Precision,
    ProfiledStep,
)

Bound = Literal["compute", "memory-bandwidth", "launch", "neither"]

_LAUNCH_NS = 5_000
"""Less work than this in a call, and it is the framework's own cost of calling that is seen: a few
microseconds on a host, the same to launch a kernel."""
_BEYOND_CACHES_BYTES = 256 << 20
_EXPLAINED = 0.2
"""A class that reaches less than this of both ceilings is bound by neither."""
_EXPLAINED_PRODUCT = 0.1
"""Products of awkward shapes stay far below the best one and are still arithmetic."""

_PRODUCTS: frozenset[OperatorClass] = frozenset(("matmul", "convolution"))


class Rates(NamedTuple):
    """What this machine reaches in one precision, per second; ``None`` where unknown."""

    matmul_flops: float | None
    convolution_flops: float | None
    bytes: float | None
    source: Literal["run", "profile"]


class Place(NamedTuple):
    """Where a class stands."""

    operator_class: OperatorClass
    share: float
    """Of the time of all operators in the profiled step."""
    intensity: float | None
    """FLOP for each byte that must be moved; ``None`` where one of them is unknown."""
    ridge: float | None
    """The intensity above which arithmetic is what bounds."""
    bound: Bound
    reached: float | None
    """Of the ceiling that bounds it; 1 is all. Above 1 where caches serve what should come from memory."""
    sets_ceiling_bytes_per_s: float | None = None
    """Where this class moves more than the probe did, and so is itself the ceiling of this step."""


def matmul_ceiling(
    precision: Precision, ceilings: Ceilings | None, profile: HardwareProfile | None
) -> tuple[float | None, Literal["run", "profile"] | None]:
    """TFLOP/s of the best matrix product in ``precision``, and whether this run or the profile says so."""
    for found in (rates(precision, ceilings, None), rates(precision, None, profile)):
        if found is not None and found.matmul_flops is not None:
            return found.matmul_flops / 1e12, found.source
    return None, None


def rates(precision: Precision, ceilings: Ceilings | None, profile: HardwareProfile | None) -> Rates | None:
    """The run's own ceilings first, else what the hardware profile says was reached; ``None`` for neither."""
    if ceilings is not None:
        own = next((c for c in ceilings.precisions if c.precision == precision), None)
        if own is not None or ceilings.device_copy_bytes_per_s is not None:
            return Rates(
                _tera(own.matmul_tflops) if own else None,
                _tera(own.convolution_tflops) if own else None,
                ceilings.device_copy_bytes_per_s,
                "run",
            )
    if profile is not None and profile.reached is not None:
        reached = profile.reached
        copy = reached.copy_gb_per_s
        return Rates(
            _tera(getattr(reached.matmul_tflops, precision)),
            _tera(getattr(reached.conv_tflops, precision)),
            None if copy is None else copy * 1e9,
            "profile",
        )
    return None


def places(step: ProfiledStep, reachable: Rates | None) -> Sequence[Place]:
    """The place of each class, the longest first."""
    whole_ns = sum(operator.time_ns for operator in step.operators)
    found = []
    bandwidth = _bandwidth(step, reachable)
    for operator in step.operators if whole_ns else ():
        peak = _peak(operator.operator_class, reachable)
        arithmetic_ns = operator.flops / peak * 1e9 if operator.flops and peak else 0.0
        moving_ns = operator.least_bytes / bandwidth * 1e9 if operator.least_bytes and bandwidth else 0.0
        floor_ns = max(arithmetic_ns, moving_ns)
        reached = floor_ns / operator.time_ns if floor_ns and operator.time_ns else None
        found.append(
            Place(
                operator.operator_class,
                operator.time_ns / whole_ns,
                operator.flops / operator.least_bytes if operator.flops and operator.least_bytes else None,
                peak / bandwidth if peak and bandwidth else None,
                _bound(operator.operator_class, arithmetic_ns, moving_ns, operator.num_calls, reached),
                reached,
                bandwidth if bandwidth is not None and _rate(operator) == bandwidth else None,
            )
        )
    return sorted(found, key=lambda place: -place.share)


def _bandwidth(step: ProfiledStep, reachable: Rates | None) -> float | None:
    """What the probe reached, or what a class of this very step did: a ceiling that is passed is none.

    A probe that others on the machine disturbed is mended by this.
    """
    if reachable is None or reachable.bytes is None:
        return None
    return max([reachable.bytes, *(rate for rate in map(_rate, step.operators) if rate is not None)])


def _rate(operator: OperatorTime) -> float | None:
    """Bytes a second of a class that moves in each call what hardly a cache holds, else ``None``. The update
    of the weights visits each once, however many calls it takes."""
    moved = operator.least_bytes or 0
    num_calls = 1 if operator.operator_class == "optimizer" else max(1, operator.num_calls)
    if not operator.time_ns or moved <= _BEYOND_CACHES_BYTES * num_calls:
        return None
    return moved / operator.time_ns * 1e9


def _bound(
    operator_class: OperatorClass,
    arithmetic_ns: float,
    moving_ns: float,
    num_calls: int,
    reached: float | None,
) -> Bound:
    if reached is None:  # nothing to hold it against: by what such operators are known to do
        if operator_class in _PRODUCTS:
            return "compute"
        return "launch" if operator_class == "other" else "memory-bandwidth"
    if reached < (_EXPLAINED_PRODUCT if operator_class in _PRODUCTS else _EXPLAINED):
        small = max(arithmetic_ns, moving_ns) < _LAUNCH_NS * max(1, num_calls)
        return "launch" if small else "neither"
    return "compute" if arithmetic_ns >= moving_ns else "memory-bandwidth"


def _peak(operator_class: OperatorClass, reachable: Rates | None) -> float | None:
    if reachable is None:
        return None
    if operator_class == "convolution":
        return reachable.convolution_flops or reachable.matmul_flops
    return reachable.matmul_flops if operator_class == "matmul" else None


def _tera(value: float | None) -> float | None:
    return None if value is None else value * 1e12
