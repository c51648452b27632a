"""What several devices lose to collectives: as measured, else by the strategy's bytes over a link."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from benchbox.analyze.plan_rates import Rate, interpolate
from benchbox.analyze.plan_sources import Measured
from benchbox.analyze.predict_rates import has_peer_access, link_gb_per_s, link_kind
from benchbox.schema import HardwareProfile, Precision, Strategy

# Of what the source lost, as a logarithm: how uncertain it is that another device loses alike.
_CARRIED_UNCERTAINTY = 0.5


class Collectives(NamedTuple):
    """Of an optimizer step with one micro-batch, but for the factor (n - 1) / n on n devices."""

    seconds: float | None
    """Within one host, where no more than two devices share a link; ``None`` where the model's size or the
    device's link is not known."""
    gigabytes: float | None
    """For links between hosts."""
    micro_batch_share: float
    """Of both: what each micro-batch repeats. The rest comes once a step."""
    shared_link: bool
    """Whether that time grows with the devices that use the host's memory at once."""
    log_half: float = 0.0
    """What the rate's interval adds where the loss was measured on another device."""

    def repeated(self, num_micro_batches: int) -> float:
        """How many times those of a step with one micro-batch."""
        return 1 + self.micro_batch_share * (num_micro_batches - 1)


IN_THE_RATE = Collectives(0.0, 0.0, 0.0, shared_link=False)


class _Traffic(NamedTuple):
    """Bytes a parameter, but for (n - 1) / n."""

    once: float
    each_micro_batch: float


class _Loss(NamedTuple):
    """Of a case with several devices beside one device's; the least is the best evidence."""

    far: float
    """Its batch from the one that is asked for, as a logarithm."""
    minus_num_devices: int
    seconds: float
    """As in :class:`Collectives`."""
    slowed: float
    """The step, as a logarithm."""


class _Link(NamedTuple):
    gb_per_s: float
    kind: str
    shared: bool


def collectives(
    own: Sequence[Measured],
    strategy: Strategy,
    batch: int,
    target: tuple[str, HardwareProfile | None, float | None],
    rate: Rate,
) -> Collectives:
    """Of ``own``, the cases of one configuration; ``target`` is a device's name, its profile and its probed
    all-reduce in GB/s.

    The bytes are those of the model, so what another batch of the same device lost to them counts too; but a
    larger batch may have hidden more, so there no less than the link says. What another device with a link
    of the same kind lost beyond its bytes, this one is taken to lose too.
    """
    name, profile, probed = target
    source = rate.source
    traffic = _traffic(strategy, source.case.precision, source.num_parameters)
    repeating = traffic.each_micro_batch / (traffic.once + traffic.each_micro_batch)
    gigabytes = _gigabytes(own, strategy, repeating, traffic, source.num_parameters)
    link = _link(profile, probed)
    by_link = None if gigabytes is None or link is None else gigabytes / link.gb_per_s
    found = Collectives(by_link, gigabytes, repeating, shared_link=link is not None and link.shared)
    if rate.basis == "predicted":
        return _as_elsewhere(found, own, strategy, batch, name, link)
    nearest = _nearest_loss([case for case in own if case.device == name], found, strategy, batch, link)
    if nearest is None:
        return found
    lost = nearest.seconds
    return found._replace(seconds=lost if nearest.far == 0 or by_link is None else max(lost, by_link))


def _as_elsewhere(
    found: Collectives,
    own: Sequence[Measured],
    strategy: Strategy,
    batch: int,
    name: str,
    link: _Link | None,
) -> Collectives:
    """``found`` with what the source lost, at the pace of this link; one of another kind leaves a doubt."""
    losses = []
    for device in dict.fromkeys(case.device for case in own if case.device != name):
        there = [case for case in own if case.device == device]
        theirs = _link(there[0].profile, there[0].all_reduce_gb_per_s)
        loss = None if theirs is None else _nearest_loss(there, found, strategy, batch, theirs)
        if theirs is not None and loss is not None:
            losses.append((link is None or theirs.kind != link.kind, loss, theirs))
    if not losses:
        return found
    unlike, loss, theirs = min(losses, key=lambda one: one[:2])
    found = found._replace(log_half=_CARRIED_UNCERTAINTY * loss.slowed)
    if unlike or link is None:
        return found
    return found._replace(seconds=max(found.seconds or 0.0, loss.seconds * theirs.gb_per_s / link.gb_per_s))


def _nearest_loss(
    on_device: Sequence[Measured], found: Collectives, strategy: Strategy, batch: int, link: _Link | None
) -> _Loss | None:
    """Of one device's cases with several of it, the one whose batch is nearest to ``batch``."""
    losses = []
    for together in on_device:
        case = together.case
        n = case.world_size
        alone = interpolate(on_device, case.per_device_batch_size)
        if case.strategy != strategy or n == 1 or alone is None:
            continue
        step_s = case.global_batch_size / together.samples_per_second
        alone_s = alone.step_with(case.gradient_accumulation_steps)
        seconds = math.sqrt(max(0.0, step_s**2 - alone_s**2)) * n / (n - 1)
        seconds /= found.repeated(case.gradient_accumulation_steps)
        if link is not None and link.shared:
            seconds /= shared_by(n)
        far = abs(math.log(case.per_device_batch_size / batch))
        losses.append(_Loss(far, -n, seconds, max(0.0, math.log(step_s / alone_s))))
    return min(losses, default=None)


def shared_by(num_devices: int) -> float:
    """How much slower a link through the host's memory is than for two devices."""
    return max(num_devices, 2) / 2


def _link(profile: HardwareProfile | None, probed: float | None) -> _Link | None:
    """A probe among all devices has their sharing in its figure."""
    if profile is None or profile.kind != "gpu":
        return None if probed is None else _Link(probed, "host", shared=False)
    if probed is not None:
        return _Link(probed, link_kind(profile), shared=False)
    return _Link(link_gb_per_s(profile), link_kind(profile), shared=not has_peer_access(profile))


def _traffic(strategy: Strategy, precision: Precision, num_parameters: int | None) -> _Traffic:
    """As the strategies' own formulas have it (``docs/strategies.md``): DDP averages gradients in fp32 once a
    step; stage 1 scatters gradients and gathers weights once, stage 2 scatters in each micro-batch, and
    stage 3 gathers there too, twice where more than DeepSpeed's bound of 10^9 is not kept; FSDP2 gathers
    twice in each micro-batch, and scatters gradients in fp32 once."""
    e = 2 if precision in ("bf16", "fp16") else 4
    gathers = 2 if (num_parameters or 0) > 1e9 else 1
    stage_2, stage_3 = _Traffic(e, e), _Traffic(0, e * (1 + gathers))
    return {
        "single": _Traffic(8, 0),
        "ddp": _Traffic(8, 0),
        "zero1": _Traffic(2 * e, 0),
        "zero2": stage_2,
        "zero2-offload": stage_2,
        "zero3": stage_3,
        "zero3-offload": stage_3,
        "fsdp2": _Traffic(4, 2 * e),
    }[strategy]


def _gigabytes(
    own: Sequence[Measured],
    strategy: Strategy,
    repeating: float,
    traffic: _Traffic,
    num_parameters: int | None,
) -> float | None:
    """With one micro-batch: as a run counted it, else from the parameters."""
    for case in own:
        n = case.case.world_size
        if case.case.strategy == strategy and n > 1 and case.sent_bytes is not None:
            times = 1 + repeating * (case.case.gradient_accumulation_steps - 1)
            return case.sent_bytes * n / (n - 1) / times / 1e9
    return None if num_parameters is None else sum(traffic) * num_parameters / 1e9
