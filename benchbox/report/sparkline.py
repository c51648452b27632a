"""Telemetry in a terminal: a line of blocks for each series."""

from __future__ import annotations

from collections.abc import Sequence

from benchbox.report.series import Series, case_series, throttled_spans
from benchbox.report.text import case_labels, significant
from benchbox.schema import Report

_BLOCKS = "▁▂▃▄▅▆▇█"
_NAME_WIDTH = 20
_RANGE_WIDTH = 34
_MIN_WIDTH = 8


def sparkline(values: Sequence[float | None], bottom: float = 0.0) -> str:
    """One block a value, its height between ``bottom`` and the largest; ``None`` is a blank."""
    height = max((value for value in values if value is not None), default=bottom) - bottom
    steps = len(_BLOCKS) - 1
    return "".join(
        " "
        if value is None
        else _BLOCKS[round(max(0.0, value - bottom) / height * steps) if height > 0 else 0]
        for value in values
    )


def telemetry_lines(report: Report, width: int) -> list[str]:
    """The quickest case's telemetry in lines of at most ``width`` columns; none where nothing was sampled."""
    measured = [result for result in report.cases if result.summary and result.outcome == "ok"]
    result = max(measured, key=lambda r: r.summary.samples_per_second if r.summary else 0.0, default=None)
    series = [] if result is None else case_series(result, 400)
    if result is None or not series:
        return []
    # No wider than there are samples, or most columns would be blank.
    most_samples = max(len(one.points) for one in series)
    room = max(_MIN_WIDTH, min(60, most_samples, width - _NAME_WIDTH - _RANGE_WIDTH - 2))
    labels = case_labels([case.case for case in report.cases])
    end_s = max(point.at_s for one in series for point in one.points)
    lines = [f"Telemetry of {labels[result.case.case_id]}, each line from 0:"]
    lines += [_line(one, room, end_s) for one in series]
    spans = throttled_spans(result)
    if spans:
        seconds = [(place + 0.5) * end_s / room for place in range(room)]
        marks = "".join("!" if any(start <= at <= end for start, end in spans) else "·" for at in seconds)
        lines.append(f"{'clocks held back':<{_NAME_WIDTH}}{marks}")
    return [line if len(line) <= width else line[: width - 1] + "…" for line in lines]


def _line(series: Series, room: int, end_s: float) -> str:
    columns: list[list[float]] = [[] for _ in range(room)]
    for point in series.points:
        columns[min(room - 1, int(point.at_s / end_s * room) if end_s > 0 else 0)].append(point.mean)
    blocks = sparkline([sum(column) / len(column) if column else None for column in columns])
    least, most = significant(series.least), significant(series.most)
    span = most if least == most else f"{least} to {most}"
    return f"{series.name:<{_NAME_WIDTH}}{blocks}  {span} {series.unit}"
