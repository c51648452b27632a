"""How far a predicted rate may be from the truth: an 80 % interval.

Half its width, as a logarithm, is the root of the sum of the squares of

- the spread that the possible divisions of the work leave;
- the residual that steps of this kind leave even when the division is known, from predictions of devices that
  were left out (``docs/grade.md`` says of which), times how well this workload's own witnesses agree;
- what a change of batch, of the number of devices and of the interconnect adds, and a network that no
  table describes;
- the share of the step that waits for the host, which is another one;
- how far the source lies from the other witnesses: it may be the row that is wrong.
"""

from __future__ import annotations

import math

from benchbox.analyze.predict_fit import Belief
from benchbox.analyze.predict_rates import DeviceRates
from benchbox.schema import StepKind

_RESIDUALS: dict[StepKind, float] = {
    "same chip": 0.10,
    "same memory class": 0.15,
    "HBM to GDDR": 0.15,
    "new architecture": 0.21,
}
# Software that every submitter tunes for its own device leaves less, software that is not stated leaves more.
TUNED_FACTOR = 0.55
UNSTATED_FACTOR = 1.7
_SEVERAL_DEVICES_FACTOR = 1.2
# Share of the spread over divisions: the prior is wider than what is left over turns out to be.
_SPREAD_SHARE = 0.6
# For each factor of e between source and target.
_BATCH = 0.10
_LINK = 0.06
_NUM_DEVICES = 0.25
# Networks between hosts, and hosts that carry what cards without peer access exchange, differ by factors.
DEVICES_PER_HOST = 8
_SEVERAL_HOSTS = 0.5
_NO_PEER_ACCESS = 0.3
# Recurrent networks and what is not known by name hang on single kernels of the library more than others do.
_OTHER_FAMILY_FACTOR = 1.3
# Hosts differ by a factor of 1.6 in how fast they issue kernels, and no table names them.
_HOST = 0.45
_SOURCE_RESIDUAL_SHARE = 0.7
# How well witnesses usually agree, and how many degrees of freedom that is worth beside a workload's own.
USUAL_RESIDUAL = 0.07
_PRIOR_DEGREES = 2


def step_kind(source: DeviceRates, target: DeviceRates) -> StepKind:
    """What kind of a step it is from one device to the other."""
    if source.architecture == target.architecture:
        return "same chip"
    if not (source.checked and target.checked):
        return "new architecture"
    return "same memory class" if source.hbm == target.hbm else "HBM to GDDR"


def log_half_width(
    belief: Belief,
    *,
    spread: float,
    waiting: float,
    source: DeviceRates,
    target: DeviceRates,
    usual_residual: float,
    software_factor: float,
    batch_factor: float,
    num_devices: tuple[int, int],
) -> float:
    """Half of the 80 % interval's width on the log scale.

    ``spread`` is the standard deviation over divisions, ``waiting`` the larger host share of both devices,
    ``usual_residual`` what witnesses of the whole table leave, ``batch_factor`` the target's batch over the
    source's, ``num_devices`` the source's and the target's.
    """
    degrees = max(0, belief.num_witnesses - 1)
    agreement = (_PRIOR_DEGREES * usual_residual**2 + belief.squared_residuals) / (_PRIOR_DEGREES + degrees)
    residual = _RESIDUALS[step_kind(source, target)] * software_factor * math.sqrt(agreement) / USUAL_RESIDUAL
    if belief.work.family == "other":
        residual *= _OTHER_FAMILY_FACTOR
    several = max(num_devices) > 1
    no_peer_access = several and source.peer_access != target.peer_access
    link = abs(math.log(source.link_gb_per_s / target.link_gb_per_s)) if several else 0.0
    # With two witnesses neither can be said to be the odd one.
    off = belief.residuals.get(source.name, 0.0) if belief.num_witnesses > 2 else 0.0
    parts = (
        _SPREAD_SHARE * spread * min(1.0, software_factor),
        residual * (_SEVERAL_DEVICES_FACTOR if several else 1.0),
        _BATCH * math.log(batch_factor),
        _LINK * link * min(1.0, software_factor),
        _HOST * waiting,
        _SEVERAL_HOSTS if max(num_devices) > DEVICES_PER_HOST else 0.0,
        _NO_PEER_ACCESS if no_peer_access else 0.0,
        _NUM_DEVICES * math.log(num_devices[1] / num_devices[0]),
        _SOURCE_RESIDUAL_SHARE * off,
    )
    return math.sqrt(math.fsum(part**2 for part in parts))
