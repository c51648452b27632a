"""The course of cases over many reports."""

from __future__ import annotations

import msgspec

from benchbox.schema._base import Count, Interval, NonNegative, Outcome, Positive, PositiveInt, Record
from benchbox.schema.case import Case
from benchbox.schema.environment import Environment


class RankTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Of a :class:`~benchbox.schema.RankResult` what a course needs; all else is passed over, which makes a
    year of reports quick to read. The same goes for the next four."""

    step_time_ns: tuple[Count, ...]


class AttemptTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Of an :class:`~benchbox.schema.AttemptResult`."""

    outcome: Outcome
    ranks: tuple[RankTimes, ...]


class SummaryInterval(msgspec.Struct, frozen=True, kw_only=True):
    """Of a :class:`~benchbox.schema.CaseSummary`."""

    samples_per_second_interval: Interval | None = None


class CaseTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Of a :class:`~benchbox.schema.CaseResult`."""

    case: Case
    outcome: Outcome | None
    attempts: tuple[AttemptTimes, ...]
    summary: SummaryInterval | None = None


class ReportTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Of a :class:`~benchbox.schema.Report`."""

    schema_version: PositiveInt
    created_at: str
    environment: Environment
    cases: tuple[CaseTimes, ...]


class HistoryPoint(Record, frozen=True, kw_only=True):
    """One report's figure of one case."""

    report: str
    created_at: str
    samples_per_second: NonNegative
    samples_per_second_interval: Interval | None = None
    """95 %, of that report alone."""


class LevelChange(Record, frozen=True, kw_only=True):
    """Where a case's throughput moved to another level."""

    report: str
    """The first one at the new level."""
    created_at: str
    ratio: Positive
    """The new level over the one before: medians of the reports at each."""


class FirstFailure(Record, frozen=True, kw_only=True):
    """From where on a case does not end ``ok`` any more."""

    report: str
    """The first one since the last that was ``ok``."""
    created_at: str
    outcome: Outcome
    """Of that one."""


class NeverOk(Record, frozen=True, kw_only=True):
    """A case that ended ``ok`` in none of the reports, so that it has no course."""

    case: Case
    first: FirstFailure


class CaseHistory(Record, frozen=True, kw_only=True):
    """One case in all reports that measured it, oldest first."""

    case: Case
    points: tuple[HistoryPoint, ...]
    changes: tuple[LevelChange, ...]
    no_longer_ok: FirstFailure | None = None
    """``None`` where the newest report that tells how the case ended says ``ok``."""


class LeftOut(Record, frozen=True, kw_only=True):
    """A report that cannot be compared with the newest one."""

    report: str
    fields: tuple[str, ...]


class History(Record, frozen=True, kw_only=True):
    """Many reports, case by case."""

    schema_version: PositiveInt = 1
    """A history that lacks it is of version 1."""
    num_reports: int
    cases: tuple[CaseHistory, ...]
    left_out: tuple[LeftOut, ...]
    never_ok: tuple[NeverOk, ...] = ()
