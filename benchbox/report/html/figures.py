"""matplotlib's pictures inside a page: coloured by the page's style sheet, obedient to its policy."""

from __future__ import annotations

import re
from typing import NamedTuple
from xml.etree import ElementTree as ET

from benchbox.report.plots import canvas
from benchbox.report.plots.plot import Plot

_SVG = "{http://www.w3.org/2000/svg}"
_XLINK_HREF = "{http://www.w3.org/1999/xlink}href"
_VARIABLES = {
    canvas.INK: "ink",
    canvas.MUTED: "muted",
    canvas.GRID: "grid",
    canvas.SURFACE: "surface",
    canvas.BLUE: "blue",
    canvas.VERMILION: "vermilion",
    canvas.GREEN: "green",
    canvas.ORANGE: "orange",
    canvas.PURPLE: "purple",
    canvas.SKY: "sky",
    canvas.BLACK: "black",
    canvas.YELLOW: "yellow",
}
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_UNWANTED = (f"{_SVG}metadata", f"{_SVG}title", f"{_SVG}style")


class InlineFigure(NamedTuple):
    """A picture for the page: its SVG is markup of our own making and may stand as it is."""

    name: str
    plot: Plot
    svg: str


def inline(plot: Plot, name: str) -> InlineFigure:
    """``name`` sets the ids in it apart from those of other pictures on the page."""
    root = ET.fromstring(canvas.render(plot))  # noqa: S314 - matplotlib has just written it
    for parent in root.iter():
        for child in [child for child in parent if child.tag in _UNWANTED]:
            parent.remove(child)
    for element in root.iter():
        _adapt(element, name)
    # What matplotlib's style sheet says of every element.
    root.attrib |= {"stroke-linejoin": "round", "stroke-linecap": "butt", "role": "img"}
    root.attrib |= {"aria-label": plot.description}
    del root.attrib["width"], root.attrib["height"]
    ET.register_namespace("", _SVG[1:-1])
    return InlineFigure(name, plot, ET.tostring(root, encoding="unicode"))


def _adapt(element: ET.Element, name: str) -> None:
    """Styles become attributes, which a strict policy allows; colours become the page's."""
    for key, value in _declarations(element.attrib.pop("style", "")):
        element.set(key, value)
    if "id" in element.attrib:
        element.set("id", f"{name}-{element.attrib['id']}")
    target = element.attrib.pop(_XLINK_HREF, None)
    if target is not None:
        element.set("href", f"#{name}-{target.removeprefix('#')}")
    for key, value in element.attrib.items():
        if key in ("fill", "stroke") and value.lower() in _VARIABLES:
            element.set(key, f"var(--{_VARIABLES[value.lower()]})")
        elif value.startswith("url(#"):
            element.set(key, _REFERENCE.sub(rf"url(#{name}-\1)", value))


def _declarations(style: str) -> list[tuple[str, str]]:
    pairs = [part.split(":", 1) for part in style.split(";") if ":" in part]
    # The family is the page's own.
    return [(key.strip(), value.strip()) for key, value in pairs if key.strip() != "font-family"]
