"""How long a training step takes on a device, for every way its work may be divided.

A step's work is compute-bound (matrix units), bandwidth-bound (device memory) and on-chip-bound (issue,
caches, shared memory), beside a fixed time of the host and, with several devices, an all-reduce's bytes:

    device = w_c · C_ref/C + w_b · B_ref/B + w_s · S_ref/S        (shares of a reference A100's step)
           + w_o · B_ref/B                                        (the update of the weights, if known)
    step   = (device^2 + host^2 + all-reduce^2)^(1/2)

The squares let what runs beside something longer hide behind it: a host that launches kernels ahead of the
device, an all-reduce that overlaps with the backward pass. How a step is divided is not known from a table of
throughputs, so the model carries a grid of divisions with a prior, and what the table has without the target
re-weights it: see :mod:`benchbox.analyze.predict_fit`.
"""

from __future__ import annotations

import itertools
import re
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from benchbox.analyze.predict_rates import DeviceRates, RatePrecision

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
else:
    Floats = Any

Family = Literal["convolution", "transformer", "language model", "other"]

# Logarithms of compute-bound and on-chip-bound time over bandwidth-bound time, mixed precision on the
# reference device. A convolution network with normalization moves more bytes for each operation than a
# transformer, and a large language model is mostly matrix products.
_PRIOR_MEANS: dict[Family, tuple[float, float]] = {
    "convolution": (-0.6, -0.1),
    "transformer": (-0.3, -0.3),
    "language model": (0.7, -0.3),
    "other": (-0.6, -0.2),
}
# Standard deviations of compute, on-chip, host and all-reduce, as logarithms: all are known to a factor of 3.
_PRIOR_SDS = (1.2, 1.2, 1.0, 1.3)
_LEVELS = (-2.25, -1.5, -0.75, 0.0, 0.75, 1.5, 2.25)
_COMMUNICATION_LEVELS = (-2.0, -1.0, 0.0, 1.0, 2.0)

# An eager training step issues about a thousand kernels, at 10 to 20 µs of the host each.
HOST_MS = 15.0
# Gradients in 16 bits of fifty million parameters, of a hundred, and of a billion.
ALL_REDUCE_GB: dict[Family, float] = {
    "convolution": 0.1,
    "transformer": 0.2,
    "language model": 2.0,
    "other": 0.1,
}
# Of a step whose length the table does not give.
DEFAULT_STEP_MS = 300.0

# A100-SXM4 by the same rules as every other device; only ratios to it matter.
_REFERENCE_TFLOPS = {"fp16": 271.4, "bf16": 271.4, "tf32": 135.7, "fp32": 17.0}
REFERENCE_BANDWIDTH = 2039.0
_REFERENCE_ON_CHIP = 152.3
# Time of the same operations in wider numbers: matrix units get nearer to a lower peak, hence the power;
# activations double but master weights and statistics were fp32 all along.
_COMPUTE_POWER = 0.8
_BYTES_FACTOR = {"fp16": 1.0, "bf16": 1.0, "tf32": 1.6, "fp32": 1.6}
_ON_CHIP_FACTOR = {"fp16": 1.0, "bf16": 1.0, "tf32": 1.3, "fp32": 1.3}

_LANGUAGE_MODELS = re.compile(
    r"gpt|llama|\bmpt|\bopt[_-]|mistral|mixtral|falcon|qwen|gemma|bloom|phi-|neox|pythia|olmo|deepseek|switch"
)
_TRANSFORMERS = re.compile(
    r"bert|transformer|electra|gnmt|(?<![a-z])(?:t5|m?bart(?![a-z]))|xlm|xlnet|reformer|longformer"
    r"|(?:vit|swin)v?(?![a-z])|deit|whisper|wav2vec"
)
# Words end where letters end: names are glued to what stands before (`densenet`) and numbers to what stands
# behind (`ssd300`), and some have a letter or a short word of their own there (`regnety`, `mobilenetv2`).
_CONVOLUTIONS = re.compile(
    r"(?:net(?:[a-z]|aa|rs|blur|light|alarge)?|res2?ne[xs]t(?:aa)?|vgg|cnn|det|inception|diffusion)(?![a-z])"
    r"|(?<![a-z])(?:ssd|yolo[a-z]?|retina|fcn|deeplabv?|mask|res)(?![a-z])"
)
_SPEECH = re.compile(r"waveglow|tacotron|jasper|fastpitch|rnn|lstm|dlrm|ncf")


class Grid(NamedTuple):
    """Divisions of a step's work, one an entry: logarithms of factors on the prior's middle."""

    compute: Floats
    on_chip: Floats
    host: Floats
    communication: Floats
    log_prior: Floats


class Workload(NamedTuple):
    """What is known of a group of rows before any of them is looked at."""

    family: Family
    precision: RatePrecision
    step_ms: float
    """About how long a step takes on the reference device."""
    host_ms: float = HOST_MS
    """The step's fixed time of the host, where it was measured."""
    optimizer_share: float = 0.0
    """Of the device's own time in such a step: the update of the weights, where it was measured. It scales
    with bandwidth; in a table it is part of what is divided."""


def model_family(model: str) -> Family:
    """By words in the model's name; ``other`` where none is known."""
    name = model.casefold()
    if _SPEECH.search(name):
        return "other"
    if _LANGUAGE_MODELS.search(name):
        return "language model"
    if _TRANSFORMERS.search(name):
        return "transformer"
    return "convolution" if _CONVOLUTIONS.search(name) else "other"


@cache
def grid(with_communication: bool) -> Grid:
    """All combinations of the levels: 343 divisions, or 1,715 with an all-reduce."""
    import numpy as np

    last = _COMMUNICATION_LEVELS if with_communication else (0.0,)
    points = np.array(list(itertools.product(_LEVELS, _LEVELS, _LEVELS, last)))
    scaled = points * np.array(_PRIOR_SDS)
    compute, on_chip, host, communication = scaled.T
    return Grid(compute, on_chip, host, communication, log_prior=-(points**2).sum(axis=1) / 2)


def log_rates(division: Grid, work: Workload, device: DeviceRates, num_devices: int) -> Floats:
    """Logarithm of the rate of one device among ``num_devices``, for each division.

    Rates are relative to one step of the reference device in the same precision, so differences between
    devices mean something and the values alone do not.
    """
    import numpy as np

    compute, bandwidth, on_chip = _times(division, work, device)
    on_device = compute + bandwidth + on_chip
    host = work.host_ms / work.step_ms * np.exp(division.host)
    squares = on_device**2 + host**2
    if num_devices > 1:
        squares = squares + all_reduce_time(division, work, device, num_devices) ** 2
    rates: Floats = -0.5 * np.log(squares)
    return rates


def all_reduce_time(division: Grid, work: Workload, device: DeviceRates, num_devices: int) -> Floats:
    """In steps of the reference device, alone on the link, for each division."""
    import numpy as np

    traffic_gb = ALL_REDUCE_GB[work.family] * 2 * (num_devices - 1) / num_devices
    seconds: Floats = np.exp(division.communication) * traffic_gb / device.link_among(num_devices)
    return seconds * 1e3 / work.step_ms


def log_work(division: Grid, work: Workload) -> Floats:
    """Logarithm of the reference device's time for a sample against its time in mixed precision's bytes."""
    import numpy as np

    compute, bandwidth, on_chip = _amounts(division, work)
    total: Floats = np.log((compute + bandwidth + on_chip) / (1 - work.optimizer_share))
    return total


def _amounts(division: Grid, work: Workload) -> tuple[Floats, float, Floats]:
    import numpy as np

    mean_compute, mean_on_chip = _PRIOR_MEANS[work.family]
    slower = (_REFERENCE_TFLOPS["fp16"] / _REFERENCE_TFLOPS[work.precision]) ** _COMPUTE_POWER
    return (
        np.exp(mean_compute + division.compute) * slower,
        _BYTES_FACTOR[work.precision],
        np.exp(mean_on_chip + division.on_chip) * _ON_CHIP_FACTOR[work.precision],
    )


def compute_share(division: Grid, work: Workload, device: DeviceRates) -> Floats:
    """Of the device's own time: what is compute-bound, for each division."""
    compute, bandwidth, on_chip = _times(division, work, device)
    return compute / (compute + bandwidth + on_chip)


def _times(division: Grid, work: Workload, device: DeviceRates) -> tuple[Floats, Floats, Floats]:
    """Compute-bound, bandwidth-bound and on-chip-bound time in steps of the reference device."""
    compute, bandwidth, on_chip = _amounts(division, work)
    total = (compute + bandwidth + on_chip) / (1 - work.optimizer_share)
    return (
        compute / total * (_REFERENCE_TFLOPS[work.precision] / device.compute_tflops),
        (bandwidth / total + work.optimizer_share) * (REFERENCE_BANDWIDTH / device.bandwidth_gb_per_s),
        on_chip / total * (_REFERENCE_ON_CHIP / device.on_chip_ghz),
    )
