"""Every record that crosses a file or a process, and its JSON form.

All records are frozen and refuse unknown fields. ``None`` means unknown, never zero. Units stand in the
names. Clock readings (``*_at_ns``) come from the machine's monotonic clock and can be compared between
processes of one machine, never between machines.
"""

from benchbox.schema._base import (
    SCHEMA_VERSION,
    Confidence,
    Count,
    DataSource,
    HostAllocator,
    MemoryFormat,
    NonNegative,
    Outcome,
    Positive,
    PositiveInt,
    Precision,
    Record,
    StopReason,
    Strategy,
    WarmupEnd,
)
from benchbox.schema.case import Case, MeasureSettings, Suite
from benchbox.schema.environment import DeviceFacts, Environment, HostFacts, TorchFacts
from benchbox.schema.hardware import HardwareProfile, PrecisionRates, ProbeResult, ReachedRates
from benchbox.schema.result import (
    AttemptResult,
    CaseResult,
    CaseSummary,
    Interval,
    JournalHeader,
    JournalLine,
    Report,
    TelemetryCost,
)
from benchbox.schema.telemetry import (
    SLOWING_REASONS_MASK,
    THROTTLE_REASONS,
    DeviceTelemetry,
    HostTelemetry,
)
from benchbox.schema.worker import (
    Flops,
    HostUsage,
    LossCheck,
    PhaseTimes,
    RankResult,
    Window,
    WorkerMemory,
    WorkerTask,
)

__all__ = [
    "SCHEMA_VERSION",
    "SLOWING_REASONS_MASK",
    "THROTTLE_REASONS",
    "AttemptResult",
    "Case",
    "CaseResult",
    "CaseSummary",
    "Confidence",
    "Count",
    "DataSource",
    "DeviceFacts",
    "DeviceTelemetry",
    "Environment",
    "Flops",
    "HardwareProfile",
    "HostAllocator",
    "HostFacts",
    "HostTelemetry",
    "HostUsage",
    "Interval",
    "JournalHeader",
    "JournalLine",
    "LossCheck",
    "MeasureSettings",
    "MemoryFormat",
    "NonNegative",
    "Outcome",
    "PhaseTimes",
    "Positive",
    "PositiveInt",
    "Precision",
    "PrecisionRates",
    "ProbeResult",
    "RankResult",
    "ReachedRates",
    "Record",
    "Report",
    "StopReason",
    "Strategy",
    "Suite",
    "TelemetryCost",
    "TorchFacts",
    "WarmupEnd",
    "Window",
    "WorkerMemory",
    "WorkerTask",
]
