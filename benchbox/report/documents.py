"""What a page is made of: reports, and the JSON of comparisons, histories and plans, by what is in a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from benchbox.report.files import read_document, read_raw, read_report, written_by
from benchbox.report.plan_view import read_plan
from benchbox.schema import PlanResult, PositiveInt, Report
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
    schema_version: PositiveInt = 1


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
                comparisons += read_document(file, _Comparisons, "comparison", "compare").comparisons
            case "history":
                histories.append(read_document(file, History, "history", "history"))
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
