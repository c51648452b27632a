"""The course of cases over many reports."""

from __future__ import annotations

from benchbox.schema._base import NonNegative, Positive, Record
from benchbox.schema.case import Case


class HistoryPoint(Record, frozen=True, kw_only=True):
    """One report's figure of one case."""

    report: str
    created_at: str
    samples_per_second: NonNegative


class LevelChange(Record, frozen=True, kw_only=True):
    """Where a case's throughput moved to another level."""

    report: str
    """The first one at the new level."""
    created_at: str
    ratio: Positive
    """The new level over the one before: medians of the reports at each."""


class CaseHistory(Record, frozen=True, kw_only=True):
    """One case in all reports that measured it, oldest first."""

    case: Case
    points: tuple[HistoryPoint, ...]
    changes: tuple[LevelChange, ...]


class LeftOut(Record, frozen=True, kw_only=True):
    """A report that cannot be compared with the newest one."""

    report: str
    fields: tuple[str, ...]


class History(Record, frozen=True, kw_only=True):
    """Many reports, case by case."""

    num_reports: int
    cases: tuple[CaseHistory, ...]
    left_out: tuple[LeftOut, ...]
