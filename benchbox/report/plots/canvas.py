"""Figures with one look, and their files: SVG that is the same on every call, PNG, PDF."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from benchbox.report.plots.plot import Plot
from benchbox.report.text import clean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FileFormat = Literal["svg", "png", "pdf"]

INK, MUTED, GRID, SURFACE = "#1f2328", "#59636e", "#d8dee4", "#ffffff"
# Okabe & Ito, "Color Universal Design": told apart with any kind of colour vision. Their yellow is too faint
# for lines on white, so it stands last.
BLUE, VERMILION, GREEN, ORANGE = "#0072b2", "#d55e00", "#009e73", "#e69f00"
PURPLE, SKY, BLACK, YELLOW = "#cc79a7", "#56b4e9", "#000000", "#f0e442"
SERIES = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, BLACK, YELLOW)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
PRECISION_COLORS = {"fp32": BLUE, "tf32": SKY, "bf16": VERMILION, "fp16": GREEN}
PRECISION_MARKERS = {"fp32": "o", "tf32": "D", "bf16": "s", "fp16": "^"}

_SETTINGS: Any = {
    "text.parse_math": False,  # a name may hold dollar signs
    "svg.hashsalt": "benchbox",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "font.family": ["DejaVu Sans"],  # comes with matplotlib, so that every machine draws the same
    "font.size": 9.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.5,
    "hatch.linewidth": 0.8,
    "legend.frameon": False,
    "figure.facecolor": SURFACE,
    "axes.facecolor": SURFACE,
    "savefig.facecolor": SURFACE,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.06,
}

_NO_XML = re.compile("\ufffe|\uffff".encode())


def render(plot: Plot, file_format: FileFormat = "svg") -> bytes:
    """The picture as a file's content; nothing in it depends on the time or the machine's fonts."""
    import matplotlib as mpl

    metadata: dict[str, dict[str, str | None]] = {
        "svg": {"Date": None, "Creator": "benchbox", "Title": plot.title, "Description": plot.description},
        "png": {"Software": "benchbox", "Title": plot.title.encode("latin-1", "replace").decode("latin-1")},
        "pdf": {"CreationDate": None, "Creator": "benchbox", "Title": plot.title},
    }
    with mpl.rc_context(), warnings.catch_warnings():
        # A name may hold characters that the font lacks: SVG keeps them, the others show a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        mpl.rcdefaults()  # whatever a matplotlibrc says
        mpl.rcParams.update(_SETTINGS)
        buffer = io.BytesIO()
        plot.draw().savefig(buffer, format=file_format, dpi=200, metadata=metadata[file_format])
    content = buffer.getvalue()
    # XML knows no such characters, and a name may hold them.
    return _NO_XML.sub(b"", content) if file_format == "svg" else content


def new_figure(title: str, width: float, height: float) -> Figure:
    """An empty figure of so many inches with a title. It belongs to no window and no global list."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(clean(title, 84), x=0.01, ha="left", fontsize=11.5, fontweight="bold")
    return figure


def panels(title: str, count: int, *, height: float = 3.4) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` panels, two in a row."""
    columns = min(2, count)
    rows = -(-count // columns)
    figure = new_figure(title, 8.4, (height if count > 1 else height + 0.8) * rows + 0.4)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for spare in grid[count:]:
        spare.set_visible(False)
    return figure, list(grid[:count])


def legend_below(figure: Figure, handles: Sequence[Any]) -> None:
    """One legend for all panels, outside of them, so that it hides no data."""
    if handles:
        columns = _num_columns([handle.get_label() for handle in handles], 72 * figure.get_figwidth())
        figure.legend(handles=list(handles), loc="outside lower center", ncols=columns)


def _num_columns(labels: Sequence[str], room_pt: float) -> int:
    """As many as fit, each as wide as the widest label in it.

    matplotlib fills a legend column by column; the first ones are longer by one where it does not come out.
    """
    import matplotlib as mpl
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    settings: Any = mpl.rcParams
    font = FontProperties(size=settings["legend.fontsize"])
    em = font.get_size_in_points()
    handle, pad, gap, edge, border = (
        em * settings[f"legend.{name}"]
        for name in ("handlelength", "handletextpad", "columnspacing", "borderpad", "borderaxespad")
    )
    measure = TextToPath().get_text_width_height_descent
    widths = [handle + pad + measure(label, font, ismath=False)[0] for label in labels]
    for columns in range(len(widths), 1, -1):
        rows, num_longer = divmod(len(widths), columns)
        ends = [place * rows + min(place, num_longer) for place in range(columns + 1)]
        used = sum(max(widths[start:end]) for start, end in pairwise(ends)) + gap * (columns - 1)
        if used + 2 * (edge + border) <= room_pt:
            return columns
    return 1


def doubling_axis(axes: Axes, values: Sequence[int], label: str) -> None:
    """A logarithmic axis of whole numbers, ticks at the values that there are (every other if many)."""
    axes.set_xscale("log", base=2)
    ticks = sorted(set(values))
    ticks = ticks[:: -(-len(ticks) // 10)] if ticks else [1]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(ticks[0] / 1.3, max(values, default=1) * 1.3)
    axes.set_xlabel(label)
