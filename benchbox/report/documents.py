"""What a page is made of: reports, and the JSON of comparisons, histories and plans, by what is in a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from benchbox.errors import BadInputError
from benchbox.report.files import read_raw, read_report, written_by
from benchbox.report.plan_view import read_plan
from benchbox.report.text import clean
from benchbox.schema import PlanResult, Report
from benchbox.schema.comparison import Comparison
from benchbox.schema.history import History


class Documents(NamedTuple):
    """What stood in the files, each kind in the order of its files."""

    reports: tuple[Report, ...]
    comparisons: tuple[Comparison, ...]
    histories: tuple[History, ...]
    plans: tuple[PlanResult, ...]


class _Comparisons(msgspec.Struct, forbid_unknown_fields=True):
    comparisons: tuple[Comparison, ...]


def read_documents(files: Sequence[Path]) -> Documents:
    """Read every file; what is no comparison, history or plan is taken for a report.

    Raises:
        BadInputError: as for :func:`~benchbox.report.files.read_report`.
    """
    reports: list[Report] = []
    comparisons: list[Comparison] = []
    histories: list[History] = []
    plans: list[PlanResult] = []
    for file in files:
        match written_by(read_raw(file)):
            case "compare":
                comparisons += _read_comparisons(file)
            case "history":
                histories.append(_read_history(file))
            case "plan":
                plans.append(read_plan(file))
            case None:
                reports.append(read_report(file))
    return Documents(tuple(reports), tuple(comparisons), tuple(histories), tuple(plans))


def is_other_document(file: Path) -> bool:
    """Whether ``file`` is a comparison, a history or a plan, and so no report that is broken.

    Raises:
        BadInputError: it cannot be read.
    """
    return written_by(read_raw(file)) is not None


def _read_comparisons(file: Path) -> tuple[Comparison, ...]:
    try:
        return msgspec.json.decode(read_raw(file), type=_Comparisons).comparisons
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise BadInputError(
            f"{clean(str(file))}: not a comparison; benchbox compare --format json writes one"
        ) from None


def _read_history(file: Path) -> History:
    try:
        return msgspec.json.decode(read_raw(file), type=History)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise BadInputError(
            f"{clean(str(file))}: not a history; benchbox history --format json writes one"
        ) from None
