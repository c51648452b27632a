"""What stands on the pages of a PDF that Chromium printed: as much of the format as its writer uses."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Iterator
from typing import NamedTuple

_TOKEN = re.compile(
    rb"<<.*?>>|<[0-9A-Fa-f]*>|\((?:\\.|[^\\)])*\)|/[^\s<>\[\]()/]+|\[|\]|[^\s<>\[\]()/]+", re.DOTALL
)
_OBJECT = re.compile(rb"^(\d+) 0 obj\n(.*?)\nendobj", re.DOTALL | re.MULTILINE)


_SAME: tuple[float, ...] = (1, 0, 0, 1, 0, 0)


class PrintedPage(NamedTuple):
    """One sheet. Lengths in points."""

    width: float
    height: float
    text: str
    """All of it without white space, so that where lines end says nothing; ligatures are their letters."""
    left: float
    """Of the leftmost letter."""
    right: float
    """Where the rightmost letter begins."""


def printed_pages(pdf: bytes) -> list[PrintedPage]:
    """The pages in their order."""
    objects = {int(number): body for number, body in _OBJECT.findall(pdf)}
    return [_page(body, objects) for body in objects.values() if re.search(rb"/Type /Page\b", body)]


def _page(body: bytes, objects: dict[int, bytes]) -> PrintedPage:
    box = re.search(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", body)
    content = re.search(rb"/Contents (\d+) 0 R", body)
    assert box is not None
    assert content is not None
    fonts = {
        name: _letters(objects[int(at)], objects) for name, at in re.findall(rb"/(F\d+) (\d+) 0 R", body)
    }
    letters = list(_shown(_stream(objects[int(content[1])]), fonts))
    places = [x for _, x in letters]
    text = unicodedata.normalize("NFKC", "".join(letter for letter, _ in letters))
    return PrintedPage(
        float(box[1]), float(box[2]), "".join(text.split()), min(places, default=0), max(places, default=0)
    )


def _stream(body: bytes) -> bytes:
    return zlib.decompress(body.partition(b"stream\n")[2].rpartition(b"\nendstream")[0])


def _letters(font: bytes, objects: dict[int, bytes]) -> dict[int, str]:
    """By glyph, from the font's own table."""
    table = re.search(rb"/ToUnicode (\d+) 0 R", font)
    assert table is not None, "a font whose letters cannot be told"
    found = {}
    for line in _stream(objects[int(table[1])]).decode().splitlines():
        codes = [int(code, 16) for code in re.findall(r"<([0-9A-F]{4})>", line)]
        first, last, letter = (codes[0], codes[0], codes[1]) if len(codes) == 2 else (codes or [1, 0, 0])[:3]
        if line.startswith("<"):
            found |= {glyph: chr(letter + glyph - first) for glyph in range(first, last + 1)}
    return found


def _shown(content: bytes, fonts: dict[bytes, dict[int, str]]) -> Iterator[tuple[str, float]]:
    """Each letter, and where it begins sideways."""
    now, line, kept = _SAME, _SAME, []
    font: dict[int, str] = {}
    stack: list[bytes] = []
    for token in _TOKEN.findall(content):
        if token == b"q":
            kept.append(now)
        elif token == b"Q":
            now = kept.pop()
        elif token == b"cm":
            now = _times(_numbers(stack[-6:]), now)
        elif token == b"Tf":
            font = fonts[stack[-2][1:]]
        elif token == b"Tm":
            line = _numbers(stack[-6:])
        elif token == b"Td":
            line = _times((1, 0, 0, 1, *_numbers(stack[-2:])), line)
        elif token == b"Tj":
            glyphs = re.findall("....", stack[-1][1:-1].decode())
            yield "".join(font.get(int(glyph, 16), "") for glyph in glyphs), _times(line, now)[4]
        else:
            stack.append(token)
            continue
        stack = []


def _numbers(tokens: list[bytes]) -> tuple[float, ...]:
    return tuple(map(float, tokens))


def _times(one: tuple[float, ...], other: tuple[float, ...]) -> tuple[float, ...]:
    """Two placements one after the other, as PDF 1.7, 8.3.4 writes them."""
    a, b, c, d, e, f = one
    g, h, i, j, k, m = other
    return a * g + b * i, a * h + b * j, c * g + d * i, c * h + d * j, e * g + f * i + k, e * h + f * j + m
