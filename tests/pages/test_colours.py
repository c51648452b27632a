"""Colours that stand for something stay apart for eyes that lack a kind of cone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations

import pytest

from benchbox.report.html.template_files import source
from benchbox.report.plots import canvas
from benchbox.report.plots.memory import PARTS
from benchbox.report.plots.phases import PHASES

Matrix = tuple[tuple[float, float, float], ...]

# Machado, Oliveira & Fernandes, "A physiologically-based model for simulation of color vision deficiency",
# IEEE TVCG 15 (6), 2009: severity 1.0, for linear RGB.
EYES: dict[str, Matrix] = {
    "all cones": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "no red": (
        (0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998),
    ),
    "no green": (
        (0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881),
    ),
    "no blue": (
        (1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900),
    ),
}  # fmt: skip
AT_A_GLANCE = 10.0
"""CIE76 distance; about 2.3 are just noticed."""
NAMES = ("blue", "vermilion", "green", "orange", "purple", "sky", "black", "yellow")


def linear(colour: str) -> list[float]:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    return [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]


def lab(rgb: Sequence[float]) -> tuple[float, float, float]:
    """CIE L*a*b* under D65."""
    to_xyz = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
    xyz = [sum(a * b for a, b in zip(row, rgb, strict=True)) for row in to_xyz]
    white = (0.9505, 1.0, 1.089)
    x, y, z = (
        t ** (1 / 3) if t > 216 / 24389 else (24389 / 27 * t + 16) / 116
        for t in (value / of for value, of in zip(xyz, white, strict=True))
    )
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def distance(one: str, other: str, eyes: Matrix) -> float:
    def seen(colour: str) -> tuple[float, float, float]:
        rgb = linear(colour)
        return lab([min(1.0, max(0.0, sum(a * b for a, b in zip(row, rgb, strict=True)))) for row in eyes])

    return sum((a - b) ** 2 for a, b in zip(seen(one), seen(other), strict=True)) ** 0.5


def of_the_page() -> dict[str, list[str]]:
    light, dark = source("page.css").split("prefers-color-scheme: dark", 1)
    sheets = {"light": light, "dark": dark.partition("* { box-sizing")[0]}
    return {
        name: [re.findall(rf"--{one}: (#[0-9a-f]{{6}})", sheet)[0] for one in NAMES]
        for name, sheet in sheets.items()
    }


@pytest.mark.parametrize("eyes", EYES)
def test_colours_stay_apart(eyes: str) -> None:
    palettes = {
        "lines": canvas.SERIES,
        "precisions": tuple(canvas.PRECISION_COLORS.values()),
        "parts of memory": [colour for _, _, colour in PARTS],
        "phases": [colour for _, _, colour in PHASES],
        **of_the_page(),
    }
    for name, colours in palettes.items():
        near = {pair: distance(*pair, EYES[eyes]) for pair in combinations(colours, 2)}
        close = min(near, key=lambda pair: near[pair])
        assert near[close] > AT_A_GLANCE, (name, close)


def test_the_distance_finds_red_and_green() -> None:
    pair = ("#b5651d", "#6b8e23")
    assert distance(*pair, EYES["all cones"]) > 4 * AT_A_GLANCE
    assert min(distance(*pair, EYES[eyes]) for eyes in ("no red", "no green")) < AT_A_GLANCE
