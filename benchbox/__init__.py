"""Benchmark and profile neural-network training: suites in, trusted reports out.

In a notebook ``benchbox.load("report.json")`` gives a report to look at and to compute with.
"""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchbox.report.notebook import LoadedReport

__version__ = "0.1.0"


def load(path: str | PathLike[str]) -> LoadedReport:
    """Read a ``report.json``. Verdicts in it are by the rules of this version, whatever stands in the file.

    Raises:
        benchbox.errors.BadInputError: it is missing, damaged, or no report; the text says which.
    """
    from pathlib import Path

    from benchbox.report.notebook import LoadedReport
    from benchbox.report.shown import read_shown

    return LoadedReport(read_shown(Path(path)))
