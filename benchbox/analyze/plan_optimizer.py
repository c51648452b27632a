"""How long the update of the weights takes: once a step, whatever the batch and the number of micro-batches.

It streams through memory, so another device takes as much longer as its bandwidth is lower; none of it is the
host's time.
"""

from __future__ import annotations

from benchbox.schema import HardwareProfile, RankResult

# Adam reads weights, gradients and two moments in fp32, and writes all of them but the gradients.
ADAM_BYTES_PER_PARAMETER = 28
# An update that uses less of the bandwidth waits for launches, as any other operator in the roofline.
_LAUNCH_BOUND = 0.2
# Of the step that the device works on: some of it is the forward and backward pass.
MAX_UPDATE_SHARE = 0.95


def optimizer_s(rank: RankResult | None, step_s: float, profile: HardwareProfile | None) -> float | None:
    """Seconds of a measured step of ``step_s`` that the device updates weights; ``None``: nothing says.

    By the profiled kernels, else by the phase, else by the bytes that Adam moves. A phase that is far longer
    than those bytes take is the host's, and the bytes count.
    """
    if rank is None:
        return None
    by_bytes = _by_bytes(rank, profile)
    found = _by_operators(rank, step_s)
    if found is None:
        found = _by_phase(rank, step_s)
        if found is None or (by_bytes is not None and by_bytes < _LAUNCH_BOUND * found):
            found = by_bytes
    return None if found is None else min(found, MAX_UPDATE_SHARE * step_s)


def _by_operators(rank: RankResult, step_s: float) -> float | None:
    """On a GPU the kernels' own time, which the profiler does not stretch; else their share of the step."""
    step = rank.profile
    own_ns = sum(one.time_ns for one in step.operators if one.operator_class == "optimizer") if step else 0
    if step is None or not own_ns:
        return None
    if step.device_idle_ns is not None:
        return own_ns / 1e9
    return step_s * own_ns / sum(one.time_ns for one in step.operators)


def _by_phase(rank: RankResult, step_s: float) -> float | None:
    phases = rank.phases
    if phases is None or not phases.optimizer_ns:
        return None
    return step_s * phases.optimizer_ns / phases.whole_ns


def _by_bytes(rank: RankResult, profile: HardwareProfile | None) -> float | None:
    is_adam = rank.optimizer is None or "adam" in rank.optimizer.casefold()
    bandwidth = profile.memory_bandwidth_gb_per_s if profile else None
    if rank.flops is None or bandwidth is None or not is_adam:
        return None
    return ADAM_BYTES_PER_PARAMETER * rank.flops.num_parameters / (bandwidth * 1e9)
