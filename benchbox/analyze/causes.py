"""How much of a step each possible cause holds, from the figures that were measured about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from benchbox.analyze.gathered import Gathered
from benchbox.analyze.roofline import Place
from benchbox.schema import Bottleneck, Communication, Evidence
from benchbox.stats import mean

_MIN_KERNEL_SHARE = 0.1
_MIN_FAULTS_A_STEP = 100
_NEAR_A_CEILING = 0.3
_SURELY_WAITED = 0.4
"""Of the step, for collectives, by the interval's lower end."""
_WAITS = ("communication", "other")
"""Among several ranks the host waits for the others in calls that have no class."""
_MAX_NS_A_FAULT = 100_000
"""Filling a huge page takes about this long, filling a small one a hundredth of it."""


class Cause(NamedTuple):
    """A share of the step, 0 to 1, with the figures that say so."""

    bottleneck: Bottleneck
    share: float
    evidence: tuple[Evidence, ...]
    direct: bool = True
    """Whether it was measured as such; false where it is inferred."""


def percent(what: str, share: float) -> Evidence:
    """A share as evidence."""
    return Evidence(what=what, value=100 * share, unit="%")


def find_causes(gathered: Gathered, places: Sequence[Place]) -> list[Cause]:
    """All causes that hold something, the largest first. Shares of one step; they add up to at most one."""
    waiting = _input(gathered)
    outside = [c for c in (waiting, _communication(gathered)) if c is not None]
    rest = max(0.0, 1 - sum(cause.share for cause in outside))
    idle = _idle(gathered, rest, waiting.share if waiting is not None else 0.0)
    if idle is not None:
        outside.append(idle)
        rest = max(0.0, rest - idle.share)
    memory = _host_memory(gathered, rest)
    if memory is not None:
        outside.append(memory)
        rest -= memory.share
    inside = _operators(gathered, places, rest)
    return sorted([*outside, *inside], key=lambda cause: -cause.share)


def _input(gathered: Gathered) -> Cause | None:
    ablation, phases = gathered.ablation, gathered.phases
    if ablation is not None and ablation.loaded_step_time_ns:
        share = 1 - ablation.on_device_step_time_ns / ablation.loaded_step_time_ns
        figures = (
            Evidence(what="step with its own input", value=ablation.loaded_step_time_ns, unit="ns"),
            Evidence(
                what="step with a batch that is on the device",
                value=ablation.on_device_step_time_ns,
                unit="ns",
            ),
            percent("of the step goes away with a ready batch", max(0.0, share)),
        )
        return Cause("input", max(0.0, share), figures)
    if phases is None or gathered.case.data == "device":
        return None
    waiting_ns = phases.input_wait_ns + phases.host_to_device_ns
    share = waiting_ns / phases.whole_ns if phases.whole_ns else 0.0
    return Cause("input", share, (percent("of the phases is input and its copy", share),), direct=False)


def _communication(gathered: Gathered) -> Cause | None:
    if gathered.case.world_size == 1:
        return None
    known = [rank.communication for rank in gathered.ranks if rank.communication is not None]
    if known:
        share = mean([max(0, c.exposed_ns) / max(1, c.step_time_on_ns) for c in known])
        figures = (
            percent("of the step, as the mean of the ranks, is collectives that nothing hides", share),
            Evidence(what="sent by each rank in a step", value=known[0].bytes_per_step, unit="bytes"),
            *_of_the_wire(known, gathered.all_reduce_bytes_per_s),
        )
        surely = min(c.exposed_interval_ns.low / max(1, c.step_time_on_ns) for c in known)
        return Cause("communication", share, figures, direct=surely >= _SURELY_WAITED)
    profile = gathered.profile
    whole = sum(o.time_ns for o in profile.operators) if profile else 0
    waits = sum(o.time_ns for o in profile.operators if o.operator_class in _WAITS) if profile else 0
    if not whole or not waits:
        return None
    share = waits / whole
    waiting = percent("of operator time is collectives and waiting for them", share)
    return Cause("communication", share, (waiting,), direct=False)


def _of_the_wire(known: Sequence[Communication], reached: float | None) -> tuple[Evidence, ...]:
    """How near to an all-reduce among the same ranks it comes, where the exposed time is surely some."""
    if reached is None or any(c.exposed_interval_ns.low <= 0 for c in known):
        return ()
    rate = known[0].bytes_per_step / mean([c.exposed_ns for c in known]) * 1e9
    return (percent("of the rate that all-reduces alone reach here", rate / reached),)


def _idle(gathered: Gathered, rest: float, waiting: float) -> Cause | None:
    """On a GPU: what no kernel and no waiting for input fills is the host not keeping up. Collectives are
    kernels too.

    Kernel time comes from the profiled step, because the profiler does not slow kernels down; the step that
    it is held against is the measured one.
    """
    profile = gathered.profile
    if profile is None or profile.device_idle_ns is None:
        return _idle_by_the_driver(gathered, rest, waiting)
    busy = (profile.step_time_ns - profile.device_idle_ns) / gathered.step_ns
    share = max(0.0, min(rest, 1 - busy - waiting))
    figures = [percent("of the step no kernel runs", max(0.0, 1 - busy))]
    if profile.num_kernels:
        each_ns = (profile.step_time_ns - profile.device_idle_ns) / profile.num_kernels
        figures += [
            Evidence(what="kernels in a step", value=profile.num_kernels, unit=""),
            Evidence(what="mean length of a kernel", value=each_ns, unit="ns"),
        ]
    return Cause("host-launch", share, tuple(figures))


def _idle_by_the_driver(gathered: Gathered, rest: float, waiting: float) -> Cause | None:
    """The same where no kernel was profiled. What the driver calls utilization is the share of time in which
    some kernel ran, so the rest of it is idle; it tells nothing else."""
    if gathered.busy_pct is None:
        return None
    idle = 1 - gathered.busy_pct / 100
    case = gathered.case
    told_apart = (case.data == "device" or gathered.ablation is not None) and (
        case.world_size == 1 or gathered.communication is not None
    )
    share = max(0.0, min(rest, idle - waiting))
    return Cause(
        "host-launch", share, (percent("of the time no kernel runs, by the driver", idle),), told_apart
    )


def _host_memory(gathered: Gathered, rest: float) -> Cause | None:
    """The kernel's share of the processor time of the windows, where page faults can explain it."""
    known = [(r.host_usage, len(r.step_time_ns)) for r in gathered.ranks if r.host_usage]
    user_s = sum(usage.cpu_user_s for usage, _ in known)
    kernel_s = sum(usage.cpu_kernel_s for usage, _ in known)
    faults = sum(usage.minor_page_faults for usage, _ in known)
    num_steps = sum(steps for _, steps in known)
    if not num_steps or user_s + kernel_s <= 0:
        return None
    share = kernel_s / (user_s + kernel_s)
    if share < _MIN_KERNEL_SHARE or faults < _MIN_FAULTS_A_STEP * num_steps:
        return None
    if kernel_s / faults * 1e9 > _MAX_NS_A_FAULT:
        return None  # the kernel is busy with something else
    figures = (
        percent("of processor time is spent in the kernel", share),
        Evidence(what="page faults in a step", value=faults / num_steps, unit=""),
        Evidence(what="kernel time for each fault", value=kernel_s / faults * 1e9, unit="ns"),
    )
    return Cause("host-memory", rest * share, figures)


_OF_BOUND: dict[str, Bottleneck] = {
    "compute": "compute",
    "memory-bandwidth": "memory-bandwidth",
    "launch": "host-launch",
    "neither": "compute",
}


def _operators(gathered: Gathered, places: Sequence[Place], rest: float) -> list[Cause]:
    """What is left of the step, divided by what bounds its operators.

    Without a profile only the optimizer can be told from the rest, by its phase.
    """
    if not places:
        phases = gathered.phases
        if phases is None or not phases.whole_ns:
            return []
        own = phases.optimizer_ns / phases.whole_ns
        return [Cause("optimizer", own, (percent("of the phases is the optimizer", own),), direct=False)]
    on_gpu = gathered.profile is not None and gathered.profile.device_idle_ns is not None
    working = [p for p in places if gathered.case.world_size == 1 or p.operator_class not in _WAITS]
    own_share = sum(place.share for place in working)
    grouped: dict[Bottleneck, list[Place]] = {}
    for place in working:
        bottleneck = _OF_BOUND[place.bound]
        if place.operator_class == "optimizer" and place.bound != "launch":
            bottleneck = "optimizer"
        if (
            place.operator_class == "matmul"
            and place.bound == "memory-bandwidth"
            and _weights(gathered, working)
        ):
            bottleneck = "optimizer"
        if on_gpu and bottleneck == "host-launch":
            bottleneck = "memory-bandwidth"  # a kernel that runs is not the host's delay
        grouped.setdefault(bottleneck, []).append(place)
    return [_group(bottleneck, group, rest / own_share) for bottleneck, group in grouped.items()]


def _weights(gathered: Gathered, working: Sequence[Place]) -> bool:
    """Whether products that memory bounds belong to the optimizer: they move weights and not samples.

    Forward reads every weight, backward reads it and writes its gradient. Where that is most of what products
    must move, they cost the same however few the samples, and, like the update of the weights, less for each
    sample with more of them. Where the update itself is the smaller part by far, they stand for themselves.
    """
    profile, num_parameters = gathered.profile, gathered.num_parameters
    if profile is None or num_parameters is None:
        return False
    operators = {operator.operator_class: operator for operator in profile.operators}
    moved = operators["matmul"].least_bytes if "matmul" in operators else None
    shares = {place.operator_class: place.share for place in working}
    size = 4 if gathered.case.precision in ("fp32", "tf32") else 2
    weights = 3 * size * num_parameters * gathered.case.gradient_accumulation_steps
    return bool(
        moved and weights >= 0.5 * moved and shares.get("optimizer", 0.0) >= 0.5 * shares.get("matmul", 0.0)
    )


def _group(bottleneck: Bottleneck, group: Sequence[Place], scale: float) -> Cause:
    figures: list[Evidence] = []
    for place in sorted(group, key=lambda place: place.operator_class != bottleneck)[:3]:
        if place.share < 0.03:
            continue
        name: str = "other operators" if place.operator_class == "other" else place.operator_class
        if bottleneck == "optimizer" and name == "matmul":
            name = "matmul on weights, whatever the batch"
        figures.append(percent(f"of operator time is {name}", place.share))
        if place.sets_ceiling_bytes_per_s is not None:
            what = f"{name} moves more than the probe did"
            figures.append(Evidence(what=what, value=place.sets_ceiling_bytes_per_s / 1e9, unit="GB/s"))
        elif place.reached is not None:
            ceiling = "rate" if place.bound == "compute" else "bandwidth"
            figures.append(percent(f"of the {ceiling} reached here, {name}", place.reached))
        if place.intensity is not None and place.ridge is not None:
            for what, value in (("intensity", place.intensity), ("ridge of this machine", place.ridge)):
                figures.append(
                    Evidence(what=f"{place.operator_class}, {what}", value=value, unit="FLOP/byte")
                )
    inferred = sum(place.share for place in group if _is_inferred(place, bottleneck))
    share = sum(place.share for place in group)
    return Cause(bottleneck, scale * share, tuple(figures), direct=inferred < 0.5 * share)


def _is_inferred(place: Place, bottleneck: Bottleneck) -> bool:
    """Whether a ceiling is named that is far: something else holds the class back as well."""
    if place.bound == "neither":
        return True
    if bottleneck not in ("compute", "memory-bandwidth") or place.reached is None:
        return False
    return place.reached < _NEAR_A_CEILING
