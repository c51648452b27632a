"""What is in the way of a case, the figures that say so, and what to change."""

from __future__ import annotations

from benchbox.schema._base import Bottleneck, Interval, Record, Sureness


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
