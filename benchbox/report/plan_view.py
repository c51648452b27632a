"""A plan as people and programs read it: terminal, Markdown, JSON, CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from benchbox.report.files import read_document
from benchbox.report.markdown_table import pipe_table
from benchbox.report.text import UNKNOWN, clean, csv_cell, escape_markdown, indented_json, significant
from benchbox.schema import Answer, Configuration, Estimate, PlanResult

if TYPE_CHECKING:
    from rich.console import Group

_SPANS = ((2 * 86400.0, "d", 86400.0), (2 * 3600.0, "h", 3600.0), (120.0, "min", 60.0), (0.0, "s", 1.0))
_MARKS = {"measured": "m", "interpolated": "i", "predicted": "p"}
_ANSWERS = {"yes": "yes", "maybe": "perhaps", "no": "no"}
_NUMBERS = ("num_considered", "num_listed")
_ESTIMATES = ("samples_per_second", "time_s", "cost", "energy_j", "carbon_g")


def terminal_plan(result: PlanResult, top: int) -> Group:
    """The answers, then the ``top`` best configurations, each on two lines within 80 columns."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for title in ("", "device", "configuration"):
        table.add_column(title, overflow="fold")
    for title in ("time", f"cost\n{result.currency or ''}".rstrip(), "energy\nCO2", "ok"):
        table.add_column(title, justify="right", no_wrap=True)
    for place, one in enumerate(result.configurations[:top]):
        table.add_row(
            _place(result, place),
            Text(f"{one.count} × {clean(one.device, limit=40)}"),
            Text(_what(one)),
            f"{_time(one.time_s)}\n{_time_range(one.time_s)}",
            "\n".join(_figure(one.cost)),
            "\n".join((*_two_lines(one.energy_j, 3.6e6, "kWh"), *_two_lines(one.carbon_g, 1e3, "kg"))),
            _verdicts(one),
        )
    lines = [Text(line) for line in plan_answers(result)]
    return Group(*lines, Text(), table, Text(), *(Text(line) for line in plan_closing(result, top)))


def render_plan_markdown(result: PlanResult, top: int) -> str:
    """The same as Markdown."""
    lines = ["# Plan", "", *(f"- {escape_markdown(line)}" for line in plan_answers(result)), ""]
    titles, rows = plan_table(result, top)
    lines += pipe_table(titles, rows, num_text_columns=2)
    return "\n".join([*lines, "", *(f"- {escape_markdown(line)}" for line in plan_closing(result, top)), ""])


def plan_table(result: PlanResult, top: int) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Titles and the ``top`` best configurations, a row each; the first two columns are words."""
    cost_title = f"cost {result.currency or ''}".rstrip()
    measures = ("time", cost_title, "kWh", "kg CO2")
    titles = ("", "configuration", *(title for one in measures for title in (one, "80 %")), "ok")
    rows: list[tuple[str, ...]] = []
    for place, one in enumerate(result.configurations[:top]):
        rows.append(
            (
                _place(result, place),
                f"{one.count} × {one.device}: {_what(one)}",
                _time(one.time_s),
                _time_range(one.time_s),
                *_figure(one.cost),
                *_figure(one.energy_j, 3.6e6),
                *_figure(one.carbon_g, 1e3),
                _verdicts(one),
            )
        )
    return titles, rows


def render_plan_json(result: PlanResult) -> str:
    """Everything."""
    return indented_json(result)


def read_plan(path: Path) -> PlanResult:
    """A plan that :func:`render_plan_json` wrote.

    Raises:
        BadInputError: as for :func:`~benchbox.report.files.read_document`.
    """
    return read_document(path, PlanResult, "plan", "plan")


def render_plan_csv(result: PlanResult) -> str:
    """One row a configuration, columns as in the schema; an estimate fills three: itself, ``…_low``,
    ``…_high``. The last two columns say in each row how many configurations there are and how many rows."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")
    plain = [name for name in Configuration.__struct_fields__ if name not in _ESTIMATES]
    columns = [column for name in _ESTIMATES for column in (name, f"{name}_low", f"{name}_high")]
    writer.writerow([*plain, *columns, *_NUMBERS])
    for one in result.configurations:
        cells: list[object] = [getattr(one, name) for name in plain]
        for name in _ESTIMATES:
            estimate: Estimate | None = getattr(one, name)
            cells += [estimate.value, estimate.low, estimate.high] if estimate else [None] * 3
        cells += [getattr(result, name) for name in _NUMBERS]
        writer.writerow([csv_cell(cell) for cell in cells])
    return buffer.getvalue()


def plan_answers(result: PlanResult) -> list[str]:
    """The job, then what is fastest and cheapest, then whether deadline and budget can be kept."""
    fastest = result.configurations[result.fastest]
    lines = [
        f"{result.samples:,} samples; {result.num_considered:,} configurations",
        f"fastest: {configuration_label(fastest)} in {_time(fastest.time_s)} ({_time_range(fastest.time_s)})"
        + _memory_unknown(fastest),
    ]
    if result.cheapest is not None:
        cheapest = result.configurations[result.cheapest]
        cost, spread = _figure(cheapest.cost)
        lines.append(
            f"cheapest: {configuration_label(cheapest)} for {cost} {result.currency} ({spread})"
            + _memory_unknown(cheapest)
        )
    lines += _limits(result)
    return [clean(line) for line in lines]


def _memory_unknown(one: Configuration) -> str:
    return "" if one.fits_memory else ", if it fits in memory"


def _limits(result: PlanResult) -> list[str]:
    lines = []
    if result.deadline_answer is not None:
        lines.append(_limit("deadline", result.deadline_answer, _span))
    if result.budget_answer is not None:
        lines.append(
            _limit("budget", result.budget_answer, lambda value: f"{significant(value)} {result.currency}")
        )
    if result.both_answer is not None:
        lines.append(f"both by one configuration: {_ANSWERS[result.both_answer]}{_enough_for_both(result)}")
    return lines


def _enough_for_both(result: PlanResult) -> str:
    """What has to give, the budget or the deadline, where nothing surely keeps both."""
    text = ""
    if result.both_answer == "yes":
        return text
    if result.cheapest_in_time is None:
        if result.deadline_answer is not None and result.deadline_answer.verdict == "yes":
            text += "; nothing that has a price surely keeps the deadline"
    else:
        one = result.configurations[result.cheapest_in_time]
        if one.cost is not None:
            text += (
                f"; for the deadline a budget of {significant(one.cost.high)} {result.currency} would be "
                f"enough ({configuration_label(one)})"
            )
    if result.fastest_in_budget is not None:
        one = result.configurations[result.fastest_in_budget]
        text += f"; for the budget {_span(one.time_s.high)} would be enough ({configuration_label(one)})"
    return text


def _limit(name: str, answer: Answer, show: Callable[[float], str]) -> str:
    line = f"{name} of {show(answer.wanted)}: {_ANSWERS[answer.verdict]}"
    return line if answer.verdict == "yes" else f"{line}; {show(answer.enough)} would be enough"


def plan_closing(result: PlanResult, num_shown: int) -> list[str]:
    """What stands below a table of ``num_shown`` rows or of all that the plan lists: what is not in it, what
    its letters mean, what was left out, what the figures rest on."""
    lines = _cut(result, num_shown)
    lines.append(
        "m measured, i interpolated, p predicted; intervals of 80 %; F on the front of time and cost"
    )
    limits = {answer for one in result.configurations for answer in (one.meets_deadline, one.within_budget)}
    if limits & {"no", "maybe"}:
        lines.append("late, dear: breaks the deadline, the budget; with ? a part of its interval does")
    if result.prices_date is not None:
        lines.append(f"prices of {result.prices_date.isoformat()}, in {result.currency}")
    refused = [
        f"left out: {entry.num} configurations: {clean(entry.reason)} "
        f"(e.g. {clean(entry.example, limit=90)}); would settle it: {clean(entry.settled_by, limit=200)}"
        for entry in result.refused
    ]
    return [*lines, *refused, *(clean(note, limit=2000) for note in result.notes)]


def _cut(result: PlanResult, num_shown: int) -> list[str]:
    num_listed = len(result.configurations)
    shown = min(num_shown, num_listed)
    if shown == result.num_considered:
        return []
    line = f"{shown:,} of {result.num_considered:,} configurations are shown, the best first"
    return [line if shown == num_listed else f"{line}; --format json and csv list {num_listed:,}"]


def _place(result: PlanResult, place: int) -> str:
    return f"{place + 1}{'F' if result.configurations[place].on_front else ''}"


def configuration_label(one: Configuration) -> str:
    """How many of what, and how it trains."""
    return f"{one.count} × {one.device}, {_what(one)}"


def _what(one: Configuration) -> str:
    parts = [f"b{one.per_device_batch_size}", one.precision]
    if one.gradient_accumulation_steps > 1:
        parts.append(f"acc{one.gradient_accumulation_steps}")
    if one.strategy != "single":
        parts.append(one.strategy)
    if one.gradient_checkpointing:
        parts.append("ckpt")
    if one.compile:
        parts.append("compile")
    if one.memory_format != "contiguous":
        parts.append(one.memory_format)
    if one.data != "device":
        parts.append(one.data)
    return f"{' '.join(parts)} ({_MARKS[one.basis]})"


def _verdicts(one: Configuration) -> str:
    """Memory, deadline, budget: yes, no, or ``?``."""
    memory = {True: "fits", False: "too large", None: "memory ?"}[one.fits_memory]
    words = [memory]
    for name, verdict in (("late", one.meets_deadline), ("dear", one.within_budget)):
        if verdict in ("no", "maybe"):
            words.append(name if verdict == "no" else f"{name}?")
    return "\n".join(words)


def _span(seconds: float) -> str:
    _, unit, factor = next(span for span in _SPANS if seconds >= span[0])
    return f"{significant(seconds / factor)} {unit}"


def _time(estimate: Estimate) -> str:
    return _span(estimate.value)


def _time_range(estimate: Estimate) -> str:
    _, unit, factor = next(span for span in _SPANS if estimate.value >= span[0])
    return f"{significant(estimate.low / factor)}–{significant(estimate.high / factor)} {unit}"


def _figure(estimate: Estimate | None, factor: float = 1.0) -> tuple[str, str]:
    """In units of ``factor``, and its interval."""
    if estimate is None:
        return (UNKNOWN, "")
    value, low, high = (significant(each / factor) for each in (estimate.value, estimate.low, estimate.high))
    return (value, f"{low}–{high}")


def _two_lines(estimate: Estimate | None, factor: float, unit: str) -> tuple[str, ...]:
    """One line where nothing is known."""
    value, spread = _figure(estimate, factor)
    return (value,) if estimate is None else (f"{value} {unit}", spread)
