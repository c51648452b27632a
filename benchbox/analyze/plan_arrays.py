"""Every row of a plan crossed with every number of devices, as arrays.

The first axis is the row, the second the number of devices. A step on n devices at a given global batch is

    step  = (alone^2 + collectives^2)^(1/2)
    alone = micro-batches · time of a micro-batch + update of the weights
    micro-batches = global batch / (n · batch)

where collectives overlap with the backward pass as in :mod:`benchbox.analyze.predict_model`. Devices that
would make a step longer stay idle: at an equal global batch more devices never take longer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from benchbox.analyze.plan_collectives import shared_by
from benchbox.analyze.plan_costs import HourlyCost
from benchbox.analyze.plan_memory import RAN_OUT, fits
from benchbox.analyze.plan_rows import Row
from benchbox.schema import PlanJob

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
else:
    Floats = Any

# What several devices leave beside the collectives, and how uncertain the collectives' own effect is.
_SEVERAL_LOG_HALF = 0.05
_COLLECTIVES_UNCERTAINTY = 0.7


class TooLarge(NamedTuple):
    """Configurations that have no memory to run in."""

    num: int
    first_row: int | None


class Crossed(NamedTuple):
    """``NaN`` where a row cannot use that many devices, and in ``cost`` where it has no price."""

    counts: tuple[int, ...]
    time_s: Floats
    log_half: Floats
    """Half of the 80 % interval of the rate and of the time."""
    log_half_faster: Floats
    """The same on the side of higher rates and shorter times, where the roofline may cut it."""
    cost: Floats
    fits: Floats
    """1 where it fits in memory, ``NaN`` where that is not known; what does not has no time."""
    too_large: TooLarge
    """What does not fit by its peak."""
    ran_out: TooLarge
    """What ran out of memory in a report."""


def cross(rows: Sequence[Row], costs: Sequence[HourlyCost], job: PlanJob, samples: int) -> Crossed:
    """All rows with all counts of ``job``."""
    import numpy as np

    n = np.array(job.counts, dtype=np.float64)[None, :]
    batch = _column([float(row.batch) for row in rows])
    step_samples, divides = _step_samples(rows, job, batch, n)
    usable = divides & _own_counts(rows, job)
    micro_batches = step_samples / (n * batch)
    alone_s = micro_batches * _column([row.rate.micro_batch_s for row in rows]) + _column(
        [row.rate.update_s for row in rows]
    )
    needed = fits([row.need for row in rows], [row.target.profile for row in rows], job.counts)
    collectives_s, reachable = _collectives_s(rows, job, n, micro_batches)
    step_s = np.sqrt(alone_s**2 + collectives_s**2)
    possible = usable & reachable
    too_large = possible & (needed <= 0)
    per_second = np.where(possible & ~too_large, step_samples / step_s, np.nan)
    log_half, faster = _log_halves(rows, n, np.log(step_s / alone_s), micro_batches)
    ceiling = _column([row.rate.log_ceiling for row in rows]) + np.log(n)
    # More micro-batches have less of the update each, but the roofline stays.
    per_second = np.minimum(per_second, np.exp(ceiling))
    # At the roofline itself rounding may leave less than nothing.
    faster = np.clip(ceiling - np.log(per_second), 0.0, faster)
    held = np.broadcast_to(needed, per_second.shape)
    if job.global_batch_size is not None:
        working = _working(per_second)
        kept = np.isnan(per_second)
        per_second, log_half, faster, held = (
            np.where(kept, values, np.take_along_axis(values, working, axis=1))
            for values in (per_second, log_half, faster, held)
        )
    time_s = samples / per_second
    per_hour = _column([math.nan if cost.per_hour is None else cost.per_hour for cost in costs])
    return Crossed(
        counts=job.counts,
        time_s=time_s,
        log_half=log_half,
        log_half_faster=faster,
        cost=time_s / 3600 * n * per_hour,
        fits=held,
        too_large=_too_large(possible & (needed == 0)),
        ran_out=_too_large(possible & (needed == RAN_OUT)),
    )


def _too_large(found: Any) -> TooLarge:
    return TooLarge(int(found.sum()), int(found.any(axis=1).argmax()) if found.any() else None)


def _log_halves(
    rows: Sequence[Row], n: Floats, slowed: Floats, micro_batches: Floats
) -> tuple[Floats, Floats]:
    """Of the rate's 80 % interval, down and up; ``slowed`` is the step by its collectives, as a logarithm."""
    import numpy as np

    foretold = np.array([[row.only_count is None] for row in rows])
    several = np.where((n > 1) & foretold, _SEVERAL_LOG_HALF, 0.0)
    carried = np.where(n > 1, _column([row.collectives.log_half for row in rows]), 0.0)
    beside = several**2 + (_COLLECTIVES_UNCERTAINTY * slowed) ** 2 + carried**2
    accumulating = _accumulating_log_half(rows, micro_batches)
    below = np.hypot(_column([row.rate.log_half for row in rows]), accumulating)
    above = np.hypot(_column([row.rate.log_half_faster for row in rows]), accumulating)
    # At best they lose nothing to each other: n times what one of them does at best.
    return np.sqrt(below**2 + beside), np.minimum(np.sqrt(above**2 + beside), slowed + above)


def _working(per_second: Floats) -> Any:
    """For each count the place of the one, up to it, that is fastest: devices beyond that stay idle.

    A count that cannot be used does not hide a smaller one.
    """
    import numpy as np

    known = np.nan_to_num(per_second, nan=-math.inf)
    places = np.broadcast_to(np.arange(known.shape[1]), known.shape)
    return np.maximum.accumulate(np.where(known == np.maximum.accumulate(known, axis=1), places, 0), axis=1)


def _step_samples(rows: Sequence[Row], job: PlanJob, batch: Floats, n: Floats) -> tuple[Floats, Any]:
    """Samples of an optimizer step, and whether the global batch divides into the devices' own."""
    import numpy as np

    if job.global_batch_size is None:
        accumulation = _column([float(row.accumulation) for row in rows])
        return n * batch * accumulation, np.full(np.broadcast_shapes(n.shape, batch.shape), fill_value=True)
    total = float(job.global_batch_size)
    usable = np.mod(total, n * batch) == 0
    return np.full(usable.shape, total), usable


def _own_counts(rows: Sequence[Row], job: PlanJob) -> Any:
    """Whether a number of devices is a row's to answer for."""
    import numpy as np

    own = np.ones((len(rows), len(job.counts)), dtype=bool)
    for place, row in enumerate(rows):
        if row.only_count is not None:
            own[place] = np.array(job.counts) == row.only_count
            if job.global_batch_size is not None:
                own[place] &= row.rate.source.case.global_batch_size == job.global_batch_size
        if not row.lists_one_device and 1 in job.counts:
            own[place, job.counts.index(1)] = False
        for count, step_samples in row.measured_apart:
            wanted = job.global_batch_size or count * row.batch * row.accumulation
            if count in job.counts and wanted == step_samples:
                own[place, job.counts.index(count)] = False
    return own


def _accumulating_log_half(rows: Sequence[Row], micro_batches: Floats) -> Floats:
    """Of the rate, where another number of micro-batches ran than is asked for, and it is not known how much
    of the step came once."""
    import numpy as np

    ran = _column([float(row.accumulation) for row in rows])

    def step(share: Floats) -> Floats:
        return micro_batches * (1 - share) + ran * share

    known = _column([row.rate.update_share for row in rows])
    other = _column([row.rate.other_update_share for row in rows])
    width: Floats = np.abs(np.log(step(other) / step(known)))
    return width


def _collectives_s(rows: Sequence[Row], job: PlanJob, n: Floats, micro_batches: Floats) -> tuple[Floats, Any]:
    """Seconds of collectives in a step, and whether the links they need are known."""
    import numpy as np

    repeated = 1 + _column([row.collectives.micro_batch_share for row in rows]) * (micro_batches - 1)
    within = repeated * _column([_or_nan(row.collectives.seconds) for row in rows])
    gigabytes = repeated * _column([_or_nan(row.collectives.gigabytes) for row in rows])
    shared = np.array([[row.collectives.shared_link] for row in rows])
    sharing = np.array([shared_by(min(count, job.devices_per_host)) for count in job.counts])[None, :]
    within = within * np.where(shared, sharing, 1.0)
    one_host = (n <= np.array([[_devices_per_host(row, job)] for row in rows])) | np.array(
        [[row.only_count is not None] for row in rows]
    )
    between = gigabytes / (job.network_gb_per_s or math.nan)
    # Across hosts the slower of the two links sets the pace; a host of one device has no link inside.
    seconds = np.where(one_host, within, np.fmax(between, np.nan_to_num(within))) * (n - 1) / n
    seconds = np.where(~one_host & np.isnan(between), np.nan, seconds)
    seconds = np.where(n == 1, 0.0, seconds)
    return np.nan_to_num(seconds), ~np.isnan(seconds)


def _devices_per_host(row: Row, job: PlanJob) -> int:
    return 1 if row.target.is_host else job.devices_per_host


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _column(values: Sequence[float]) -> Floats:
    import numpy as np

    column: Floats = np.array(values, dtype=np.float64)[:, None]
    return column
