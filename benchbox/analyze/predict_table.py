"""Foretell each device of a table from each other, with the target left out of everything that is fitted."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from benchbox.analyze.predict_fit import (
    BATCH_POWER,
    Belief,
    Evidence,
    Seen,
    believe,
    host_share,
    log_ratio,
    weigh_witnesses,
)
from benchbox.analyze.predict_interval import (
    TUNED_FACTOR,
    UNSTATED_FACTOR,
    USUAL_RESIDUAL,
    log_half_width,
    step_kind,
)
from benchbox.analyze.predict_model import DEFAULT_STEP_MS, REFERENCE_BANDWIDTH, Workload, model_family
from benchbox.analyze.predict_rates import DeviceRates, RatePrecision
from benchbox.schema import GradedPair, LeftOut, ThroughputRow
from benchbox.stats import median

MAX_BATCH_FACTOR = 8.0
# Beyond, the witnesses contradict each other and no division of the work explains them.
MAX_DISAGREEMENT = 0.5
# Of the residuals of all workloads: how many of its own a table needs until they count as much as the usual.
_PRIOR_WORKLOADS = 8


class UsableRow(NamedTuple):
    """A row whose device and precision are known."""

    row: ThroughputRow
    precision: RatePrecision
    rates: DeviceRates


class _Key(NamedTuple):
    """What is equal for rows that are compared, but for the precision."""

    model: str
    software: str
    workload: tuple[str, ...]


# By device, then by number of devices and batch: the logarithm of one device's rate.
_Curves = dict[str, dict[tuple[int, float | None], float]]


class _Group(NamedTuple):
    wording: str
    """The precision as the table words it."""
    precision: RatePrecision
    first: ThroughputRow
    rates: Mapping[str, DeviceRates]
    curves: _Curves


class _Task(NamedTuple):
    """One target in one group at one number of devices."""

    group: _Group
    target: str
    num_devices: int
    belief: Belief


class _Step(NamedTuple):
    """From one source to a task's target, whatever the batch."""

    source: DeviceRates
    num_devices: int
    """Of the source's rows that are used."""
    middle: float
    spread: float
    waiting: float
    usual_residual: float


def predict_table(rows: Sequence[UsableRow]) -> tuple[list[GradedPair], list[LeftOut]]:
    """All pairs that can be foretold, and the others with the reason.

    The same device, number of devices and batch more than once in a group count as one row: their geometric
    mean.
    """
    tasks: list[_Task] = []
    for groups in _grouped(rows).values():
        tasks.extend(_tasks(groups))
    usual = _usual_residuals(tasks)
    pairs: list[GradedPair] = []
    refused: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], str] = {}
    for task in tasks:
        for outcome in _pairs(task, usual[task.target]):
            if isinstance(outcome, GradedPair):
                pairs.append(outcome)
            else:
                refused[outcome[:2]] += 1
                examples.setdefault(outcome[:2], outcome[2])
    left_out = [
        LeftOut(reason=reason, num=num, example=examples[reason, run], settled_by=run)
        for (reason, run), num in refused.most_common()
    ]
    return pairs, left_out


def _grouped(rows: Sequence[UsableRow]) -> dict[_Key, list[_Group]]:
    """Rows by everything that must be equal; the precisions of one key are each other's witnesses."""
    sorted_out: dict[tuple[_Key, str], list[UsableRow]] = defaultdict(list)
    for usable in rows:
        row = usable.row
        sorted_out[_Key(row.model, row.software, row.workload), row.precision].append(usable)
    groups: dict[_Key, list[_Group]] = defaultdict(list)
    for (key, wording), members in sorted_out.items():
        curves: dict[str, dict[tuple[int, float | None], list[float]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for usable in members:
            row = usable.row
            rate = math.log(row.samples_per_second / row.num_devices)
            curves[usable.rates.name][row.num_devices, row.batch_per_device].append(rate)
        groups[key].append(
            _Group(
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


def _tasks(groups: Sequence[_Group]) -> Iterator[_Task]:
    counts = sorted({n for group in groups for curve in group.curves.values() for n, _ in curve})
    for num_devices in counts:
        targets = sorted(
            {
                name
                for group in groups
                for name, curve in group.curves.items()
                if len(group.curves) > 1 and any(n == num_devices for n, _ in curve)
            }
        )
        for target in targets:
            evidence = [_evidence(group, target, num_devices) for group in groups]
            for place, group in enumerate(groups):
                if any(n == num_devices for n, _ in group.curves.get(target, ())):
                    own = evidence[place]
                    others = [item for item in evidence if item is not own]
                    yield _Task(group, target, num_devices, believe(own, others))


def _evidence(group: _Group, target: str, num_devices: int) -> Evidence:
    seen = [
        witness
        for name, curve in group.curves.items()
        if name != target and (witness := _middle_of(curve, group.rates[name], num_devices)) is not None
    ]
    step_ms = [
        1e3
        * witness.batch
        / math.exp(witness.log_rate)
        * witness.device.bandwidth_gb_per_s
        / REFERENCE_BANDWIDTH
        for witness in seen
        if witness.batch is not None and group.first.rate_counts_samples
    ]
    work = Workload(
        model_family(group.first.model), group.precision, median(step_ms) if step_ms else DEFAULT_STEP_MS
    )
    return weigh_witnesses(work, seen)


def _middle_of(
    curve: Mapping[tuple[int, float | None], float], device: DeviceRates, num_devices: int
) -> Seen | None:
    """The middle of a device's batch curve at the like number of devices."""
    like = _like_count(curve, num_devices)
    if like is None:
        return None
    batches = sorted((batch or 0.0, batch, rate) for (n, batch), rate in curve.items() if n == like)
    _, batch, rate = batches[len(batches) // 2]
    return Seen(device, like, batch, rate)


def _like_count(curve: Mapping[tuple[int, float | None], float], num_devices: int) -> int | None:
    """The nearest number of devices that was measured: equal, or several and within a factor of two."""
    counts = {n for n, _ in curve}
    if num_devices in counts:
        return num_devices
    near = [n for n in counts if min(n, num_devices) > 1 and max(n, num_devices) <= 2 * min(n, num_devices)]
    return min(near, key=lambda n: (abs(math.log(n / num_devices)), n), default=None)


def _usual_residuals(tasks: Sequence[_Task]) -> dict[str, float]:
    """By target: what witnesses leave over all workloads of the table, the middle one, drawn to the usual."""
    by_target: dict[str, list[float]] = defaultdict(list)
    for task in tasks:
        degrees = task.belief.num_witnesses - 1
        own = by_target[task.target]
        if degrees > 0:
            own.append(task.belief.squared_residuals / degrees)
    return {
        target: math.sqrt(
            (_PRIOR_WORKLOADS * USUAL_RESIDUAL**2 + len(seen) * (median(seen) if seen else 0.0))
            / (_PRIOR_WORKLOADS + len(seen))
        )
        for target, seen in by_target.items()
    }


def _pairs(task: _Task, usual_residual: float) -> Iterator[GradedPair | tuple[str, str, str]]:
    """Each row of the target from each other device: a pair, or reason, settling run and example."""
    group, belief = task.group, task.belief
    target = group.rates[task.target]
    rows = {batch: rate for (n, batch), rate in group.curves[task.target].items() if n == task.num_devices}
    degrees = max(1, belief.num_witnesses - 1)
    disagree = math.sqrt(belief.squared_residuals / degrees) > MAX_DISAGREEMENT
    for name in group.curves:
        if name == task.target:
            continue
        source, like = group.rates[name], _like_count(group.curves[name], task.num_devices)
        example = f"{group.first.model}, {group.wording}: {name} to {task.target}"
        step: _Step | None = None
        for batch, measured in rows.items():
            if source.vendor != target.vendor:
                run = "one row of the same workload on another device of the target's vendor"
                yield "source and target are of different vendors, so is their software", run, example
            elif like is None:
                run = "the same number of devices on both, or at least half as many"
                yield "the source was not measured with a like number of devices", run, example
            elif disagree:
                run = "the odd row measured again"
                yield "the other devices' rows contradict each other", run, example
            else:
                step = step or _step(task, source, like, usual_residual)
                yield _pair(task, step, batch, measured) or (
                    f"the batches differ by more than a factor of {MAX_BATCH_FACTOR:g}",
                    "a row of the source at a batch nearer to the target's",
                    example,
                )


def _step(task: _Task, source: DeviceRates, like: int, usual_residual: float) -> _Step:
    target = task.group.rates[task.target]
    middle, spread = log_ratio(task.belief, (source, like), (target, task.num_devices))
    waiting = max(host_share(task.belief, source), host_share(task.belief, target))
    return _Step(source, like, middle, spread, waiting, usual_residual)


def _pair(task: _Task, step: _Step, batch: float | None, measured: float) -> GradedPair | None:
    group, first, source = task.group, task.group.first, step.source
    target = group.rates[task.target]
    curve = {b: rate for (n, b), rate in group.curves[source.name].items() if n == step.num_devices}
    start, batch_factor = rate_at_batch(curve, batch)
    if abs(math.log(batch_factor)) > math.log(MAX_BATCH_FACTOR):
        return None
    center = start + step.middle + BATCH_POWER * math.log(batch_factor)
    half = log_half_width(
        task.belief,
        spread=step.spread,
        waiting=step.waiting,
        source=source,
        target=target,
        usual_residual=step.usual_residual,
        software_factor=software_factor(first),
        batch_factor=batch_factor,
        num_devices=(step.num_devices, task.num_devices),
    )
    return GradedPair(
        model=first.model,
        precision=group.wording,
        software=first.software,
        workload=first.workload,
        source=source.name,
        target=target.name,
        num_devices=task.num_devices,
        batch_per_device=batch,
        measured=math.exp(measured),
        predicted=math.exp(center),
        low=math.exp(center - half),
        high=math.exp(center + half),
        kind=step_kind(source, target),
        num_witnesses=task.belief.num_witnesses,
        by_peak_flops=math.exp(start) * target.peak_tflops / source.peak_tflops,
        by_bandwidth=math.exp(start) * target.bandwidth_gb_per_s / source.bandwidth_gb_per_s,
    )


def rate_at_batch(curve: Mapping[float | None, float], batch: float | None) -> tuple[float, float]:
    """The log rate at ``batch``, and by what factor ``batch`` lies beyond what was measured.

    Between two measured batches it is interpolated, linear in both logarithms; elsewhere it is the nearest
    one's.
    """
    known = sorted((b, rate) for b, rate in curve.items() if b is not None)
    if batch is None or not known:
        rates = sorted(curve.values())
        return rates[len(rates) // 2], 1.0
    for (low, low_rate), (high, high_rate) in itertools.pairwise(known):
        if low <= batch <= high:
            share = math.log(batch / low) / math.log(high / low)
            return low_rate + share * (high_rate - low_rate), 1.0
    nearest, rate = min(known, key=lambda point: abs(math.log(point[0] / batch)))
    return rate, batch / nearest


def software_factor(row: ThroughputRow) -> float:
    """How much more or less software leaves than one stated version of it does."""
    words = f"{row.precision} {row.software} {row.source}".casefold()
    if "mlperf" in words or "mlcommons" in words:
        return TUNED_FACTOR
    vague = ("see ", "~", "unknown", "not recorded", "unstated", "various")
    return UNSTATED_FACTOR if not row.software or any(word in words for word in vague) else 1.0
