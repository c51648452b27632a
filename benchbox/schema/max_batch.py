"""``max-batch.json``: the largest batch that each configuration trains, and every try on the way."""

from __future__ import annotations

from typing import Literal

from benchbox.schema._base import Count, Interval, NonNegative, Outcome, PositiveInt, Record
from benchbox.schema.case import Case, MeasureSettings
from benchbox.schema.environment import Environment

SearchEnd = Literal["precision", "cap", "nothing-fits", "failure", "interrupt"]


class BatchTry(Record, frozen=True, kw_only=True):
    """One try: a short training with one batch size, in processes of its own."""

    per_device_batch_size: PositiveInt
    outcome: Outcome
    """``oom`` is what bounds the search. ``invalid`` counts as a batch that fits: too few steps to judge."""
    reason: str | None
    samples_per_second: NonNegative | None = None
    """Of all ranks, over the slowest rank's mean step."""
    samples_per_second_interval: Interval | None = None
    """Of that, by the noise of these steps; ``None`` where they are too few to tell."""
    step_time_ns: Count | None = None
    """The slowest rank's mean step."""
    peak_memory_allocated_bytes: Count | None = None
    """Of the rank with most; so are the following."""
    peak_memory_reserved_bytes: Count | None = None
    device_memory_used_bytes: Count | None = None
    peak_host_rss_bytes: Count | None = None
    fragmentation_pct: NonNegative | None = None
    """Reserved less allocated memory, over reserved, of the rank where that is most; ``None`` on a CPU."""
    memory_limit_used_pct: NonNegative | None = None
    """Of the limit of private memory, at the end of the try, by the rank that came closest to it; on a CPU.
    The tuned host allocator keeps what is freed, so that this is the peak."""
    duration_s: NonNegative


class ConfigurationResult(Record, frozen=True, kw_only=True):
    """What was found for one configuration: a case without its batch size."""

    case: Case
    """With the smallest batch size that the suite has for it."""
    tries: tuple[BatchTry, ...]
    """In the order in which they were made."""
    ended_by: SearchEnd
    """``precision`` and ``cap`` gave an answer; else ``largest_batch_size`` is what fits at least."""
    reason: str | None
    """Of ``failure``: why a try failed that did not run out of memory, or why none was made."""
    largest_batch_size: PositiveInt | None
    smallest_failing_batch_size: PositiveInt | None
    fastest_batch_size: PositiveInt | None
    """The one with most samples a second, by however little: the intervals of the tries say whether that is
    more than noise."""
    fragmentation_pct: NonNegative | None
    """Of the try with the largest batch."""
    headroom_bytes: int | None
    """At the largest batch: the device's memory less its peak; on a CPU, the limit less the peak of private
    memory, of the rank that came closest, where the tuned host allocator makes that known."""
    memory_limit_bytes: PositiveInt | None
    """Of private memory of each process, on a CPU."""


class MaxBatchReport(Record, frozen=True, kw_only=True):
    """The whole file."""

    schema_version: PositiveInt
    created_at: str
    suite: str
    environment: Environment
    measure: MeasureSettings
    """Of the tries."""
    precision_pct: NonNegative
    """The search ends when the largest batch that fits and the smallest that fails are this close."""
    max_batch_size: PositiveInt | None
    """No larger one was tried."""
    complete: bool
    configurations: tuple[ConfigurationResult, ...]
