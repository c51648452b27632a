"""What a plan says below its table: what its figures leave out, and what would bring it in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from benchbox.analyze.plan_costs import HourlyCost
from benchbox.analyze.plan_sources import Measured, device_name
from benchbox.plan.device_names import match_device_name
from benchbox.plan.hardware import alike_names
from benchbox.plan.tomlfile import quoted
from benchbox.schema import Configuration, DataSource, HardwareProfile, PlanJob, Prices, Report

_MAX_NAMES = 3
_READ_NOTHING: frozenset[DataSource] = frozenset({"device", "host"})


def notes(
    reports: Sequence[Report],
    job: PlanJob,
    prices: Prices | None,
    cases: Sequence[Measured],
    shown: Sequence[Configuration],
    costs: Mapping[str, HourlyCost],
    profiles: tuple[HardwareProfile, ...],
) -> list[str]:
    """A sentence or two for each; ``costs`` has one of each device's."""
    found = _interrupted(reports)
    if job.global_batch_size is None and any(one.count > 1 for one in shown):
        found.append(
            "The global batch grows with the number of devices, and more samples may be needed for the same "
            "result; --global-batch-size holds it."
        )
    uneven = _uneven_counts(job, cases)
    if uneven:
        found.append(
            f"Left out are {_names(map(str, uneven))} devices: a global batch of {job.global_batch_size} "
            "is no multiple of them times a measured batch."
        )
    if any(one.data in _READ_NOTHING for one in shown):
        found.append(
            "No time for reading and decoding samples is in figures whose configuration does not say "
            "`loader`, `folder` or `digits`."
        )
    if any(one.data not in _READ_NOTHING and one.count > 1 and one.basis == "predicted" for one in shown):
        found.append(
            "Several devices that read their samples are taken to have as many of the host's processors each "
            "as the one that was measured."
        )
    if len({(case.case.input_shape, case.case.hidden_size) for case in cases}) > 1:
        found.append("The cases differ in the size of a sample or of the model, and do not do the same work.")
    found += _other_software(cases, shown)
    found += _accumulated_unseen(cases, shown)
    found += _measured_again(cases)
    if any(one.fits_memory is None for one in shown):
        found.append("Where memory is `?`, nothing measured or foretold says whether the case fits.")
    if not any(case.power_w for case in cases) and any(one.energy_j is None for one in shown):
        found.append("The reports have no power, so what is measured has no energy.")
    if prices is not None:
        found += _about_prices(job, prices, shown, costs)
        found += _useless_prices(prices, {case.device for case in cases}, profiles)
    if max(job.counts) > job.devices_per_host and job.network_gb_per_s is None:
        found.append(
            f"More than {job.devices_per_host} devices need several hosts; "
            "without --network-gb-per-s they are left out."
        )
    return found


def _interrupted(reports: Sequence[Report]) -> list[str]:
    found = []
    for report in reports:
        if not report.complete:
            num_open = sum(result.outcome is None for result in report.cases)
            found.append(
                f"The run of {report.created_at} on {device_name(report)} was interrupted: {num_open} of its "
                f"{len(report.cases)} cases were not finished and are not used; `run --resume` goes on."
            )
    return found


def _uneven_counts(job: PlanJob, cases: Sequence[Measured]) -> list[int]:
    """Numbers of devices that the global batch divides among with no measured batch."""
    if job.global_batch_size is None:
        return []
    batches = {case.case.per_device_batch_size for case in cases}
    return [n for n in job.counts if all(job.global_batch_size % (n * batch) for batch in batches)]


def _other_software(cases: Sequence[Measured], shown: Sequence[Configuration]) -> list[str]:
    software = list(dict.fromkeys(case.software for case in cases))
    if len(software) == 1 or not any(one.basis == "predicted" for one in shown):
        return []
    text = "The reports are of different software"
    return [f"{text} ({'; '.join(software[:_MAX_NAMES])}); what is foretold across it has wider intervals."]


def _accumulated_unseen(cases: Sequence[Measured], shown: Sequence[Configuration]) -> list[str]:
    """Where it is not known what of a step comes once."""
    ran = {
        f"{one.device}, case {one.case.case_id}": one.case.gradient_accumulation_steps
        for one in cases
        if one.optimizer_s is None
    }
    if all(ran.get(one.source) in (None, one.gradient_accumulation_steps) for one in shown):
        return []
    text = "Nothing in the reports says how long the update of the weights takes"
    return [f"{text}, so other numbers of micro-batches than measured have wider intervals."]


def _measured_again(cases: Sequence[Measured]) -> list[str]:
    """Of a case that several reports have of one device, one rate counts: it is not an average."""
    rates: dict[tuple[object, ...], list[float]] = defaultdict(list)
    for one in cases:
        case = one.case
        way = (case.per_device_batch_size, case.strategy, case.world_size, case.gradient_accumulation_steps)
        rates[one.device, one.configured, *way].append(one.samples_per_second)
    apart = [max(found) / min(found) for found in rates.values() if len(found) > 1]
    if not apart:
        return []
    text = f"{len(apart)} cases were measured more than once on one device, up to {max(apart) - 1:.1%} apart"
    return [f"{text.replace('%', ' %')}; the report that was named first counts."]


def _about_prices(
    job: PlanJob, prices: Prices, shown: Sequence[Configuration], costs: Mapping[str, HourlyCost]
) -> list[str]:
    found = []
    devices = list(dict.fromkeys(one.device for one in shown))
    unpriced = [name for name in devices if costs[name].price is None]
    if unpriced:
        budget = "" if job.budget is None else ", and the budget says nothing of them"
        found.append(f"No price for {_names(unpriced)}{budget}.")
    uncosted = [one.device for one in shown if one.cost is None and one.device not in unpriced]
    if uncosted:
        found.append(
            f"No cost for {_names(dict.fromkeys(uncosted))}: bought, and without power there is no bill for "
            "electricity; `power_w` beside the price settles it."
        )
    bought = next((one for one in shown if one.cost and _purchase(costs[one.device]) is not None), None)
    if bought is not None:
        if prices.electricity_per_kwh is None:
            found.append("The prices have no electricity, so bought devices run for free.")
        total = bought.count * (_purchase(costs[bought.device]) or 0.0)
        found.append(
            "What is bought costs the job its share of the lifetime; to buy "
            f"{bought.count} × {bought.device} takes {total:,.0f} {prices.currency}."
        )
    return found


def _purchase(cost: HourlyCost) -> float | None:
    price = cost.price
    return None if price is None or price.purchase is None else price.purchase + price.host_share


def _useless_prices(prices: Prices, devices: set[str], profiles: tuple[HardwareProfile, ...]) -> list[str]:
    """A name with a slip of the pen would else leave its device without a cost, and say nothing."""
    found = []
    measured = {name.casefold() for name in devices}
    for price in prices.device:
        meant = match_device_name(price.name, profiles)
        if isinstance(meant, HardwareProfile) or price.name.strip().casefold() in measured:
            continue
        alike = alike_names(price.name, profiles)
        hint = f"; nearest: {' or '.join(alike)}" if alike else ""
        found.append(f"The price of {quoted(price.name)} is not used: {meant}{hint}.")
    more = len(found) - _MAX_NAMES
    return [*found[:_MAX_NAMES], f"Nor are {more} more prices."] if more > 0 else found


def _names(names: Iterable[str]) -> str:
    every = list(names)
    more = len(every) - _MAX_NAMES
    return ", ".join(every[:_MAX_NAMES]) + (f" and {more} more" if more > 0 else "")
