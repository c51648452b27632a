"""One configuration of a plan with its figures and verdicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from benchbox.analyze.plan_costs import HourlyCost
from benchbox.analyze.plan_rows import Row
from benchbox.schema import Answer, Basis, Configuration, Estimate, PlanJob, Prices, Verdict

_JOULES_PER_KWH = 3.6e6
_ORDER: tuple[Verdict, ...] = ("yes", "maybe", "no")


class Choice(NamedTuple):
    """A row, and how many devices."""

    row: Row
    num_devices: int
    hourly: HourlyCost
    time_s: float
    log_half: float
    """Of the 80 % interval, towards a lower rate, a longer time and a higher cost."""
    log_half_faster: float
    """The same the other way; the roofline may make it less."""
    cost: float
    """``NaN`` without a price."""
    fits_memory: bool | None


def configuration(
    choice: Choice,
    samples: int,
    job: PlanJob,
    deadline_s: float | None,
    prices: Prices | None,
    *,
    on_front: bool,
) -> Configuration:
    """The record of ``choice``."""
    row, count = choice.row, choice.num_devices
    case = row.rate.source.case
    accumulation = row.accumulation
    if job.global_batch_size is not None:
        accumulation = job.global_batch_size // (count * row.batch)
    basis = _basis(choice, accumulation)
    # What was measured is given as it was measured, to the last digit.
    rate = row.rate.source.samples_per_second if basis == "measured" else samples / choice.time_s
    slower, faster = choice.log_half, choice.log_half_faster
    time_s = _estimate(samples / rate, faster, slower)
    hourly = choice.hourly.log_half
    cost = None
    if not math.isnan(choice.cost):
        cost = _estimate(choice.cost, math.hypot(faster, hourly), math.hypot(slower, hourly))
    power_w = choice.hourly.power_w
    energy = None
    if power_w is not None:
        power = choice.hourly.power_log_half
        energy = _estimate(
            power_w * count * choice.time_s, math.hypot(faster, power), math.hypot(slower, power)
        )
    grid = prices.grid_g_co2_per_kwh if prices else None
    return Configuration(
        device=row.target.name,
        count=count,
        strategy=row.strategy if count > 1 or row.only_count else "single",
        precision=case.precision,
        per_device_batch_size=row.batch,
        gradient_accumulation_steps=accumulation,
        gradient_checkpointing=case.gradient_checkpointing,
        compile=case.compile,
        memory_format=case.memory_format,
        data=case.data,
        basis=basis,
        source=f"{row.rate.source.device}, case {case.case_id}",
        samples_per_second=_estimate(rate, slower, faster),
        time_s=time_s,
        cost=cost,
        energy_j=energy,
        carbon_g=None if energy is None or grid is None else _times(energy, grid / _JOULES_PER_KWH),
        fits_memory=choice.fits_memory,
        meets_deadline=None if deadline_s is None else verdict(time_s, deadline_s),
        within_budget=None if job.budget is None or cost is None else verdict(cost, job.budget),
        on_front=on_front,
    )


def verdict(estimate: Estimate, limit: float) -> Verdict:
    """Whether ``limit`` is kept: ``maybe`` where it lies within the interval."""
    if estimate.high <= limit:
        return "yes"
    return "maybe" if estimate.low <= limit else "no"


def answer(limit: float | None, estimates: Sequence[tuple[Estimate | None, bool | None]]) -> Answer | None:
    """Whether a configuration keeps ``limit``, and what would surely be enough; with each whether it fits.

    The one with the least value may be foretold and uncertain, and another be kept for sure. What may not fit
    in memory keeps nothing for sure, and is enough only where nothing else is there.
    """
    known = [(estimate, fits) for estimate, fits in estimates if estimate is not None]
    if limit is None or not known:
        return None
    sure = [estimate for estimate, fits in known if fits] or [estimate for estimate, _ in known]
    safest = min(sure, key=lambda estimate: estimate.high)
    best = min((_if_it_fits(verdict(estimate, limit), fits) for estimate, fits in known), key=_ORDER.index)
    return Answer(verdict=best, wanted=limit, best=safest, enough=safest.high)


def _if_it_fits(found: Verdict, fits: bool | None) -> Verdict:
    return "maybe" if found == "yes" and fits is None else found


def keeps_both(configurations: Sequence[Configuration]) -> Verdict:
    """The best that one configuration does on deadline and budget together."""
    worst = [
        max(
            _ORDER.index(_if_it_fits(found or "no", one.fits_memory))
            for found in (one.meets_deadline, one.within_budget)
        )
        for one in configurations
    ]
    return _ORDER[min(worst, default=2)]


def _basis(choice: Choice, accumulation: int) -> Basis:
    """Measured is what ran exactly so; several devices, or other accumulation, are foretold from one."""
    row = choice.row
    ran = choice.num_devices == (row.only_count or 1)
    return row.rate.basis if ran and accumulation == row.accumulation else "predicted"


def _estimate(value: float, log_below: float, log_above: float) -> Estimate:
    return Estimate(value=value, low=value * math.exp(-log_below), high=value * math.exp(log_above))


def _times(estimate: Estimate, factor: float) -> Estimate:
    return Estimate(value=estimate.value * factor, low=estimate.low * factor, high=estimate.high * factor)
