"""What a table says about how a step's work is divided, with the target device left out.

Witnesses are devices other than the target that were measured on the same workload. A division of the work
is as likely as it makes the witnesses agree with each other: each witness's rate less the division's own
prediction should be the same number. Rows in another precision of the same model and software are witnesses
at half weight, and the ratio between two precisions on one witness tells how much of the work speeds up with
matrix units. Errors have heavy tails (Student's t), because a table's rows do.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from benchbox.analyze.predict_model import (
    Grid,
    Workload,
    all_reduce_time,
    compute_share,
    grid,
    log_rates,
    log_work,
)
from benchbox.analyze.predict_rates import DeviceRates

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
else:
    Floats = Any

_NU = 4
# Rates of one workload on several devices, each in its own host, agree to about this when the model is right.
_WITNESS_SD = 0.06
_PRECISION_RATIO_SD = 0.25
_OTHER_PRECISION_WEIGHT = 0.5
_COMPUTE_SHARE_SD = 0.15
# Rate grows with about this power of the batch where no curve tells: fixed work is shared by more samples.
BATCH_POWER = 0.1


class Seen(NamedTuple):
    """One device's measured rate, of one device, on one workload."""

    device: DeviceRates
    num_devices: int
    batch: float | None
    log_rate: float


class Evidence(NamedTuple):
    """The witnesses of one workload, and what each division makes of them."""

    work: Workload
    division: Grid
    witnesses: Mapping[str, Seen]
    log_likelihood: Floats
    residuals: Mapping[str, Floats]
    """By witness: how far it lies from the others' middle, for each division."""


class Belief(NamedTuple):
    """Weights of the divisions for one target, and how well the witnesses agree under them."""

    work: Workload
    division: Grid
    weights: Floats
    num_witnesses: int
    squared_residuals: float
    """The mean over the witnesses of one architecture, summed over the architectures.

    Devices of one architecture agree whatever the division is, so they count once."""
    architectures: frozenset[str]
    """Of the witnesses."""
    residuals: Mapping[str, float]


def weigh_witnesses(work: Workload, witnesses: Sequence[Seen]) -> Evidence:
    """The likelihood of each division given ``witnesses``, at most one a device."""
    import numpy as np

    division = grid(any(seen.num_devices > 1 for seen in witnesses))
    named = {seen.device.name: seen for seen in witnesses}
    if len(named) < 2:
        return Evidence(work, division, named, np.zeros_like(division.log_prior), {})
    levels = np.array(
        [
            _at_one_batch(seen) - log_rates(division, work, seen.device, seen.num_devices)
            for seen in named.values()
        ]
    )
    # The middle of three or more is not moved by one that is far off.
    middle = np.median(levels, axis=0) if len(named) > 2 else levels.mean(axis=0)
    residuals = levels - middle
    likelihood = -(_NU + 1) / 2 * np.log1p((residuals / _WITNESS_SD) ** 2 / _NU).sum(axis=0)
    # One of them fixes the level.
    likelihood = likelihood * (1 - 1 / len(named))
    return Evidence(work, division, named, likelihood, dict(zip(named, residuals, strict=True)))


def weigh_compute_share(evidence: Evidence, device: DeviceRates, share: float) -> Evidence:
    """``evidence`` with a profiled step of ``device``: matrix products and convolutions took ``share`` of it.

    A convolution may itself wait for memory, so the share says only so much.
    """
    import numpy as np

    expected = compute_share(evidence.division, evidence.work, device)
    residual = (expected - share) / _COMPUTE_SHARE_SD
    return evidence._replace(log_likelihood=evidence.log_likelihood - np.square(residual) / 2)


def believe(evidence: Evidence, others: Sequence[Evidence]) -> Belief:
    """Weigh the divisions by ``evidence`` and by ``others``: same model and software, other precisions."""
    import numpy as np

    log_weights = evidence.division.log_prior + evidence.log_likelihood
    for other in others:
        if len(other.division.log_prior) != len(log_weights):
            continue  # one has an all-reduce and the other has none
        log_weights = log_weights + _OTHER_PRECISION_WEIGHT * other.log_likelihood
        if other.work.precision != evidence.work.precision:
            log_weights = log_weights + _precision_ratio(evidence, other)
    weights = np.exp(log_weights - log_weights.max())
    weights = weights / weights.sum()
    residuals = {name: float(weights @ values) for name, values in evidence.residuals.items()}
    return Belief(
        work=evidence.work,
        division=evidence.division,
        weights=weights,
        num_witnesses=len(evidence.witnesses),
        squared_residuals=_squared(evidence, residuals),
        architectures=frozenset(seen.device.architecture for seen in evidence.witnesses.values()),
        residuals=residuals,
    )


def log_ratio(
    belief: Belief, source: tuple[DeviceRates, int], target: tuple[DeviceRates, int]
) -> tuple[float, float]:
    """Mean and standard deviation, over the divisions, of the log of the target's rate over the source's.

    ``source`` and ``target`` are a device and how many of it work together; rates are of one of them.
    """
    import numpy as np

    difference = log_rates(belief.division, belief.work, *target) - log_rates(
        belief.division, belief.work, *source
    )
    middle = float(belief.weights @ difference)
    return middle, float(np.sqrt(belief.weights @ (difference - middle) ** 2))


def host_share(belief: Belief, device: DeviceRates) -> float:
    """Of the square of a step on one ``device``: how far it is the host that is waited for."""
    import numpy as np

    host = belief.work.host_ms / belief.work.step_ms * np.exp(belief.division.host)
    alone = np.exp(-log_rates(belief.division, belief.work, device, 1))
    return float(belief.weights @ (host / alone) ** 2)


def shared_link_share(belief: Belief, device: DeviceRates, num_devices: int) -> float:
    """Of the square of a step: how far it is an all-reduce through the host's memory that is waited for."""
    import numpy as np

    if num_devices == 1 or device.peer_access:
        return 0.0
    alone = all_reduce_time(belief.division, belief.work, device, num_devices)
    step = np.exp(-log_rates(belief.division, belief.work, device, num_devices))
    return float(belief.weights @ (alone / step) ** 2)


def _squared(evidence: Evidence, residuals: Mapping[str, float]) -> float:
    by_architecture: dict[str, list[float]] = defaultdict(list)
    for name, value in residuals.items():
        by_architecture[evidence.witnesses[name].device.architecture].append(value**2)
    return math.fsum(math.fsum(squares) / len(squares) for squares in by_architecture.values())


def _precision_ratio(one: Evidence, two: Evidence) -> Floats:
    """The log likelihood of each division given devices that were measured in both precisions."""
    import numpy as np

    both = [name for name in one.witnesses if name in two.witnesses]
    total = np.zeros_like(one.division.log_prior)
    for name in both:
        expected = _per_sample(one, name) - _per_sample(two, name)
        seen = _at_one_batch(one.witnesses[name]) - _at_one_batch(two.witnesses[name])
        residual = (seen - expected) / _PRECISION_RATIO_SD
        total -= (_NU + 1) / 2 * np.log1p(residual**2 / _NU) / len(both)
    return total


def _per_sample(evidence: Evidence, name: str) -> Floats:
    seen = evidence.witnesses[name]
    rates = log_rates(evidence.division, evidence.work, seen.device, seen.num_devices)
    return rates - log_work(evidence.division, evidence.work)


def _at_one_batch(seen: Seen) -> float:
    return seen.log_rate - BATCH_POWER * math.log(seen.batch or 1.0)
