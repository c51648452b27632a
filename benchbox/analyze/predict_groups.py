"""The rows of a table, sorted into what can be compared."""

from __future__ import annotations

import bisect
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from benchbox.analyze.predict_fit import Seen
from benchbox.analyze.predict_interval import TUNED_FACTOR, UNSTATED_FACTOR
from benchbox.analyze.predict_rates import DeviceRates, RatePrecision
from benchbox.schema import ThroughputRow


class UsableRow(NamedTuple):
    """A row whose device and precision are known."""

    row: ThroughputRow
    precision: RatePrecision
    rates: DeviceRates


class Key(NamedTuple):
    """What is equal for rows that are compared, but for the precision."""

    model: str
    software: str
    workload: tuple[str, ...]


# Repeated runs, on hosts of different makers too, stay within this of each other.
MAX_CELL_RATIO = 2.0

# By device, then by number of devices and batch: the logarithm of one device's rate.
Curves = dict[str, dict[tuple[int, float | None], float]]


class Group(NamedTuple):
    """Rows that are compared, in one precision."""

    wording: str
    """The precision as the table words it."""
    precision: RatePrecision
    first: ThroughputRow
    rates: Mapping[str, DeviceRates]
    curves: Curves


def grouped(rows: Sequence[UsableRow]) -> dict[Key, list[Group]]:
    """Rows by everything that must be equal; the precisions of one key are each other's witnesses."""
    sorted_out: dict[tuple[Key, str], list[UsableRow]] = defaultdict(list)
    for usable in rows:
        row = usable.row
        sorted_out[Key(row.model, row.software, row.workload), row.precision].append(usable)
    groups: dict[Key, list[Group]] = defaultdict(list)
    for (key, wording), members in sorted_out.items():
        curves: dict[str, dict[tuple[int, float | None], list[float]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for usable in members:
            row = usable.row
            rate = math.log(row.samples_per_second / row.num_devices)
            curves[usable.rates.name][row.num_devices, row.batch_per_device].append(rate)
        groups[key].append(
            Group(
                wording=wording,
                precision=members[0].precision,
                first=members[0].row,
                rates={usable.rates.name: usable.rates for usable in members},
                curves={
                    name: {place: math.fsum(rates) / len(rates) for place, rates in curve.items()}
                    for name, curve in curves.items()
                },
            )
        )
    return groups


def split_contradicting(rows: Sequence[UsableRow]) -> tuple[list[UsableRow], list[UsableRow]]:
    """Rows that agree with the others of their cell, and rows of cells that contradict themselves.

    A cell is one device, number of devices, batch and everything else that is equal in rows that are
    compared. Where its rates differ by more than ``MAX_CELL_RATIO``, they measured different things, and the
    table does not say what.
    """
    cells: dict[tuple[object, ...], list[UsableRow]] = defaultdict(list)
    for usable in rows:
        row = usable.row
        place = (usable.rates.name, row.num_devices, row.batch_per_device, row.precision)
        cells[row.model, row.software, row.workload, place].append(usable)
    agreeing: list[UsableRow] = []
    contradicting: list[UsableRow] = []
    for cell in cells.values():
        rates = [usable.row.samples_per_second for usable in cell]
        (agreeing if max(rates) <= MAX_CELL_RATIO * min(rates) else contradicting).extend(cell)
    return agreeing, contradicting


def split_outdone(rows: Sequence[UsableRow]) -> tuple[list[UsableRow], list[UsableRow]]:
    """Rows, and those of a number of devices of which fewer did as much or more in all.

    With the same batch for each device and everything else equal, more of them can only do more, unless
    something else sets a rate: a host, a slow link, a fault. Which of the two rows is odd no table says; the
    one of more devices is left out. Rows without a batch may have had another one, and stay.
    """
    cells: dict[tuple[object, ...], dict[int, list[UsableRow]]] = defaultdict(lambda: defaultdict(list))
    for usable in rows:
        row = usable.row
        place = (usable.rates.name, row.batch_per_device, row.precision)
        cells[row.model, row.software, row.workload, place][row.num_devices].append(usable)
    kept: list[UsableRow] = []
    outdone: list[UsableRow] = []
    for cell in cells.values():
        most = 0.0
        for _, members in sorted(cell.items()):
            rate = math.exp(math.fsum(math.log(u.row.samples_per_second) for u in members) / len(members))
            stated = members[0].row.batch_per_device is not None
            (outdone if stated and rate <= most else kept).extend(members)
            most = max(most, rate)
    return kept, outdone


def middle_of(
    curve: Mapping[tuple[int, float | None], float], device: DeviceRates, num_devices: int
) -> Seen | None:
    """The middle of a device's batch curve at the like number of devices."""
    like = like_count(curve, num_devices)
    if like is None:
        return None
    batches = sorted((batch or 0.0, batch, rate) for (n, batch), rate in curve.items() if n == like)
    _, batch, rate = batches[len(batches) // 2]
    return Seen(device, like, batch, rate)


def like_count(curve: Mapping[tuple[int, float | None], float], num_devices: int) -> int | None:
    """The nearest number of devices that was measured: equal, or several and within a factor of two."""
    counts = {n for n, _ in curve}
    if num_devices in counts:
        return num_devices
    near = [n for n in counts if min(n, num_devices) > 1 and max(n, num_devices) <= 2 * min(n, num_devices)]
    return min(near, key=lambda n: (abs(math.log(n / num_devices)), n), default=None)


class BatchCurve(NamedTuple):
    """The log rates of one device at one number of devices, by batch."""

    batches: tuple[float, ...]
    """Rising; those that are stated."""
    rates: tuple[float, ...]
    middle: float
    """Of all rates."""
    half_stated: bool
    """Whether some batch is not stated."""


def batch_curve(rates: Mapping[float | None, float]) -> BatchCurve:
    """The curve through ``rates``, of which there is at least one."""
    known = sorted((batch, rate) for batch, rate in rates.items() if batch is not None)
    ranked = sorted(rates.values())
    return BatchCurve(
        batches=tuple(batch for batch, _ in known),
        rates=tuple(rate for _, rate in known),
        middle=ranked[len(ranked) // 2],
        half_stated=None in rates,
    )


def rate_at_batch(curve: BatchCurve, batch: float | None) -> tuple[float, float]:
    """The log rate at ``batch``, and by what factor ``batch`` lies beyond what was measured.

    Between two measured batches it is interpolated, linear in both logarithms; elsewhere it is the nearest
    one's.
    """
    batches, rates = curve.batches, curve.rates
    if batch is None or not batches:
        return curve.middle, 1.0
    place = bisect.bisect_left(batches, batch)
    if place == len(batches) or (place == 0 and batches[0] != batch):
        place = min(place, len(batches) - 1)
        return rates[place], batch / batches[place]
    if batches[place] == batch:
        return rates[place], 1.0
    low, high = batches[place - 1], batches[place]
    share = math.log(batch / low) / math.log(high / low)
    return rates[place - 1] + share * (rates[place] - rates[place - 1]), 1.0


def software_factor(row: ThroughputRow) -> float:
    """How much more or less software leaves than one stated version of it does."""
    words = f"{row.precision} {row.software} {row.source}".casefold()
    if "mlperf" in words or "mlcommons" in words:
        return TUNED_FACTOR
    vague = ("see ", "~", "unknown", "not recorded", "unstated", "various")
    return UNSTATED_FACTOR if not row.software or any(word in words for word in vague) else 1.0
