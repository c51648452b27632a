"""A report in a notebook: typed, as a table that shows itself, and as a data frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchbox.errors import MissingPackageError
from benchbox.report.csvfile import case_row, columns
from benchbox.report.sentences import heading
from benchbox.schema import CaseResult, Report

if TYPE_CHECKING:
    import pandas as pd


class LoadedReport:
    """A report and two views of it. All that was measured stands in :attr:`report`, raw step times too."""

    def __init__(self, report: Report) -> None:
        self.report = report

    def __repr__(self) -> str:
        return f"<benchbox report, {heading(self.report)}>"

    def __len__(self) -> int:
        return len(self.report.cases)

    @property
    def cases(self) -> tuple[CaseResult, ...]:
        """The cases in the suite's order, failed ones too."""
        return self.report.cases

    def to_dataframe(self) -> pd.DataFrame:
        """One row a case, columns named as in the CSV; what is unknown is missing.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise MissingPackageError("to_dataframe() needs pandas: pip install pandas") from None
        rows = [case_row(result, self.report) for result in self.report.cases]
        return pd.DataFrame(rows, columns=columns())

    def _repr_html_(self) -> str:
        """A static table: notebooks keep it, and some show it with scripts and styles taken out."""
        from benchbox.report.html.table import render_table

        return render_table(self.report)
