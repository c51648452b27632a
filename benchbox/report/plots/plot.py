"""What a picture shows, before it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from benchbox.report.facts import device_name
from benchbox.report.text import case_label, clean
from benchbox.schema import Case, Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Plot(NamedTuple):
    """A picture and the same as text. All texts are cleaned, none is escaped."""

    title: str
    description: str
    """One sentence for who cannot see it."""
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """The data as text, a cell for each column."""
    notes: tuple[str, ...]
    """What the picture leaves out, and why."""
    draw: Callable[[], Figure]


def workload_label(case: Case) -> str:
    """The case's name without batch size, precision and checkpointing."""
    words = case_label(case).replace(f" b{case.per_device_batch_size} {case.precision}", "", 1)
    return words.replace(" ckpt", "", 1) if case.gradient_checkpointing else words


def short_label(label: str, limit: int) -> str:
    """``label`` with its end kept: cases of a model with a long name differ in what stands behind it."""
    text = clean(label)
    return text if len(text) <= limit else f"…{text[len(text) - limit + 1 :]}"


class BarName(NamedTuple):
    """A case, and the report that it stands in where there are several."""

    case: str
    report: str | None

    def whole(self) -> str:
        """For the data."""
        return self.case if self.report is None else f"{self.case}, {self.report}"

    def short(self, outcome: str = "ok") -> str:
        """For a bar: the report in a line of its own, or a long one would push the case out."""
        case = short_label(self.case, 44) + ("" if outcome == "ok" else f" ({outcome})")
        return case if self.report is None else f"{case}\n{short_label(self.report, 44)}"

    def height(self) -> float:
        """Inches that a bar with this name takes."""
        return 0.3 if self.report is None else 0.4


def report_labels(reports: Sequence[Report]) -> list[str]:
    """A name for each report: its device, with the date and then a number where that tells no two apart."""
    names = [clean(device_name(report.environment), 60) for report in reports]
    dated = [
        f"{name}, {clean(report.created_at[:10], 10)}" if names.count(name) > 1 else name
        for name, report in zip(names, reports, strict=True)
    ]
    return [f"{name} ({place + 1})" if dated.count(name) > 1 else name for place, name in enumerate(dated)]


def listing(names: Sequence[str], most: int = 4) -> str:
    """``a, b and 3 more``."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"
