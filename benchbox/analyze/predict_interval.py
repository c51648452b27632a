"""How far a predicted rate may be from the truth: an 80 % interval.

How far it reaches, as a logarithm, follows from the root of the sum of the squares of

- the spread that the possible divisions of the work leave, less of it where witnesses of several
  architectures tell them apart;
- the residual that steps of this kind leave even when the division is known, from predictions of devices that
  were left out (``docs/grade.md`` says of which), times how well this workload's own witnesses of different
  architectures agree, as Student's t since they are few, less where one of them is of the target's own
  architecture and more where none is;
- what a change of batch, of the number of devices and of the interconnect adds, and a network that no
  table describes;
- the share of the step that waits for the host, which is another one, and the share that waits for an
  all-reduce through a host's memory;
- how far the source lies from the other witnesses: it may be the row that is wrong.

An architecture that no witness has is expected to fall a little short of what its rates promise. Every
interval reaches further down than that root, and less far up: what is foretold too high errs without bound,
and whoever relied on it is late; what is foretold too low errs by all of it at most. Where software was tuned
for each device, it reaches down as far as the root says.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from benchbox.analyze.predict_fit import Belief, host_share, log_ratio, shared_link_share
from benchbox.analyze.predict_rates import DeviceRates
from benchbox.analyze.student import t_quantile
from benchbox.schema import StepKind

RESIDUALS: dict[StepKind, float] = {
    "same chip": 0.10,
    "same memory class": 0.15,
    "HBM to GDDR": 0.15,
    "new architecture": 0.21,
}
# Software that every submitter tunes for its own device leaves less, software that is not stated leaves more.
TUNED_FACTOR = 0.5
UNSTATED_FACTOR = 1.7
_SEVERAL_DEVICES_FACTOR = 1.1
# Share of the spread over divisions: the prior is wider than what is left over turns out to be. Witnesses of
# one architecture tell no division from another, and all of it stays.
_SPREAD_SHARE = 0.5
# For each factor of e between source and target. A smaller batch than any that was measured may show a fixed
# time that no row has shown; networks that work through time steps have most of it.
_LARGER_BATCH = 0.10
_SMALLER_BATCH = 0.20
_SMALLER_BATCH_OTHER_FAMILY = 0.60
_LINK = 0.06
_NUM_DEVICES = 0.25
# Networks between hosts, and hosts that carry what cards without peer access exchange, differ by factors.
# What waits for the latter is a share of the square of a step, hence its root.
DEVICES_PER_HOST = 8
_SEVERAL_HOSTS = 0.5
_NO_PEER_ACCESS = 1.6
# Of a batch that one side does not state, which may be anything within a factor of eight.
_UNSTATED_BATCH = 0.2
# Recurrent networks and what is not known by name hang on single kernels of the library more than others do.
_OTHER_FAMILY_FACTOR = 1.3
# How good a library's kernels are differs between architectures. A witness of the target's own shows it.
_FAMILIAR_FACTOR = 0.7
_UNFAMILIAR_FACTOR = 1.4
# By how much a device falls short whose architecture no witness has, as a logarithm. Not where the software
# was tuned for each device.
_SHORTFALL = 0.03
# Times the root; down it is once where software was tuned for each device. Set on the table of docs/grade.md.
_REACH_DOWN = 1.5
_REACH_UP = 0.85
# Hosts differ by a factor of 1.6 in how fast they issue kernels, and no table names them.
_HOST = 0.3
_SOURCE_RESIDUAL_SHARE = 0.7
# How well witnesses usually agree, and how many degrees of freedom that is worth beside a workload's own.
USUAL_RESIDUAL = 0.07
_PRIOR_DEGREES = 2
# Of each end of an 80 % interval.
_TAIL = 0.1
# A rate between half and twice as much is still worth knowing.
MAX_INTERVAL_RATIO = 4.0
# Beyond, the witnesses contradict each other and no division of the work explains them.
MAX_DISAGREEMENT = 0.5


def step_kind(source: DeviceRates, target: DeviceRates) -> StepKind:
    """What kind of a step it is from one device to the other."""
    if source.architecture == target.architecture:
        return "same chip"
    if not (source.checked and target.checked):
        return "new architecture"
    return "same memory class" if source.hbm == target.hbm else "HBM to GDDR"


class Step(NamedTuple):
    """From one device to another, whatever the batch."""

    source: DeviceRates
    target: DeviceRates
    num_devices: tuple[int, int]
    """Of the source and of the target that work together."""
    middle: float
    """Logarithm of the target's rate over the source's."""
    familiar: bool
    """Whether a witness is of the target's architecture."""
    tuned: bool
    """Whether the software was tuned for each device."""
    spread: float
    """Its standard deviation over the divisions."""
    waiting: float
    """The larger host share of both devices."""
    exchanging: float
    """The larger share of an all-reduce through a host's memory; 0 where there is none."""


def step_between(
    belief: Belief, source: tuple[DeviceRates, int], target: tuple[DeviceRates, int], *, tuned: bool
) -> Step:
    """``source`` and ``target`` are a device and how many of it work together; ``tuned``: the software was
    tuned for each of them."""
    middle, spread = log_ratio(belief, source, target)
    familiar = target[0].architecture in belief.architectures
    return Step(
        source=source[0],
        target=target[0],
        num_devices=(source[1], target[1]),
        middle=middle if familiar or tuned else middle - _SHORTFALL,
        familiar=familiar,
        tuned=tuned,
        spread=spread,
        waiting=max(host_share(belief, source[0]), host_share(belief, target[0])),
        exchanging=max(shared_link_share(belief, *source), shared_link_share(belief, *target)),
    )


def witnesses_contradict(belief: Belief) -> bool:
    """Whether they lie so far apart, under the best divisions, that nothing is to be foretold from them."""
    degrees = max(1, len(belief.architectures) - 1)
    return math.sqrt(belief.squared_residuals / degrees) > MAX_DISAGREEMENT


class Halves(NamedTuple):
    """Of an 80 % interval on the log scale."""

    below: float
    above: float


def log_half_widths(
    belief: Belief,
    step: Step,
    *,
    usual_residual: float,
    software_factor: float,
    batch_factor: float | None,
) -> Halves:
    """How far the 80 % interval reaches down and up.

    ``usual_residual`` is what witnesses of the whole table leave, ``batch_factor`` the target's batch over
    the source's, ``None`` where only one of them is stated.
    """
    source, target, num_devices = step.source, step.target, step.num_devices
    degrees = max(0, len(belief.architectures) - 1)
    agreement = (_PRIOR_DEGREES * usual_residual**2 + belief.squared_residuals) / (_PRIOR_DEGREES + degrees)
    residual = RESIDUALS[step_kind(source, target)] * software_factor * math.sqrt(agreement) / USUAL_RESIDUAL
    # The residuals are those of witnesses of two architectures.
    residual *= t_quantile(_TAIL, _PRIOR_DEGREES + degrees) / t_quantile(_TAIL, _PRIOR_DEGREES + 1)
    if belief.work.family == "other":
        residual *= _OTHER_FAMILY_FACTOR
    residual *= _FAMILIAR_FACTOR if step.familiar else _UNFAMILIAR_FACTOR
    several = max(num_devices) > 1
    link = abs(math.log(source.link_gb_per_s / target.link_gb_per_s)) if several else 0.0
    # With two witnesses neither can be said to be the odd one.
    off = belief.residuals.get(source.name, 0.0) if belief.num_witnesses > 2 else 0.0
    parts = (
        (_SPREAD_SHARE if degrees else 1.0) * step.spread * min(1.0, software_factor),
        residual * (_SEVERAL_DEVICES_FACTOR if several else 1.0),
        _batch(belief, batch_factor),
        _LINK * link * min(1.0, software_factor),
        _HOST * math.sqrt(step.waiting) * min(1.0, software_factor),
        _SEVERAL_HOSTS if max(num_devices) > DEVICES_PER_HOST else 0.0,
        _NO_PEER_ACCESS * math.sqrt(step.exchanging),
        _NUM_DEVICES * math.log(num_devices[1] / num_devices[0]),
        _SOURCE_RESIDUAL_SHARE * off,
    )
    half = math.sqrt(math.fsum(part**2 for part in parts))
    return Halves(half if step.tuned else _REACH_DOWN * half, _REACH_UP * half)


def _batch(belief: Belief, factor: float | None) -> float:
    if factor is None:
        return _UNSTATED_BATCH
    if factor >= 1:
        return _LARGER_BATCH * math.log(factor)
    smaller = _SMALLER_BATCH_OTHER_FAMILY if belief.work.family == "other" else _SMALLER_BATCH
    return smaller * math.log(factor)
