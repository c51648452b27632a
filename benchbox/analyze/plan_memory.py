"""Whether a configuration fits in a device's memory, for each number of devices.

What was measured or estimated on one device holds its weights, gradients and optimizer state whole. A
strategy changes those, by the formulas of ``docs/memory.md`` (Rajbhandari et al. 2020, section 3; DeepSpeed's
and DDP's defaults for buckets); activations and the context stay. A case of the reports that ran with just
that strategy and number of devices, measured or estimated, goes before the formula; one that ran out of
memory there does so with every larger batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from benchbox.analyze.plan_sources import USABLE_MEMORY_SHARE, Configured, Measured, RanOut
from benchbox.schema import HardwareProfile, Strategy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
else:
    Floats = Any

# A peak measured elsewhere may be a tenth higher; one by formula a quarter lower or higher.
_ELSEWHERE = (1.0, 1.1)
_BY_FORMULA = (0.75, 1.25)
# Bytes a parameter: weights and gradients in fp32 and two moments, as one device holds them.
_WHOLE = 16
# DeepSpeed's, in elements of the case's precision.
_BUCKET_ELEMENTS = 5e8


class Peak(NamedTuple):
    """Bytes on one device, from and to."""

    low: float
    high: float


_RAN_THERE = Peak(0.0, 0.0)
RAN_OUT = -1.0


class Need(NamedTuple):
    """Peak bytes of one configuration, batch and strategy: ``fixed + divided / n`` on n devices."""

    known: Mapping[int, Peak]
    """By number of devices: measured, estimated, or from one device."""
    fixed: float | None
    """``None`` where neither memory nor parameters are known."""
    divided: float
    ran_out_alone: bool = False
    """Whether one device of the kind ran out of memory in a report."""
    ran_out_together: float = 0.0
    """Up to how many of several did, with this strategy; infinite where more of them need no less each."""


class _Bytes(NamedTuple):
    fixed: float
    divided: float


def need(own: Sequence[Measured], strategy: Strategy, batch: int, source: Measured, device: str) -> Need:
    """What ``strategy`` needs at ``batch``, from the ``own`` cases of one configuration.

    ``source`` ran on one device; what ran on ``device`` itself was there.
    """
    known = {}
    for case in own:
        count = case.case.world_size
        wanted = "single" if count == 1 else strategy
        if case.case.per_device_batch_size != batch or case.case.strategy != wanted:
            continue
        peak = _peak(case, device)
        if peak is not None and (count not in known or peak is _RAN_THERE):
            known[count] = peak
    around = _around_batch(own, source, batch)
    if around is None:
        return Need(known, None, 0.0)
    if source.device == device:
        known.setdefault(1, _RAN_THERE)
    known.setdefault(1, Peak(around.low * _ELSEWHERE[0], around.high * _ELSEWHERE[1]))
    if source.num_parameters is None:
        return Need(known, None, 0.0)
    states = _states(strategy, source.case.precision)
    num = source.num_parameters
    bucket = _BUCKET_ELEMENTS * _element_bytes(source.case.precision) if strategy.startswith("zero") else 0.0
    fixed = max(0.0, around.high - _WHOLE * num) + states.fixed * num + bucket
    return Need(known, fixed, states.divided * num)


def _around_batch(own: Sequence[Measured], source: Measured, batch: int) -> Peak | None:
    """Of one of the source's devices at ``batch``; between two measured batches from the one's peak to the
    other's, of which the larger surely is enough."""
    if source.case.per_device_batch_size == batch:
        peak = source.peak_memory_bytes
        return None if peak is None else Peak(peak, peak)
    peaks = {
        case.case.per_device_batch_size: case.peak_memory_bytes
        for case in own
        if case.device == source.device and case.case.strategy == "single"
    }
    above = peaks.get(min((of for of in peaks if of > batch), default=0))
    below = peaks.get(max((of for of in peaks if of < batch), default=0))
    return None if above is None else Peak(min(below or 0, above), above)


def ran_there(count: int) -> Need:
    """Of what ran on just this device with just this many."""
    return Need({count: _RAN_THERE}, None, 0.0)


def fits(needs: Sequence[Need], profiles: Sequence[HardwareProfile | None], counts: Sequence[int]) -> Floats:
    """1 where it fits, 0 where it does not, ``RAN_OUT`` where a report says so, ``NaN`` where nothing does;
    needs by counts."""
    import numpy as np

    n = np.array(counts, dtype=np.float64)[None, :]
    fixed = np.array([[np.nan if one.fixed is None else one.fixed] for one in needs])
    peak = fixed + np.array([[one.divided] for one in needs]) / n
    low, high = peak * _BY_FORMULA[0], peak * _BY_FORMULA[1]
    low[:, n[0] == 1] = high[:, n[0] == 1] = np.nan
    for place, one in enumerate(needs):
        for count, known in one.known.items():
            if count in counts:
                column = counts.index(count)
                low[place, column], high[place, column] = known
    there = np.array(
        [[np.nan if p is None or p.memory_gib is None else p.memory_gib * 2**30] for p in profiles]
    )
    surely = (high == 0.0) | (high <= there * USABLE_MEMORY_SHARE)
    found: Floats = np.where(surely, 1.0, np.where(low > there, 0.0, np.nan))
    alone = np.array([[one.ran_out_alone] for one in needs])
    together = np.array([[one.ran_out_together] for one in needs])
    ran_out = np.where(n == 1, alone, n <= together)
    return np.where(ran_out & (high != 0.0), RAN_OUT, found)


def with_ran_out(
    need: Need, ran_out: Sequence[RanOut], configured: Configured, strategy: Strategy, batch: int, device: str
) -> Need:
    """``need`` with what ran out of memory on ``device`` at this batch or a smaller one.

    DDP needs no less on several devices than one needs; what shards needs less the more of them there are.
    """
    alone, together = need.ran_out_alone, need.ran_out_together
    for one in ran_out:
        if (one.device, one.configured) != (device, configured) or one.batch > batch:
            continue
        if one.strategy == "single":
            alone = True
            if strategy == "ddp":
                together = math.inf
        elif one.strategy == strategy and one.num_devices > 1:
            together = math.inf if strategy == "ddp" else max(together, one.num_devices)
    return need._replace(ran_out_alone=alone, ran_out_together=together)


def _peak(case: Measured, device: str) -> Peak | None:
    if case.device == device:
        return _RAN_THERE
    return None if case.peak_memory_bytes is None else _around(case.peak_memory_bytes, _ELSEWHERE)


def _around(peak: float, factors: tuple[float, float]) -> Peak:
    return Peak(peak * factors[0], peak * factors[1])


def _element_bytes(precision: str) -> int:
    """Of a weight where the strategy trains a model that is itself in the low precision."""
    return 2 if precision in ("bf16", "fp16") else 4


def _states(strategy: Strategy, precision: str) -> _Bytes:
    """Bytes a parameter: whole on each device, and divided by their number."""
    e = _element_bytes(precision)
    return {
        "single": _Bytes(_WHOLE, 0),
        "ddp": _Bytes(_WHOLE + 4, 0),
        # Gradients of the own part stand in fp32 while it is updated.
        "zero1": _Bytes(2 * e, 12 + 4),
        "zero2": _Bytes(e, e + 12 + 4),
        "zero3": _Bytes(0, 2 * e + 12 + 4),
        "zero2-offload": _Bytes(e, 0),
        "zero3-offload": _Bytes(0, 0),
        "fsdp2": _Bytes(0, _WHOLE),
    }[strategy]
