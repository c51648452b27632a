"""Foretell each device of a table from each other, with the target left out of everything that is fitted."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from benchbox.analyze.predict_fit import (
    BATCH_POWER,
    Belief,
    Evidence,
    believe,
    weigh_witnesses,
)
from benchbox.analyze.predict_groups import (
    BatchCurve,
    Group,
    UsableRow,
    batch_curve,
    grouped,
    like_count,
    middle_of,
    rate_at_batch,
    software_factor,
)
from benchbox.analyze.predict_interval import (
    MAX_INTERVAL_RATIO,
    TUNED_FACTOR,
    UNSTATED_FACTOR,
    USUAL_RESIDUAL,
    Step,
    log_half_widths,
    step_between,
    step_kind,
    witnesses_contradict,
)
from benchbox.analyze.predict_model import DEFAULT_STEP_MS, REFERENCE_BANDWIDTH, Workload, model_family
from benchbox.analyze.predict_rates import DeviceRates
from benchbox.schema import GradedPair, LeftOut
from benchbox.stats import median

MAX_BATCH_FACTOR = 8.0
# Of the residuals of all workloads: how many of its own a table needs until they count as much as the usual.
_PRIOR_WORKLOADS = 8
# Nothing in a table tells of throttling or a wrong setting. With fewer witnesses than this none can be said
# to be the odd one, and half of what they say is never excluded.
_ENOUGH_WITNESSES = 3
_REACH_DOWN_OF_FEW = math.log(2)


class _Task(NamedTuple):
    """One target in one group at one number of devices."""

    group: Group
    target: str
    num_devices: int
    belief: Belief


class _Source(NamedTuple):
    """One source of a task: the step from it to the target, and its rates by batch."""

    step: Step
    curve: BatchCurve


def predict_table(rows: Sequence[UsableRow]) -> tuple[list[GradedPair], list[LeftOut]]:
    """All pairs that can be foretold, and the others with the reason.

    The same device, number of devices and batch more than once in a group count as one row: their geometric
    mean.
    """
    tasks: list[_Task] = []
    for groups in grouped(rows).values():
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


def _tasks(groups: Sequence[Group]) -> Iterator[_Task]:
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


def _evidence(group: Group, target: str, num_devices: int) -> Evidence:
    seen = [
        witness
        for name, curve in group.curves.items()
        if name != target and (witness := middle_of(curve, group.rates[name], num_devices)) is not None
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


def _usual_residuals(tasks: Sequence[_Task]) -> dict[str, float]:
    """By target: what witnesses leave over all workloads of the table, the middle one, drawn to the usual."""
    by_target: dict[str, list[float]] = defaultdict(list)
    for task in tasks:
        degrees = len(task.belief.architectures) - 1
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
    disagree = witnesses_contradict(belief)
    for name in group.curves:
        if name == task.target:
            continue
        source, like = group.rates[name], like_count(group.curves[name], task.num_devices)
        example = f"{group.first.model}, {group.wording}: {name} to {task.target}"
        reached: _Source | None = None
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
                reached = reached or _source(task, source, like)
                pair = _pair(task, reached, batch, measured, usual_residual)
                if pair is None:
                    run = "a row of the source at a batch nearer to the target's"
                    reason = f"the batches differ by more than a factor of {MAX_BATCH_FACTOR:g}"
                    yield reason, run, example
                elif pair.high > MAX_INTERVAL_RATIO * pair.low:
                    run = "a row of a device that is nearer to the target, at its batch and number of devices"
                    reason = f"the interval would span more than a factor of {MAX_INTERVAL_RATIO:g}"
                    yield reason, run, example
                else:
                    yield pair


def _source(task: _Task, source: DeviceRates, like: int) -> _Source:
    target = task.group.rates[task.target]
    curve = {b: rate for (n, b), rate in task.group.curves[source.name].items() if n == like}
    step = step_between(
        task.belief,
        (source, like),
        (target, task.num_devices),
        tuned=software_factor(task.group.first) == TUNED_FACTOR,
    )
    return _Source(step, batch_curve(curve))


def _pair(
    task: _Task, from_: _Source, batch: float | None, measured: float, usual_residual: float
) -> GradedPair | None:
    step, curve = from_
    group, first, source, target = task.group, task.group.first, step.source, step.target
    start, batch_factor = rate_at_batch(curve, batch)
    if abs(math.log(batch_factor)) > math.log(MAX_BATCH_FACTOR):
        return None
    half_stated = (batch is None) != curve.half_stated
    center = start + step.middle + BATCH_POWER * math.log(batch_factor)
    halves = log_half_widths(
        task.belief,
        step,
        usual_residual=usual_residual,
        software_factor=software_factor(first),
        batch_factor=None if half_stated else batch_factor,
    )
    below = halves.below
    kind = step_kind(source, target)
    # Equal chips under one stated software are nearer to each other.
    is_near = kind == "same chip" and software_factor(first) < UNSTATED_FACTOR
    if task.belief.num_witnesses < _ENOUGH_WITNESSES and not step.tuned and not is_near:
        below = math.hypot(below, _REACH_DOWN_OF_FEW)
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
        low=math.exp(center - below),
        high=math.exp(center + halves.above),
        kind=kind,
        num_witnesses=task.belief.num_witnesses,
        by_peak_flops=math.exp(start) * target.peak_tflops / source.peak_tflops,
        by_bandwidth=math.exp(start) * target.bandwidth_gb_per_s / source.bandwidth_gb_per_s,
    )
