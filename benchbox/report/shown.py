"""A report as every view shows it."""

from __future__ import annotations

from pathlib import Path

from benchbox.report.build import rediagnosed
from benchbox.report.files import read_report
from benchbox.schema import Report


def read_shown(path: Path) -> Report:
    """The report in ``path`` with verdicts by the rules of this version: terminal, Markdown, CSV, page, plots
    and notebook then say the same of one file, and what ``benchbox diagnose`` says.

    Raises:
        BadInputError: as for :func:`~benchbox.report.files.read_report`.
    """
    return rediagnosed(read_report(path))
