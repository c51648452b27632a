"""Time against cost of the options of a plan, and the front of those that no other beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from benchbox.errors import NothingToPlotError
from benchbox.report.plan_view import configuration_label
from benchbox.report.plots.canvas import BLUE, INK, MUTED, VERMILION, legend_below, new_figure
from benchbox.report.plots.plot import Plot, listing, short_label
from benchbox.report.text import UNKNOWN, clean, significant
from benchbox.schema import Configuration, Estimate, Interval, PlanResult
from benchbox.schema.plan import Basis

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

MAX_NAMED = 8
_COLORS = {"measured": BLUE, "interpolated": BLUE, "predicted": VERMILION}
_MARKERS = {"measured": "o", "interpolated": "s", "predicted": "D"}


class _Option(NamedTuple):
    """One way to train: so long, at such a price."""

    label: str
    hours: float
    cost: float
    basis: Basis
    hours_interval: Interval
    cost_interval: Interval
    on_front: bool


def plan(result: PlanResult) -> Plot:
    """Every configuration that has a price as a point, the front of those that no other beats as a line.

    Raises:
        NothingToPlotError: none has a price.
    """
    options = [_option(one, one.cost) for one in result.configurations if one.cost is not None]
    if not options:
        raise NothingToPlotError("plan: no configuration has a price; give benchbox plan your --prices")
    best = sorted((option for option in options if option.on_front), key=lambda option: option.hours)
    unit = clean(result.currency or UNKNOWN, 12)
    spare = [clean(option.label, 60) for option in best[MAX_NAMED:]]
    rows = [
        (
            clean(option.label, 80),
            option.basis,
            significant(option.hours),
            _range(option.hours_interval),
            significant(option.cost),
            _range(option.cost_interval),
            "yes" if option.on_front else "no",
        )
        for option in options
    ]
    return Plot(
        title="Time and cost",
        description=f"{len(options)} options by hours and cost; no other beats {len(best)} of them in both.",
        columns=("option", "basis", "hours", "hours, from to", unit, f"{unit}, from to", "on the front"),
        rows=tuple(rows),
        notes=(f"On the front without a name in the picture: {listing(spare)}.",) if spare else (),
        draw=lambda: _draw(options, best, unit),
    )


def _option(one: Configuration, cost: Estimate) -> _Option:
    return _Option(
        label=configuration_label(one),
        hours=one.time_s.value / 3600,
        cost=cost.value,
        basis=one.basis,
        hours_interval=Interval(low=one.time_s.low / 3600, high=one.time_s.high / 3600),
        cost_interval=Interval(low=cost.low, high=cost.high),
        on_front=one.on_front,
    )


def _range(interval: Interval) -> str:
    return f"{significant(interval.low)} to {significant(interval.high)}"


def _draw(options: Sequence[_Option], best: Sequence[_Option], unit: str) -> Figure:
    from matplotlib.lines import Line2D

    figure = new_figure("Time and cost", 8.4, 5.0)
    axes = figure.subplots()
    axes.step(
        [o.hours for o in best], [o.cost for o in best], where="post", color=INK, linewidth=1.2, zorder=1.5
    )
    for option in options:
        color = _COLORS[option.basis]
        axes.plot(
            [option.hours], [option.cost], marker=_MARKERS[option.basis], color=color,
            alpha=1.0 if option.on_front else 0.45, markerfacecolor=color if option.on_front else "none",
        )  # fmt: skip
        # Faint but on the front: hundreds of crosses would hide the points.
        look: Any = {"color": color} | (
            {"alpha": 0.5} if option.on_front else {"alpha": 0.13, "linewidth": 1.0}
        )
        axes.hlines(option.cost, *_ends(option.hours_interval), **look)
        axes.vlines(option.hours, *_ends(option.cost_interval), **look)
    # Numbers, with the names below: names lay over each other where options cost about the same.
    for number, option in enumerate(best[:MAX_NAMED], 1):
        axes.annotate(
            str(number), (option.hours, option.cost), textcoords="offset points", xytext=(5, 5), fontsize=9,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("hours")
    axes.set_ylabel(unit)
    for axis, span in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        _plain_ticks(axis, *span)
    bases = dict.fromkeys(option.basis for option in options)
    handles = [Line2D([], [], color=_COLORS[b], marker=_MARKERS[b], linestyle="none", label=b) for b in bases]
    line: Any = "-" if len(best) > 1 else "none"
    handles.append(
        Line2D([], [], color=MUTED, marker="o", linestyle=line, label="no other is cheaper and quicker")
    )
    handles += [
        Line2D(
            [], [], color=_COLORS[o.basis], marker=_MARKERS[o.basis], linestyle="none",
            label=f"{number}: {short_label(o.label, 60)}",
        )
        for number, o in enumerate(best[:MAX_NAMED], 1)
    ]  # fmt: skip
    legend_below(figure, handles)
    return figure


def _plain_ticks(axis: Axis, low: float, high: float) -> None:
    """A few plain numbers on a logarithmic axis: powers of ten, or where fewer than two lie on it others."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    few = high < 100 * low
    axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]) if few else LogLocator(numticks=6))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))
    axis.set_minor_locator(NullLocator())


def _ends(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high
