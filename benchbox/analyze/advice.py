"""One next step for a verdict: a change to the suite's own axes, and what the evidence says it should bring.

Predictions are speed-ups, rate after over rate before, as intervals. They follow Amdahl's law on measured
shares; where a share or a ratio is uncertain, the interval spans what it may be. docs/diagnose.md has each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchbox.analyze.causes import Cause
from benchbox.analyze.gathered import Gathered
from benchbox.analyze.predictions import (
    by_batch,
    by_channels_last,
    by_fusing,
    by_half_the_collectives,
    by_keeping_activations,
    by_precision,
    by_removing,
)
from benchbox.analyze.roofline import Place
from benchbox.schema import (
    Bottleneck,
    Case,
    Ceilings,
    Environment,
    HardwareProfile,
    Interval,
    MemoryEstimate,
    Suggestion,
)

_WORTH = 1.05
"""Advice whose best outcome is below this is none."""

_STANDING = 0.8
"""Of the tensors foretold: above this, activations are not what is in the way."""
_NOT_ALL_SHARDED = ("ddp", "zero1", "zero2")

Advice = tuple[str | None, Suggestion | None]


class Known(NamedTuple):
    """All that advice rests on."""

    gathered: Gathered
    places: Sequence[Place]
    causes: Sequence[Cause]
    environment: Environment
    ceilings: Ceilings | None
    profile: HardwareProfile | None

    def places_of_step(self) -> Sequence[Place]:
        """Each class's share of the whole step, where ``places`` has that of the operators' time."""
        outside: list[Bottleneck] = ["input", "communication", "host-memory"]
        if self.environment.device == "cuda":
            outside.append("host-launch")  # on a CPU that is operators too
        inside = max(0.0, 1 - sum(map(self.share, outside)))
        return [place._replace(share=inside * place.share) for place in self.places]

    @property
    def case(self) -> Case:
        """The case that advice is for."""
        return self.gathered.case

    def share(self, bottleneck: Bottleneck) -> float:
        """Of the step, 0 where the cause was not found."""
        return next((c.share for c in self.causes if c.bottleneck == bottleneck), 0.0)


def advise(
    bottleneck: Bottleneck,
    gathered: Gathered,
    places: Sequence[Place],
    causes: Sequence[Cause],
    environment: Environment,
    ceilings: Ceilings | None,
    profile: HardwareProfile | None,
) -> Advice:
    """The step in words and on an axis; ``None`` for either where there is none."""
    known = Known(gathered, places, causes, environment, ceilings, profile)
    if bottleneck == "memory-capacity":
        return make_it_fit(gathered.case, gathered.estimate, environment.device)
    if bottleneck == "power-or-thermal":
        return "give the device more power or better cooling: its clocks are held below what it can do", None
    if bottleneck == "unknown":
        return None, None
    by_verdict: dict[Bottleneck, tuple[Callable[[Known], Advice], ...]] = {
        "input": (_faster_input,),
        "host-memory": (_tuned_allocator,),
        "communication": (_fewer_collectives,),
        "optimizer": (_larger_batch,),
        "host-launch": (_larger_batch, _compile),
    }
    arithmetic = (_no_checkpointing, _lower_precision, _channels_last, _larger_batch, _compile, _more_devices)
    return _best([advice(known) for advice in by_verdict.get(bottleneck, arithmetic)])


def make_it_fit(case: Case, estimate: MemoryEstimate | None, device: str) -> Advice:
    """What needs less memory, the cheapest in speed first; what cannot help by the estimate is left out."""
    if estimate is not None and (share := standing_share(estimate)) >= _STANDING:
        return _share_what_stands(case, share, device)
    # Whether a model of the user's own can recompute its activations is not known here.
    if not case.gradient_checkpointing and not (":" in case.model and case.per_device_batch_size > 1):
        words = "gradient checkpointing: recompute activations instead of keeping them"
        return words, Suggestion(axis="gradient_checkpointing", value=True)
    if case.per_device_batch_size > 1:
        half = case.per_device_batch_size // 2
        words = (
            f"a batch of {half} for each device, with twice the accumulation steps for the same mathematics"
        )
        return words, Suggestion(axis="per_device_batch_size", value=half)
    if case.world_size > 1 and case.strategy in _NOT_ALL_SHARDED:
        return "shard the parameters too: zero3 keeps a part of them on each device", _strategy("zero3")
    return "a device with more memory: batch and activations are as small as they get", None


def _share_what_stands(case: Case, share: float, device: str) -> Advice:
    why = f"{100 * share:.0f} % of the tensors foretold are weights, gradients and optimizer state"
    if case.world_size > 1 and case.strategy in _NOT_ALL_SHARDED:
        return f"zero3, for {why}: it keeps a part of them on each device", _strategy("zero3")
    if device == "cuda" and case.strategy in ("single", *_NOT_ALL_SHARDED) and not case.compile:
        return f"zero3-offload, for {why}: it keeps them in the host's memory", _strategy("zero3-offload")
    return f"more memory, or more devices that share a zero3 case: {why}", None


def standing_share(estimate: MemoryEstimate) -> float:
    """Of the tensors' foretold peak, what stands there whatever the batch: weights, gradients and optimizer
    state."""
    standing = estimate.parameters_bytes + estimate.gradients_bytes + estimate.optimizer_state_bytes
    return min(1.0, standing / max(1, estimate.peak_allocated_bytes))


def _strategy(name: str) -> Suggestion:
    return Suggestion(axis="strategy", value=name)


def _best(found: Sequence[Advice]) -> Advice:
    """The one that promises most by the middle of its interval; else the first that has words."""
    promising = [(words, s) for words, s in found if s is not None and s.predicted_speedup is not None]
    if promising:
        return max(promising, key=lambda advice: _middle(advice[1].predicted_speedup))
    return next(((words, s) for words, s in found if words is not None), (None, None))


def _middle(interval: Interval | None) -> float:
    return (interval.low * interval.high) ** 0.5 if interval is not None else 0.0


def _promise(words: str, axis: str, value: str | int | bool, speedup: Interval | None) -> Advice:
    if speedup is None or speedup.high <= _WORTH or _middle(speedup) <= 1:
        return None, None
    return words, Suggestion(axis=axis, value=value, predicted_speedup=speedup)


def _faster_input(known: Known) -> Advice:
    case = known.case
    processors = known.environment.host.num_usable_processors
    share = known.share("input")
    workers = case.num_loader_workers
    if workers is not None:
        free = processors - (1 if known.environment.device == "cpu" else 0)
        more = min(max(2 * workers, 1), max(1, free))
        if more > workers:
            # So many processes deliver at most so much faster, and the step then waits for itself.
            high = min(1 / max(0.02, 1 - share), more / workers if workers else 1 / max(share, 1 - share))
            words = (
                f"{more} loader processes instead of {workers}: {100 * share:.0f} % of the step is waiting "
                "for samples"
            )
            return _promise(words, "num_loader_workers", more, Interval(low=min(1.0, high), high=high))
        words = (
            "no processor is left for more loader processes: prepare samples beforehand, so that they need "
            f"no decoding in the step, of which {100 * share:.0f} % is waiting for them"
        )
    else:
        words = f"have samples on the device before the step: {100 * share:.0f} % of it is getting them there"
    words += '; data = "device" shows what the step does without'
    return _promise(words, "data", "device", by_removing(share, 0.1))


def _tuned_allocator(known: Known) -> Advice:
    share = known.share("host-memory")
    if known.environment.host_allocator == "tuned":
        pages = f"{100 * share:.0f} % of the step goes into pages that are new each time"
        return f"find what gives memory back to the kernel at every step: {pages}", None
    words = (
        f'host_allocator = "tuned": {100 * share:.0f} % of the processor time is the kernel handing out '
        "pages that were given back a step before"
    )
    # Threads wait for each other at every fault, so more may go away than the kernel's own time.
    low, high = 1 / (1 - 0.4 * share), 1 / max(0.2, 1 - 1.6 * share)
    return _promise(words, "host_allocator", "tuned", Interval(low=low, high=high))


def _fewer_collectives(known: Known) -> Advice:
    case, share = known.case, known.share("communication")
    speedup = by_half_the_collectives(share, known.share("optimizer"))
    if case.strategy in ("ddp", "zero1"):
        words = (
            "twice the gradient accumulation steps, so that there are half as many collectives for a sample: "
            f"they are {100 * share:.0f} % of the step"
        )
        value = 2 * case.gradient_accumulation_steps
        return _promise(words, "gradient_accumulation_steps", value, speedup)
    factor = _fitting_factor(known, 2)
    if factor == 1:
        words = (
            f"a faster link between the devices: collectives are {100 * share:.0f} % of the step, and a "
            "larger batch, with which a sample would cost fewer, does not fit by the estimate"
        )
        return words, None
    words = (
        f"a larger batch, so that a sample costs fewer collectives: they are {100 * share:.0f} % of the step"
    )
    return _promise(words, "per_device_batch_size", factor * case.per_device_batch_size, speedup)


def _fitting_factor(known: Known, factor: int) -> int:
    """``factor``, or as often half of it as the estimate says that so many times the batch do not fit."""
    estimate, batch = known.gathered.estimate, known.case.per_device_batch_size
    if estimate is not None and estimate.largest_per_device_batch_size is not None:
        while factor > 1 and factor * batch > estimate.largest_per_device_batch_size:
            factor //= 2
    return factor


def _larger_batch(known: Known) -> Advice:
    batch = known.case.per_device_batch_size
    fixed = known.share("optimizer") + known.share("host-launch")
    factor = _fitting_factor(known, 4 if fixed > 0.6 else 2)
    if factor == 1:
        return None, None
    speedup = by_batch(known.gathered, known.places_of_step(), factor, fixed)
    words = (
        f"{factor} times the batch: what every step costs however many samples it has is then spent on more "
        "of them"
    )
    return _promise(words, "per_device_batch_size", factor * batch, speedup)


def _lower_precision(known: Known) -> Advice:
    if known.case.precision not in ("fp32", "tf32"):
        return None, None
    found = by_precision(known.gathered, known.places_of_step(), "bf16", known.ceilings, known.profile)
    if found is None:
        return None, None
    products = sum(p.share for p in known.places if p.operator_class in ("matmul", "convolution"))
    words = (
        f"bf16 instead of {known.case.precision}: matrix products and convolutions are {100 * products:.0f} "
        f"% of operator time, and this machine reaches {found.ratio:.1f} times the rate in bf16"
    )
    return _promise(words, "precision", "bf16", found.speedup)


def _channels_last(known: Known) -> Advice:
    case = known.case
    if case.memory_format != "contiguous" or len(case.input_shape) != 3:
        return None, None
    words = "channels_last: convolutions and pooling read the channels of a pixel side by side"
    return _promise(words, "memory_format", "channels_last", by_channels_last(known.places_of_step()))


def _compile(known: Known) -> Advice:
    if known.case.compile or known.case.strategy != "single":
        return None, None
    words = "compile: fused operators are called once and read their input once"
    speedup = by_fusing(known.places_of_step(), known.share("host-launch"))
    return _promise(words, "compile", True, speedup)


def _no_checkpointing(known: Known) -> Advice:
    if not known.case.gradient_checkpointing:
        return None, None
    words = "no gradient checkpointing: activations are computed twice; keeping them takes more memory"
    return _promise(words, "gradient_checkpointing", False, by_keeping_activations(known.gathered))


def _more_devices(known: Known) -> Advice:
    case = known.case
    if known.environment.device == "cpu" or case.strategy != "single":
        return None, None
    words = (
        "more devices: this one does what it can, and the next step is to divide the samples among several"
    )
    return words, Suggestion(axis="world_size", value=2)
