"""The verdict on a case: what is in its way, the figures that say so, how sure, and what to change.

The rules, and why they are these, are in docs/diagnose.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from benchbox.analyze import advice
from benchbox.analyze.causes import Cause, find_causes, percent
from benchbox.analyze.gathered import Gathered, gather
from benchbox.analyze.roofline import places, rates
from benchbox.analyze.surroundings import Disturbance, disturbance, held_back, memory_capacity
from benchbox.schema import (
    Bottleneck,
    CaseResult,
    Ceilings,
    Diagnosis,
    Environment,
    Evidence,
    HardwareProfile,
    Sureness,
)

_HOLDS = 0.4
"""A cause that holds less of the step than this is not named alone."""
_AVOIDABLE_HOLDS = 0.25
"""Less is enough of what could be gone altogether without another device."""
_SURE = 0.5
_AHEAD = 1.5
"""By this factor a cause is ahead of the next one, where the verdict is to be sure."""
_AVOIDABLE: frozenset[Bottleneck] = frozenset(("input", "host-memory", "communication"))
_OF_THE_DEVICE: frozenset[Bottleneck] = frozenset(("compute", "memory-bandwidth", "optimizer"))
_PER_SAMPLE: frozenset[Bottleneck] = frozenset(("compute", "memory-bandwidth"))
"""What grows with the batch: the part of a step that does not cannot be it."""
_OUTSIDE: frozenset[Bottleneck] = frozenset(("input", "host-launch", "communication"))


def diagnose_case(
    result: CaseResult,
    environment: Environment,
    ceilings: Ceilings | None,
    profile: HardwareProfile | None,
) -> Diagnosis:
    """The verdict; ``unknown`` where no step was measured or nothing says what the step consists of."""
    if result.outcome == "oom":
        return _out_of_memory(result, environment)
    gathered = gather(result) if result.outcome in ("ok", None) else None
    if gathered is None:
        return Diagnosis(bottleneck="unknown", sureness="unsure", evidence=(), next_step=None)
    reachable = rates(result.case.precision, ceilings, profile)
    placed = places(gathered.profile, reachable) if gathered.profile else ()
    causes = find_causes(gathered, placed)
    attempts = [attempt for attempt in result.attempts if attempt.outcome == "ok"]
    bottleneck, sureness, evidence = _verdict(gathered, causes)

    if bottleneck in _OF_THE_DEVICE:
        evidence = (*evidence, *_activity(gathered))
    leading = causes[0] if causes else None
    matters = leading is None or leading.bottleneck not in _OUTSIDE or leading.share < _SURE
    for name, standing in (
        ("power-or-thermal", held_back(attempts, environment)),
        ("memory-capacity", memory_capacity(gathered, environment, attempts)),
    ):
        if standing is not None and matters:
            bottleneck, sureness = name, standing.sureness  # type: ignore[assignment]
            evidence = (*standing.evidence, *evidence)
    step, suggestion = advice.advise(bottleneck, gathered, placed, causes, environment, ceilings, profile)
    found = Diagnosis(
        bottleneck=bottleneck, sureness=sureness, evidence=evidence, next_step=step, suggestion=suggestion
    )
    disturbed = disturbance(gathered, environment, attempts)
    if disturbed is None:
        return found
    named = next((cause for cause in causes if cause.bottleneck == bottleneck), None)
    return _weakened(found, disturbed, named)


def _verdict(
    gathered: Gathered, causes: Sequence[Cause]
) -> tuple[Bottleneck, Sureness, tuple[Evidence, ...]]:
    if not causes:
        return "unknown", "unsure", ()
    avoidable = next((c for c in causes if c.bottleneck in _AVOIDABLE), None)
    leading = causes[0]
    if avoidable is not None and avoidable.share >= _AVOIDABLE_HOLDS:
        leading = avoidable
    others = [cause for cause in causes if cause is not leading]
    next_share = others[0].share if others else 0.0
    evidence = (*leading.evidence, *_fixed_part(gathered))
    if leading.share < (_AVOIDABLE_HOLDS if leading.bottleneck in _AVOIDABLE else _HOLDS):
        told = sum(cause.share for cause in causes)
        both = (*leading.evidence, *(others[0].evidence if others else ()), *_fixed_part(gathered))
        return ("mixed" if told > _HOLDS and leading.share > 0.1 else "unknown"), "unsure", both
    if leading.bottleneck in _PER_SAMPLE and _surely_fixed(gathered) > 1 - leading.share:
        return leading.bottleneck, "unsure", evidence
    if leading.share >= _SURE and leading.share >= _AHEAD * next_share and leading.direct:
        return leading.bottleneck, "sure", evidence
    clear = leading.share >= _AHEAD * next_share or leading.bottleneck in _AVOIDABLE
    return leading.bottleneck, ("likely" if clear and leading.direct else "unsure"), evidence


def _activity(gathered: Gathered) -> Iterator[Evidence]:
    for name, pct in gathered.activity_pct:
        yield Evidence(what=f"of the time {name}, by the device's counters", value=pct, unit="%")


def _surely_fixed(gathered: Gathered) -> float:
    """What of the step, at the least, half a batch took as well; 0 where nothing is known."""
    split = gathered.split
    if split is None or not split.full_step_time_ns:
        return 0.0
    return split.fixed_interval_ns.low / split.full_step_time_ns


def _fixed_part(gathered: Gathered) -> tuple[Evidence, ...]:
    split = gathered.split
    if split is None or not split.full_step_time_ns or not 0 <= split.fixed_ns <= split.full_step_time_ns:
        return ()
    share, low, high = (
        100 * ns / split.full_step_time_ns
        for ns in (split.fixed_ns, split.fixed_interval_ns.low, split.fixed_interval_ns.high)
    )
    what = f"of the step does not grow with the batch ({max(0, low):.0f} to {min(100, high):.0f} %)"
    return (Evidence(what=what, value=share, unit="%"),)


def _weakened(found: Diagnosis, disturbed: Disturbance, named: Cause | None) -> Diagnosis:
    """Others' work weakens every figure of time, and is named beside them.

    How much memory was used does not depend on who else had the processors.
    """
    evidence = (*found.evidence, *disturbed.evidence)
    if found.bottleneck == "memory-capacity":
        return replace(found, evidence=evidence)
    again = f"measure again without the disturbance: {disturbed.names} while steps were measured"
    standing = found.bottleneck == "power-or-thermal"
    clear = named is not None and named.direct and named.share >= _SURE
    if disturbed.drowns and not standing and not clear:
        return Diagnosis(bottleneck="unknown", sureness="unsure", evidence=evidence, next_step=again)
    if disturbed.at_most == "unsure":
        step = f"{again}; then: {found.next_step}" if found.next_step else again
        return replace(found, sureness="unsure", evidence=evidence, next_step=step)
    sureness: Sureness = "likely" if found.sureness == "sure" else found.sureness
    return replace(found, sureness=sureness, evidence=evidence)


def _out_of_memory(result: CaseResult, environment: Environment) -> Diagnosis:
    estimate = result.memory_estimate
    step, suggestion = advice.make_it_fit(result.case, estimate, environment.device)
    evidence = [Evidence(what="samples for each device", value=result.case.per_device_batch_size, unit="")]
    if estimate is not None:
        evidence.append(Evidence(what="foretold peak", value=estimate.peak_device_bytes, unit="bytes"))
        share = advice.standing_share(estimate)
        if estimate.device_memory_bytes is not None:
            evidence.append(Evidence(what="there is", value=estimate.device_memory_bytes, unit="bytes"))
        evidence.append(percent("of the tensors foretold are weights, gradients and optimizer state", share))
    return Diagnosis(
        bottleneck="memory-capacity",
        sureness="sure",
        evidence=tuple(evidence),
        next_step=step,
        suggestion=suggestion,
    )
