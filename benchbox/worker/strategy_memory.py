"""What each strategy makes of a step's parameters, gradients and optimizer state, by formula.

Sources: Rajbhandari et al. 2020, "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models",
section 3 (states of mixed precision: weights and gradients in the low precision, 12 bytes of fp32 weights
and Adam's moments a parameter; stage 1 divides the latter by the number of ranks, stage 2 gradients too,
stage 3 weights too); DeepSpeed's defaults for buckets (deepspeed/runtime/zero/config.py); DDP's reducer,
whose buckets hold a copy of all gradients; FSDP2, which shards fp32 weights and gathers a stage at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from benchbox.schema import Case
from benchbox.worker.device_memory import MIB, Between
from benchbox.worker.step_memory import StepMemory
from benchbox.worker.step_trace import Kind

BUCKET_ELEMENTS = 500_000_000
"""DeepSpeed's ``reduce_bucket_size``; with ``contiguous_gradients`` that much is allocated, full or not. On a
CPU the kernel gives no page that nobody writes to, so there only what gradients fill is taken."""
MAX_LIVE_ELEMENTS = 1_000_000_000
"""DeepSpeed's ``stage3_max_live_parameters``: gathered weights that may stand at the same time."""
_FP32 = 4
_FP32_WEIGHTS_AND_ADAM = 12
# Fitted to the runs in docs/memory.md: what DeepSpeed imports, and how many copies gloo makes of weights that
# are gathered and gradients that are scattered.
_DEEPSPEED_BYTES = Between(40 * MIB, 150 * MIB, 350 * MIB)
_GLOO_COPIES = (0, 5, 9)
_NOTHING = Between(0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a strategy differs from a single device with the same trace."""

    share: dict[Kind, Fraction] = field(default_factory=dict)
    """By which the bytes of a kind are multiplied; 1 where it is not named."""
    communication_bytes: int = 0
    gathered_bytes: int = 0
    """Weights and gradients of other ranks that stand while a stage computes."""
    update_bytes: int = 0
    """More that stands while weights are updated, when activations are gone."""
    host_bytes: int = 0
    resident_bytes: Between = _NOTHING
    """More of a CPU's worker beside its tensors."""
    is_formula: bool = True

    def sizes(self, memory: StepMemory, batch_size: int) -> list[int]:
        """Bytes of each storage on one rank."""
        sizes = memory.sizes(batch_size)
        if not self.share:
            return sizes
        shares = [self.share.get(kind, Fraction(1)) for kind in memory.trace.kinds]
        return [int(size * share) for size, share in zip(sizes, shares, strict=True)]


def layout_of(case: Case, memory: StepMemory, *, is_gpu: bool) -> Layout:
    """The layout of the case's strategy over its world size."""
    kinds, sizes = memory.trace.kinds, memory.fixed
    weights = _Weights(kinds, sizes, element_bytes=_element_bytes(case))
    match case.strategy:
        case "single":
            return Layout(is_formula=False)
        case "ddp":
            return Layout(communication_bytes=weights.num * weights.element_bytes)
        case "fsdp2":
            layout = _fsdp2(weights, case.world_size)
        case _:
            layout = _zero(weights, case, BUCKET_ELEMENTS if is_gpu else min(BUCKET_ELEMENTS, weights.num))
    return layout if is_gpu else replace(layout, resident_bytes=_resident(weights, case))


def _resident(weights: _Weights, case: Case) -> Between:
    copied = weights.element_bytes * weights.num if case.world_size > 1 else 0
    copies = [number * copied for number in _GLOO_COPIES]
    imported = _NOTHING if case.strategy == "fsdp2" else _DEEPSPEED_BYTES
    return Between(*map(sum, zip(imported, copies, strict=True)))


def _element_bytes(case: Case) -> int:
    """Of a weight as it is computed with, where the model itself is cast."""
    return 2 if case.precision in ("bf16", "fp16") and case.strategy != "ddp" else _FP32


class _Weights:
    """Sums over the traced parameters; buffers of a model count as parameters."""

    def __init__(self, kinds: Sequence[Kind], sizes: Sequence[int], *, element_bytes: int) -> None:
        parameters = [size for size, kind in zip(sizes, kinds, strict=True) if kind == "parameter"]
        optimizer = [size for size, kind in zip(sizes, kinds, strict=True) if kind == "optimizer"]
        self.element_bytes = element_bytes
        self.num = sum(parameters) // element_bytes
        self.num_largest = max(parameters, default=0) // element_bytes
        self.traced_optimizer_bytes = max(1, sum(optimizer))

    def optimizer_share(self, wanted_bytes: Fraction) -> Fraction:
        return wanted_bytes / self.traced_optimizer_bytes


def _zero(weights: _Weights, case: Case, bucket_elements: int) -> Layout:
    num, e, rank = weights.num, weights.element_bytes, Fraction(1, case.world_size)
    stage, offloads = int(case.strategy[4]), case.strategy.endswith("-offload")
    states = _FP32_WEIGHTS_AND_ADAM * num * rank
    share: dict[Kind, Fraction] = {"optimizer": weights.optimizer_share(Fraction(0) if offloads else states)}
    gathered = 0
    host = states + _FP32 * num * rank if offloads else Fraction(0)
    if stage >= 2:
        share["gradient"] = Fraction(0) if offloads else rank
        gathered += e * weights.num_largest  # a gradient stands whole until it is reduced
    if stage == 3:
        share["parameter"] = Fraction(0) if offloads else rank
        gathered += e * min(num, MAX_LIVE_ELEMENTS)
        host += e * num * rank if offloads else 0
    return Layout(
        share=share,
        communication_bytes=e * bucket_elements,
        gathered_bytes=gathered,
        update_bytes=0 if offloads else int(_FP32 * num * rank),  # gradients of the own part in fp32
        host_bytes=int(host),
    )


def _fsdp2(weights: _Weights, world_size: int) -> Layout:
    num, e, rank = weights.num, weights.element_bytes, Fraction(1, world_size)
    largest = weights.num_largest
    return Layout(
        share={
            "parameter": Fraction(_FP32, e) * rank,
            "gradient": Fraction(_FP32, e) * rank,
            "optimizer": weights.optimizer_share(2 * _FP32 * num * rank),
        },
        communication_bytes=(e + _FP32) * largest,  # gathered in e bytes, reduced in fp32
        gathered_bytes=e * min(num, 2 * largest) + e * largest,  # this stage and the next; a whole gradient
    )
