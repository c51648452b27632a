"""The base of all records and the words that their fields share."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

SCHEMA_VERSION = 2
"""2 added, always with a default, what several ranks, evidence, diagnosis and estimates need: a report of
version 1 is read as one that lacks them."""

Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
PositiveInt = Annotated[int, Meta(ge=1, le=2**48)]
NonNegative = Annotated[float, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0, lt=1e18)]
Measured = Annotated[float, Meta(ge=0, lt=1e18)]
"""Of which sums and differences are taken: beyond all that a device counts, and far from infinity."""

DataSource = Literal["device", "host", "loader", "folder", "digits"]
Precision = Literal["fp32", "tf32", "bf16", "fp16"]
Strategy = Literal["single", "ddp", "zero1", "zero2", "zero3", "zero2-offload", "zero3-offload", "fsdp2"]
MemoryFormat = Literal["contiguous", "channels_last"]
HostAllocator = Literal["tuned", "system"]
Outcome = Literal["ok", "oom", "unsupported", "timeout", "crashed", "invalid"]
WarmupEnd = Literal["settled", "step-cap", "time-cap"]
StopReason = Literal["confidence-interval", "noise-stable", "time-budget", "step-cap"]
OperatorClass = Literal[
    "matmul",
    "convolution",
    "pooling",
    "activation",
    "normalization",
    "loss",
    "copy",
    "optimizer",
    "communication",
    "other",
]
Bottleneck = Literal[
    "compute",
    "memory-bandwidth",
    "optimizer",
    "input",
    "host-launch",
    "host-memory",
    "communication",
    "memory-capacity",
    "power-or-thermal",
    "mixed",
    "unknown",
]
Sureness = Literal["sure", "likely", "unsure"]
Confidence = Literal["high", "medium", "low"]


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all records."""


class Interval(Record, frozen=True, kw_only=True):
    """A 95 % interval."""

    low: float
    high: float
