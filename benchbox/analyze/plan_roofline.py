"""What no rate of a device is above: its data sheet's peaks over the least that a sample asks for."""

from __future__ import annotations

import math

from benchbox.analyze.plan_sources import Measured
from benchbox.analyze.predict_rates import DeviceRates, RatePrecision, device_rates
from benchbox.schema import HardwareProfile


def log_roofline(source: Measured, target: HardwareProfile, log_reached: float = -math.inf) -> float:
    """Its FLOP/s over those of a sample, and its bandwidth over the bytes of a sample, the lower of the two;
    infinite where neither is known.

    One below ``log_reached``, the logarithm of the samples per second that the target was measured at, shows
    that the step does less than was counted: it is no ceiling then, and the other still is.
    """
    precision: RatePrecision = source.case.precision
    rates = device_rates(target, precision)
    ceilings = []
    if source.flops_per_sample is not None and isinstance(rates, DeviceRates):
        ceilings.append(rates.peak_tflops * 1e12 / source.flops_per_sample)
    least = _least_bytes_per_sample(source, target)
    if least and target.memory_bandwidth_gb_per_s is not None:
        ceilings.append(target.memory_bandwidth_gb_per_s * 1e9 / least)
    logs = map(math.log, ceilings)
    return min((ceiling for ceiling in logs if ceiling >= log_reached), default=math.inf)


def _least_bytes_per_sample(source: Measured, target: HardwareProfile) -> float | None:
    """That must come from the target's memory, whatever its cache holds; ``None``: not known.

    Where the source's own bandwidth does not carry what its cache cannot have served, the operators move less
    than was counted, and then that bounds no other device either.
    """
    profile = source.profile
    if profile is None or profile.memory_bandwidth_gb_per_s is None or target.l2_mib is None:
        return None
    here, there = _beyond_cache(source, profile.l2_mib or 0.0), _beyond_cache(source, target.l2_mib)
    carried = profile.memory_bandwidth_gb_per_s * 1e9 * source.case.world_size / source.samples_per_second
    return there if here <= carried else None


def _beyond_cache(source: Measured, l2_mib: float) -> float:
    """Bytes a sample. Of each call a cache may hold the inputs already, and keep the outputs: twice its size.
    A class is known by its sum only, and calls of unequal size leave no less than equal ones."""
    cached = 2 * l2_mib * 2**20
    of_step = sum(max(0.0, moved - cached * num_calls) for moved, num_calls in source.moved)
    return of_step * source.case.world_size / source.case.global_batch_size
