"""The rate of one device in one configuration: measured, between two measured batches, or foretold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from benchbox.analyze.plan_optimizer import MAX_UPDATE_SHARE
from benchbox.analyze.plan_roofline import log_roofline
from benchbox.analyze.plan_sources import Measured
from benchbox.analyze.predict_fit import (
    Belief,
    Evidence,
    Seen,
    believe,
    weigh_compute_share,
    weigh_witnesses,
)
from benchbox.analyze.predict_interval import (
    MAX_INTERVAL_RATIO,
    RESIDUALS,
    UNSTATED_FACTOR,
    USUAL_RESIDUAL,
    log_half_widths,
    step_between,
    step_kind,
    witnesses_contradict,
)
from benchbox.analyze.predict_model import HOST_MS, REFERENCE_BANDWIDTH, Workload, model_family
from benchbox.analyze.predict_rates import DeviceRates, Probes, RatePrecision, device_rates
from benchbox.schema import Basis, HardwareProfile
from benchbox.stats import median

# Errors of predictions from several sources share the target's own oddity: half of the variance stays.
_SHARED_VARIANCE = 0.5
# Of a rate between two measured batches, as a logarithm, beside what they are uncertain themselves.
_BETWEEN_BATCHES = 0.03
# Of a step, where nothing says how long the update of the weights takes.
_LARGEST_UPDATE = 1 / 3


class Rate(NamedTuple):
    """Samples a second of one device, alone."""

    log_rate: float
    log_half: float
    """How far its 80 % interval reaches down."""
    log_half_faster: float
    """The same up."""
    basis: Basis
    source: Measured
    """What it rests on most."""
    batch: int
    update_share: float
    """Of a step: the update of the weights; 0 where it is not known."""
    other_update_share: float
    """What it may be instead, where nothing says how long it takes, or how it scales beside the rest."""
    log_ceiling: float = math.inf
    """The roofline, for the rate and its interval; infinite where it is not known."""

    @property
    def step_s(self) -> float:
        """Of one device, at the source's accumulation."""
        return self.batch * self.source.case.gradient_accumulation_steps / math.exp(self.log_rate)

    @property
    def update_s(self) -> float:
        """Of a step: what comes once, however many micro-batches; 0 where it is not known."""
        return self.update_share * self.step_s

    @property
    def micro_batch_s(self) -> float:
        """Of a step: what each micro-batch repeats."""
        return (self.step_s - self.update_s) / self.source.case.gradient_accumulation_steps

    def step_with(self, num_micro_batches: int) -> float:
        """Seconds of a step of so many."""
        return num_micro_batches * self.micro_batch_s + self.update_s


class Refusal(NamedTuple):
    """Why there is no rate, and the run that would give one."""

    reason: str
    settled_by: str


def fixed_ms(cases: Sequence[Measured]) -> float | None:
    """The fixed time of a step, from a split within one case or from two batches of one configuration.

    ``cases`` are one configuration on one device. The line through the smallest and the largest batch; noise
    can make it negative, which is no time. ``None``: one batch only.
    """
    split = [case.fixed_ms for case in cases if case.fixed_ms is not None]
    if split:
        return median(split)
    steps = sorted(
        (batch, 1e3 * batch / case.samples_per_second)
        for batch, case in _alone(cases).items()
        if case.case.gradient_accumulation_steps == 1
    )
    if len(steps) < 2:
        return None
    (small, small_ms), (large, large_ms) = steps[0], steps[-1]
    return max(0.0, small_ms - small * (large_ms - small_ms) / (large - small))


def interpolate(cases: Sequence[Measured], batch: int) -> Rate | None:
    """At a batch between two measured ones, or at one of them; ``cases``: one configuration, one device."""
    alone = _alone(cases)
    if batch in alone:
        return measured_rate(alone[batch])
    points = sorted(alone.items())
    below = [point for point in points if point[0] < batch]
    above = [point for point in points if point[0] > batch]
    if not below or not above:
        return None
    (low, one), (high, two) = below[-1], above[0]
    # A part that every step has and a part for each sample: a straight line of time over batch.
    start_s, end_s = low / one.samples_per_second, high / two.samples_per_second
    step_s = start_s + (batch - low) / (high - low) * (end_s - start_s)
    # Libraries choose kernels by the shape, so steps lie beside the line even between equal rates.
    gap = abs(math.log(two.samples_per_second / one.samples_per_second))
    half = max(one.log_half, two.log_half) + max(gap / 4, _BETWEEN_BATCHES)
    nearer = one if batch**2 < low * high else two
    shares = _update_shares(nearer, step_s * nearer.case.gradient_accumulation_steps)
    return Rate(math.log(batch / step_s), half, half, "interpolated", nearer, batch, *shares)


def measured_rate(case: Measured) -> Rate:
    """Of one of the devices that ``case`` ran on."""
    log_rate = math.log(case.samples_per_second / case.case.world_size)
    batch = case.case.per_device_batch_size
    shares = _update_shares(case, case.case.global_batch_size / case.samples_per_second)
    return Rate(log_rate, case.log_half, case.log_half, "measured", case, batch, *shares)


def _update_shares(case: Measured, step_s: float) -> tuple[float, float]:
    if case.optimizer_s is None:
        return 0.0, _LARGEST_UPDATE
    share = min(MAX_UPDATE_SHARE, case.optimizer_s / step_s)
    return share, share


def _alone(cases: Sequence[Measured]) -> dict[int, Measured]:
    """By batch, the case of one device: of several the first that accumulates least, as other batches do."""
    found: dict[int, Measured] = {}
    for case in sorted(cases, key=lambda case: case.case.gradient_accumulation_steps):
        if case.case.strategy == "single":
            found.setdefault(case.case.per_device_batch_size, case)
    return found


def foretell(
    sources: Sequence[tuple[Rate, float]],
    siblings: Sequence[Sequence[Rate]],
    target: HardwareProfile,
    *,
    one_software: bool = True,
) -> Rate | Refusal:
    """From one configuration and batch on one or more other devices.

    ``sources`` are its rates with each device's fixed time in ms, ``siblings`` the rates of the same
    configuration in other precisions, a sequence each. Nothing that was measured on the target enters.
    Without ``one_software`` in the reports intervals are as wide as where none is stated.
    """
    precision: RatePrecision = sources[0][0].source.case.precision
    profiles = [target, *(rate.source.profile for rate, _ in sources)]
    all_probed = all(profile is not None and profile.reached is not None for profile in profiles)
    goal = device_rates(target, precision, probes="used" if all_probed else "ignored")
    if isinstance(goal, str):
        return Refusal(goal, "a report of this device")
    known = _known_rates(sources, precision, "used" if all_probed else "a cap")
    if not known:
        return Refusal(
            "the source device has no GPU profile to scale from", "`benchbox run` of the suite on one GPU"
        )
    same_maker = [item for item in known if item[1].vendor == goal.vendor]
    if not same_maker:
        return Refusal(
            "source and target are of different vendors, so is their software",
            "a report of a device of the target's vendor",
        )
    belief = _belief(same_maker, siblings)
    if witnesses_contradict(belief):
        return Refusal("the reports' devices contradict each other", "the odd report's case measured again")
    software_factor = 1.0 if one_software else UNSTATED_FACTOR
    rate = _combined(
        [_from_one(belief, rate, device, goal, software_factor) for rate, device, _ in same_maker],
        [math.hypot(RESIDUALS[step_kind(device, goal)], rate.log_half) for rate, device, _ in same_maker],
    )
    if rate.log_half + rate.log_half_faster > math.log(MAX_INTERVAL_RATIO):
        return Refusal(
            f"the interval would span more than a factor of {MAX_INTERVAL_RATIO:g}",
            "a report of the device, or of one that is nearer to it",
        )
    ceiling = min(log_roofline(item.source, target) for item, _, _ in same_maker)
    return rate._replace(log_rate=min(rate.log_rate, ceiling), log_ceiling=ceiling)


def _known_rates(
    sources: Sequence[tuple[Rate, float]], precision: RatePrecision, probes: Probes = "a cap"
) -> list[tuple[Rate, DeviceRates, float]]:
    known = []
    for rate, fixed in sources:
        profile = rate.source.profile
        device = device_rates(profile, precision, probes=probes) if profile is not None else ""
        if isinstance(device, DeviceRates):
            known.append((rate, device, fixed))
    return known


def _belief(known: Sequence[tuple[Rate, DeviceRates, float]], siblings: Sequence[Sequence[Rate]]) -> Belief:
    rate, _, _ = known[0]
    # What is fixed and no update of the weights is the host's: it issues as many kernels as before.
    host_ms = median([fixed - 1e3 * item.update_s for item, _, fixed in known])
    own = _evidence([(item, device) for item, device, _ in known], host_ms)
    for item, device, _ in known:
        if item.source.compute_share is not None:
            own = weigh_compute_share(own, device, item.source.compute_share)
    others = []
    for sibling in siblings:
        pairs = _known_rates([(one, 0.0) for one in sibling], sibling[0].source.case.precision)
        if pairs and sibling[0].source.case.precision != rate.source.case.precision:
            others.append(_evidence([(item, device) for item, device, _ in pairs], host_ms))
    return believe(own, others)


def _evidence(pairs: Sequence[tuple[Rate, DeviceRates]], host_ms: float) -> Evidence:
    case = pairs[0][0].source.case
    step_ms = median([1e3 * r.step_s * d.bandwidth_gb_per_s / REFERENCE_BANDWIDTH for r, d in pairs])
    # The same share on the reference device, which both are scaled to by bandwidth.
    updating = median([min(MAX_UPDATE_SHARE, r.update_share / (1 - r.source.input_share)) for r, _ in pairs])
    work = Workload(
        model_family(case.model),
        case.precision,
        step_ms,
        max(host_ms, HOST_MS / 10),  # less than a tenth of the usual is noise
        updating,
    )
    return weigh_witnesses(work, [Seen(device, 1, float(r.batch), r.log_rate) for r, device in pairs])


def _from_one(
    belief: Belief, rate: Rate, source: DeviceRates, target: DeviceRates, software_factor: float
) -> Rate:
    step = step_between(belief, (source, 1), (target, 1), tuned=False)
    halves = log_half_widths(
        belief,
        step,
        usual_residual=USUAL_RESIDUAL,
        software_factor=software_factor,
        batch_factor=1.0,
    )
    # Input and its copy take as long as before; only the rest is shortened.
    waiting = rate.source.input_share
    faster = -math.log((1 - waiting) * math.exp(-step.middle) + waiting)
    below, above = (math.hypot(half, rate.log_half) for half in halves)
    # By bandwidth alone the update may become a larger or a smaller part. Its share is kept all the same:
    # with more bandwidth less of a step would come once, and several micro-batches seem to take longer.
    other = rate.other_update_share
    if rate.source.optimizer_s is not None:
        slower = source.bandwidth_gb_per_s / target.bandwidth_gb_per_s
        other = min(MAX_UPDATE_SHARE, rate.update_share * slower * math.exp(faster))
    return Rate(
        rate.log_rate + faster, below, above, "predicted", rate.source, rate.batch, rate.update_share, other
    )


def _combined(rates: Sequence[Rate], errors: Sequence[float]) -> Rate:
    """The ``errors`` that weigh them know nothing of the target's peaks: with more of them it might else
    lean on a source that promises less."""
    weights = [1 / error**2 for error in errors]
    total = math.fsum(weights)
    center = math.fsum(w * rate.log_rate for w, rate in zip(weights, rates, strict=True)) / total
    best = min(rates, key=lambda rate: rate.log_half)
    shrink = math.sqrt(_SHARED_VARIANCE + (1 - _SHARED_VARIANCE) / len(rates))
    _, share, other = min(
        (e, r.update_share, r.other_update_share) for e, r in zip(errors, rates, strict=True)
    )
    return best._replace(
        log_rate=center,
        log_half=best.log_half * shrink,
        log_half_faster=best.log_half_faster * shrink,
        update_share=share,
        other_update_share=other,
    )


def under_its_roofline(rate: Rate, device: HardwareProfile | None) -> Rate:
    """``rate``, measured on ``device``, with the ceiling that it has not shown to be none."""
    if device is None:
        return rate
    return rate._replace(log_ceiling=log_roofline(rate.source, device, rate.log_rate))
