"""Tables in Markdown's source."""

from __future__ import annotations

from collections.abc import Sequence

from benchbox.report.text import UNKNOWN, escape_markdown


def pipe_table(
    titles: Sequence[str], rows: Sequence[Sequence[str | None]], num_text_columns: int = 1
) -> list[str]:
    """The lines of a pipe table whose source can be read as well; ``None`` is shown as unknown.

    The first ``num_text_columns`` columns align left, the others, which hold figures, right.
    """
    cells = [[escape_markdown(UNKNOWN if cell is None else cell) for cell in row] for row in [titles, *rows]]
    widths = [max(3, *(len(row[place]) for row in cells)) for place in range(len(titles))]
    rules = [
        "-" * width if place < num_text_columns else "-" * (width - 1) + ":"
        for place, width in enumerate(widths)
    ]
    lines = [
        [
            cell.ljust(width) if place < num_text_columns else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in cells
    ]
    return [f"| {' | '.join(line)} |" for line in [lines[0], rules, *lines[1:]]]
