"""Size a compute budget: which device, how many, for how long, at what cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from benchbox.analyze import plan_rank
from benchbox.analyze.plan_arrays import Crossed, cross
from benchbox.analyze.plan_configurations import Choice, answer, configuration, keeps_both
from benchbox.analyze.plan_costs import HourlyCost, check_prices, hourly_cost
from benchbox.analyze.plan_notes import notes
from benchbox.analyze.plan_rates import Refusal
from benchbox.analyze.plan_rows import Row, Target, rows
from benchbox.analyze.plan_sources import (
    Measured,
    RanOut,
    all_reduce_gb_per_s,
    device_name,
    measured_cases,
    ran_out,
    report_profile,
    shared_one_host,
)
from benchbox.errors import BadInputError
from benchbox.plan.hardware import find_profile
from benchbox.schema import (
    SCHEMA_VERSION,
    HardwareProfile,
    LeftOut,
    PlanJob,
    PlanResult,
    Prices,
    Report,
)

# Of refusals, in the line that says that nothing is left.
_MAX_REASONS = 3
# Some arrays of 8 bytes each.
MAX_CONFIGURATIONS = 20_000_000


def plan(
    reports: Sequence[Report],
    job: PlanJob,
    samples: int,
    deadline_s: float | None,
    prices: Prices | None,
    profiles: tuple[HardwareProfile, ...],
    max_configurations: int = 100,
) -> PlanResult:
    """Rank every configuration that can be foretold; ``samples`` and ``deadline_s`` are the job's.

    Raises:
        BadInputError: an unknown device or model, nothing usable in the reports, a budget without prices,
            two prices of one device.
    """
    if job.budget is not None and prices is None:
        raise BadInputError("--budget needs --prices: a budget says nothing without prices")
    if prices is not None:
        check_prices(prices, profiles)
    cases = _cases(reports, job)
    found, refused = _all_rows(cases, _targets(reports, cases, job, profiles), ran_out(reports))
    _refuse_too_many(len(found), job)
    costs = [hourly_cost(row.target.name, row.target.profile, row.rate, prices, profiles) for row in found]
    crossed = cross(found, costs, job, samples) if found else None
    pool = _pool(crossed, costs) if crossed else None
    refused += _ranks_of_one_host(reports, job)
    refused += _too_large(crossed, found) if crossed else []
    if pool is None or not len(pool.place):
        raise BadInputError(_nothing_left(refused, job, crossed))
    fastest = plan_rank.smallest(pool.time_s.values)
    assert fastest is not None
    cheapest, front = plan_rank.smallest(pool.cost.values), plan_rank.front(pool)
    ranked = plan_rank.best_first(pool, deadline_s, job.budget, max_configurations)
    best = [fastest, cheapest, plan_rank.safest(pool, pool.time_s), plan_rank.safest(pool, pool.cost)]
    in_time = plan_rank.safest(pool, pool.cost, pool.time_s, deadline_s)
    in_budget = plan_rank.safest(pool, pool.time_s, pool.cost, job.budget)
    wanted = [*ranked, *front, *(entry for entry in (*best, in_time, in_budget) if entry is not None)]
    kept = list(dict.fromkeys(wanted))
    on_front = set(front)
    by_device = {row.target.name: cost for row, cost in zip(found, costs, strict=True)}
    shown = [
        configuration(
            _choice(entry, pool, found, costs, job),
            samples,
            job,
            deadline_s,
            prices,
            on_front=entry in on_front,
        )
        for entry in kept
    ]
    return PlanResult(
        schema_version=SCHEMA_VERSION,
        job=job,
        samples=samples,
        deadline_s=deadline_s,
        currency=prices.currency if prices else None,
        prices_date=prices.date if prices else None,
        num_considered=len(pool.place),
        num_listed=len(shown),
        configurations=tuple(shown),
        fastest=kept.index(fastest),
        cheapest=None if cheapest is None else kept.index(cheapest),
        front=tuple(kept.index(entry) for entry in front),
        cheapest_in_time=None if in_time is None else kept.index(in_time),
        fastest_in_budget=None if in_budget is None else kept.index(in_budget),
        deadline_answer=answer(deadline_s, [(one.time_s, one.fits_memory) for one in shown]),
        budget_answer=answer(job.budget, [(one.cost, one.fits_memory) for one in shown]),
        both_answer=keeps_both(shown) if deadline_s and job.budget else None,
        refused=tuple(refused),
        notes=tuple(notes(reports, job, prices, cases, shown, by_device, profiles)),
    )


def _choice(
    entry: int, pool: plan_rank.Pool, found: Sequence[Row], costs: Sequence[HourlyCost], job: PlanJob
) -> Choice:
    row, column = divmod(int(pool.place[entry]), len(job.counts))
    return Choice(
        row=found[row],
        num_devices=job.counts[column],
        hourly=costs[row],
        time_s=float(pool.time_s.values[entry]),
        log_half=float(pool.time_s.log_above[entry]),
        log_half_faster=float(pool.time_s.log_below[entry]),
        cost=float(pool.cost.values[entry]),
        fits_memory=True if pool.fits[entry] == 1 else None,
    )


def _refuse_too_many(num_rows: int, job: PlanJob) -> None:
    if num_rows * len(job.counts) > MAX_CONFIGURATIONS:
        raise BadInputError(
            f"{num_rows} configurations by {len(job.counts)} counts are more than {MAX_CONFIGURATIONS:,}; "
            "give fewer --counts, or name devices with --target"
        )


def _cases(reports: Sequence[Report], job: PlanJob) -> list[Measured]:
    cases = measured_cases(reports)
    models = list(dict.fromkeys(case.case.model for case in cases))
    if not models:
        raise BadInputError("no case of the reports ended `ok`; a plan needs one that was measured")
    if job.model is None and len(models) > 1:
        raise BadInputError(f"the reports train {', '.join(models)}; say with --model which one the job is")
    wanted = job.model or models[0]
    if wanted not in models:
        raise BadInputError(
            f"--model: {wanted!r} is in no `ok` case of the reports; there are: {', '.join(models)}"
        )
    return [case for case in cases if case.case.model == wanted]


def _targets(
    reports: Sequence[Report], cases: Sequence[Measured], job: PlanJob, profiles: tuple[HardwareProfile, ...]
) -> list[Target]:
    """The job's devices; by default those of the reports and every profile."""
    used = {case.device for case in cases}
    own: dict[str, Target] = {}
    for report in reports:
        name = device_name(report)
        if name in used:  # of several reports of one device the first counts, as of its cases
            target = Target(
                name,
                report_profile(report),
                all_reduce_gb_per_s(report),
                is_host=not report.environment.devices,
            )
            own.setdefault(name, target)
    if not job.targets:
        named = {profile.name: _target(profile) for profile in profiles} | own
        return list(named.values())
    targets = {}
    for name in job.targets:
        mine = next((one for one in own if one.casefold() == name.strip().casefold()), None)
        if mine is None:
            profile = find_profile(name.strip(), profiles)
            mine = profile.name
        targets[mine] = own[mine] if mine in own else _target(profile)
    return list(targets.values())


def _target(profile: HardwareProfile) -> Target:
    return Target(profile.name, profile, is_host=profile.kind == "cpu")


def _all_rows(
    cases: Sequence[Measured], targets: Sequence[Target], without_memory: Sequence[RanOut]
) -> tuple[list[Row], list[LeftOut]]:
    found: list[Row] = []
    refusals: Counter[Refusal] = Counter()
    examples: dict[Refusal, str] = {}
    for outcome in rows(cases, targets, without_memory):
        if isinstance(outcome, Row):
            found.append(outcome)
        else:
            refusal, example = outcome
            refusals[refusal] += 1
            examples.setdefault(refusal, example)
    left_out = [
        LeftOut(reason=r.reason, num=num, example=examples[r], settled_by=r.settled_by)
        for r, num in refusals.most_common()
    ]
    return found, left_out


def _ranks_of_one_host(reports: Sequence[Report], job: PlanJob) -> list[LeftOut]:
    cases = [
        result.case
        for report in reports
        for result in report.cases
        if result.outcome == "ok"
        and shared_one_host(report, result)
        and job.model in (None, result.case.model)
    ]
    if not cases:
        return []
    first = cases[0]
    label = f"{first.model} b{first.per_device_batch_size} {first.precision} {first.strategy}"
    return [
        LeftOut(
            reason="their ranks shared the processors of one machine, which is one device",
            num=len(cases),
            example=f"{label} with {first.world_size} ranks",
            settled_by="a rank on each of several machines",
        )
    ]


def _too_large(crossed: Crossed, found: Sequence[Row]) -> list[LeftOut]:
    left_out = []
    for reason, these in (
        ("ran out of memory in the report", crossed.ran_out),
        ("does not fit in memory", crossed.too_large),
    ):
        if these.first_row is None:
            continue
        row = found[these.first_row]
        example = f"{row.configured.model} b{row.batch} {row.configured.precision} on {row.target.name}"
        settled_by = "a smaller batch, checkpointing, or a strategy that shards, measured on the source"
        left_out.append(LeftOut(reason=reason, num=these.num, example=example, settled_by=settled_by))
    return left_out


def _pool(crossed: Crossed, costs: Sequence[HourlyCost]) -> plan_rank.Pool:
    """Every usable configuration, flat."""
    import numpy as np

    usable = np.flatnonzero(~np.isnan(crossed.time_s))
    slower, faster = crossed.log_half.ravel()[usable], crossed.log_half_faster.ravel()[usable]
    hourly = np.array([cost.log_half for cost in costs])[usable // len(crossed.counts)]
    return plan_rank.Pool(
        time_s=plan_rank.Spread(crossed.time_s.ravel()[usable], slower, faster),
        cost=plan_rank.Spread(
            crossed.cost.ravel()[usable], np.hypot(slower, hourly), np.hypot(faster, hourly)
        ),
        fits=crossed.fits.ravel()[usable],
        place=usable,
    )


def _nothing_left(refused: Sequence[LeftOut], job: PlanJob, crossed: Crossed | None) -> str:
    # The memory of what could be foretold comes last among the refusals.
    why = [
        f"{one.reason} (e.g. {one.example}); would settle it: {one.settled_by}"
        for one in reversed(refused[-_MAX_REASONS:])
    ]
    if crossed is None or crossed.too_large.num or crossed.ran_out.num:
        return f"nothing can be foretold: {'. Also: '.join(why)}"
    batch = job.global_batch_size
    of_batch = (
        f" with a global batch of {batch}: it must be a multiple of count times device batch" if batch else ""
    )
    counts = (
        f"no count of {', '.join(map(str, job.counts[:8]))} devices can be used{of_batch}; several devices "
        "need a case that was measured so, or a GPU's profile; between hosts --network-gb-per-s is needed"
    )
    return ". Also: ".join([counts, *why])
