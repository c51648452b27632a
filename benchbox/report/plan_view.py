"""A plan as people and programs read it: terminal, Markdown, JSON, CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from benchbox.errors import BadInputError
from benchbox.report.csvfile import csv_cell
from benchbox.report.files import read_raw
from benchbox.report.markdown_table import pipe_table
from benchbox.report.text import UNKNOWN, clean, escape_markdown, indented_json, significant
from benchbox.schema import Answer, Configuration, Estimate, PlanResult

if TYPE_CHECKING:
    from rich.console import Group

_SPANS = ((2 * 86400.0, "d", 86400.0), (2 * 3600.0, "h", 3600.0), (120.0, "min", 60.0), (0.0, "s", 1.0))
_MARKS = {"measured": "m", "interpolated": "i", "predicted": "p"}
_ANSWERS = {"yes": "yes", "maybe": "perhaps", "no": "no"}
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
    for title in ("time", f"cost\n{result.currency or ''}".rstrip(), "kWh\nkg CO2", "ok"):
        table.add_column(title, justify="right", no_wrap=True)
    for place, one in enumerate(result.configurations[:top]):
        table.add_row(
            _place(result, place),
            Text(f"{one.count} × {clean(one.device, limit=40)}"),
            Text(_what(one)),
            f"{_time(one.time_s)}\n{_time_range(one.time_s)}",
            "\n".join(_money(one.cost)),
            f"{_scaled(one.energy_j, 3.6e6)}\n{_scaled(one.carbon_g, 1e3)}",
            _verdicts(one),
        )
    lines = [Text(line) for line in plan_answers(result)]
    return Group(*lines, Text(), table, Text(), *(Text(line) for line in plan_closing(result)))


def render_plan_markdown(result: PlanResult, top: int) -> str:
    """The same as Markdown."""
    lines = ["# Plan", "", *(f"- {escape_markdown(line)}" for line in plan_answers(result)), ""]
    titles, rows = plan_table(result, top)
    lines += pipe_table(titles, rows, num_text_columns=2)
    return "\n".join([*lines, "", *(f"- {escape_markdown(line)}" for line in plan_closing(result)), ""])


def plan_table(result: PlanResult, top: int) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Titles and the ``top`` best configurations, a row each; the first two columns are words."""
    cost_title = f"cost {result.currency or ''}".rstrip()
    titles = ("", "configuration", "time", "80 %", cost_title, "80 %", "kWh", "kg CO2", "ok")
    rows: list[tuple[str, ...]] = []
    for place, one in enumerate(result.configurations[:top]):
        cost, cost_range = _money(one.cost)
        rows.append(
            (
                _place(result, place),
                f"{one.count} × {one.device}: {_what(one)}",
                _time(one.time_s),
                _time_range(one.time_s),
                cost,
                cost_range,
                _scaled(one.energy_j, 3.6e6),
                _scaled(one.carbon_g, 1e3),
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
        BadInputError: it cannot be read, is larger than 128 MiB, or is no plan.
    """
    raw = read_raw(path)
    try:
        return msgspec.json.decode(raw, type=PlanResult)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise BadInputError(
            f"{clean(str(path))}: not a plan; benchbox plan --format json writes one"
        ) from None


def render_plan_csv(result: PlanResult) -> str:
    """One row a configuration, columns as in the schema; an estimate fills three: itself, ``…_low``,
    ``…_high``."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")
    plain = [name for name in Configuration.__struct_fields__ if name not in _ESTIMATES]
    columns = [column for name in _ESTIMATES for column in (name, f"{name}_low", f"{name}_high")]
    writer.writerow([*plain, *columns])
    for one in result.configurations:
        cells: list[object] = [getattr(one, name) for name in plain]
        for name in _ESTIMATES:
            estimate: Estimate | None = getattr(one, name)
            cells += [estimate.value, estimate.low, estimate.high] if estimate else [None] * 3
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
        cost, spread = _money(cheapest.cost)
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


def plan_closing(result: PlanResult) -> list[str]:
    """What stands below the table: what its letters mean, what was left out, what the figures rest on."""
    lines = ["m measured, i interpolated, p predicted; intervals of 80 %; F on the front of time and cost"]
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


def _money(estimate: Estimate | None) -> Sequence[str]:
    if estimate is None:
        return (UNKNOWN, "")
    return (significant(estimate.value), f"{significant(estimate.low)}–{significant(estimate.high)}")


def _scaled(estimate: Estimate | None, factor: float) -> str:
    return UNKNOWN if estimate is None else significant(estimate.value / factor)
