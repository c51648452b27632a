"""Measured throughputs of a table, and how well each is foretold from the others."""

from __future__ import annotations

from typing import Literal

from benchbox.schema._base import Count, NonNegative, Positive, PositiveInt, Record

StepKind = Literal["same chip", "same memory class", "HBM to GDDR", "new architecture"]


class ThroughputRow(Record, frozen=True, kw_only=True):
    """One measured training throughput."""

    model: str
    gpu: str
    num_devices: PositiveInt
    precision: str
    """As the table words it."""
    batch_per_device: Positive | None
    samples_per_second: Positive
    """Of all devices together."""
    software: str
    workload: tuple[str, ...] = ()
    """Whatever else must be equal for two rows to be comparable: image size, memory layout, unit, ..."""
    source: str = ""
    rate_counts_samples: bool = True
    """False where the table's unit is tokens or frames, so that batch over rate is no step time."""


class LeftOut(Record, frozen=True, kw_only=True):
    """Rows or pairs that are not graded, and why."""

    reason: str
    num: PositiveInt
    example: str = ""
    settled_by: str = ""
    """The run that would give the missing evidence."""


class GradedPair(Record, frozen=True, kw_only=True):
    """One row of the target device, foretold from one source device. Rates are of one device."""

    model: str
    precision: str
    software: str
    workload: tuple[str, ...]
    source: str
    target: str
    num_devices: PositiveInt
    batch_per_device: Positive | None
    measured: Positive
    predicted: Positive
    low: Positive
    high: Positive
    """An 80 % interval."""
    kind: StepKind
    num_witnesses: Count
    """Devices, the target left out, that the shares of work were inferred from."""
    by_peak_flops: Positive
    """The naive rule: scale by the ratio of the data sheets' peaks."""
    by_bandwidth: Positive
    """The naive rule: scale by the ratio of the data sheets' bandwidths."""


class GradeFigures(Record, frozen=True, kw_only=True):
    """Errors are |predicted / measured - 1|, in percent."""

    num_pairs: PositiveInt
    median_pct: NonNegative
    p80_pct: NonNegative
    worst_pct: NonNegative
    coverage_pct: NonNegative
    """How often the 80 % interval held the measured rate."""
    worst_unannounced_pct: NonNegative
    """The worst error that lies outside of its interval."""


class GradeGroup(Record, frozen=True, kw_only=True):
    """The pairs that share a property."""

    grouped_by: str
    name: str
    figures: GradeFigures


class GradeResult(Record, frozen=True, kw_only=True):
    """What ``benchbox grade`` found."""

    table: str
    num_rows: Count
    num_rows_graded: Count
    rows_left_out: tuple[LeftOut, ...]
    pairs_refused: tuple[LeftOut, ...]
    groups: tuple[GradeGroup, ...]
    naive_peak_flops: GradeFigures
    """The naive rules make no interval: their coverage is 0."""
    naive_bandwidth: GradeFigures
    overall: GradeFigures
    pairs: tuple[GradedPair, ...] = ()
