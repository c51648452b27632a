"""What is in the way of a case, the figures that say so, and what to change."""

from __future__ import annotations

from benchbox.schema._base import Bottleneck, Count, Interval, NonNegative, Record, Sureness


class Evidence(Record, frozen=True, kw_only=True):
    """One figure that led to a verdict."""

    what: str
    """In words, for a reader."""
    value: float
    unit: str
    """``%``, ``ns``, ``bytes``, ``FLOP/byte``, ... or empty for a plain number."""


class Suggestion(Record, frozen=True, kw_only=True):
    """A change to the suite's own axes, and what it should bring."""

    axis: str
    """An axis, ``data``, ``num_loader_workers``, or ``host_allocator`` of the ``[measure]`` table."""
    value: str | int | bool
    predicted_speedup: Interval | None = None
    """Rate after over rate before; ``None`` where nothing can be said."""


class Diagnosis(Record, frozen=True, kw_only=True):
    """The verdict on one case."""

    bottleneck: Bottleneck
    sureness: Sureness
    evidence: tuple[Evidence, ...]
    next_step: str | None
    """One sentence; ``None`` where no change to the suite would help."""
    suggestion: Suggestion | None = None


class Trial(Record, frozen=True, kw_only=True):
    """A suggested case run beside the original: attempt by attempt in turns, on one machine."""

    case_id: str
    """Of the original."""
    suggestion: Suggestion
    num_pairs: Count
    samples_per_second: NonNegative | None
    """Of the original, the geometric mean of its attempts; ``None`` where one failed."""
    suggested_samples_per_second: NonNegative | None
    """Known too where only the original failed."""
    speedup: NonNegative | None
    speedup_interval: Interval | None
    """Student's, over the logarithms of the pairs' ratios; ``None`` for fewer than two pairs."""
    as_predicted: bool | None
    """Whether the measured speed-up lies in the predicted interval; ``None`` without either, and where only
    its own interval reaches there."""
    reason: str | None
    """Why there is no speed-up."""
