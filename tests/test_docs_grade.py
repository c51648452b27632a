"""The figures of docs/grade.md: the made-up tables' are the command's, and the published one's agree."""

from __future__ import annotations

import re
from pathlib import Path

from benchbox.analyze.grade import grade
from benchbox.plan.throughput_table import read_throughput_table
from tests.tables import PROFILES, synthetic_rows, write_table

PAGE = (Path(__file__).parent.parent / "docs" / "grade.md").read_text("utf-8")
TEXT = " ".join(PAGE.split())


def cells(first: str) -> list[str]:
    """Of the table's row that begins so."""
    found = re.findall(rf"^\| {re.escape(first)} \|(.*)\|$", PAGE, re.MULTILINE)
    assert len(found) == 1, first
    return [cell.strip().replace(",", "") for cell in found[0].split("|")]


def number(text: str) -> float:
    match = re.search(r"[\d.]+", text)
    assert match is not None, text
    return float(match[0])


def test_the_made_up_tables_are_held_as_often_as_the_page_says(tmp_path: Path) -> None:
    first, last = map(int, re.search(r"seeds (\d) to (\d)\) the intervals hold", TEXT).groups())
    held = []
    for seed in range(first, last + 1):
        table = read_throughput_table(write_table(tmp_path / "t.csv", synthetic_rows(seed=seed)))
        held.append(grade("t", table.rows, (), PROFILES).overall.coverage_pct)
    assert f"the intervals hold {min(held):.0f} to {max(held):.0f} %" in TEXT


def test_the_figures_of_the_published_table_agree_with_each_other() -> None:
    """That table is not part of the repository; every place that speaks of it must say the same."""
    pairs, median, p80, worst, coverage = map(number, cells("all")[:5])
    line = re.search(r"`all: median ([\d.]+) % p80 ([\d.]+) % worst ([\d.]+) % coverage ([\d.]+) %`", TEXT)
    assert line is not None
    figures = [float(value) for value in line.groups()]
    assert [figures[0], figures[1], round(figures[2]), round(figures[3])] == [median, p80, worst, coverage]
    assert [number(cell) for cell in cells("as shipped")] == [median, p80]
    for cell, shipped in zip(cells("any single setting"), (median, p80), strict=True):
        least, most = map(float, re.findall(r"[\d.]+", cell))
        assert least <= shipped <= most
    kinds = [cells(name) for name in ("same chip", "same memory class", "HBM to GDDR")]
    witnesses = [cells(name) for name in ("1", "2", "3", "4 or more")]
    for groups in (kinds, witnesses):
        assert sum(number(group[0]) for group in groups) == pairs
        held = sum(number(group[0]) * number(group[3]) for group in groups) / pairs
        assert abs(held - figures[3]) < 0.5  # each is rounded to whole per cents
    assert f"are 38 of {pairs:,.0f} pairs" in TEXT
    for name in (
        "MLPerf ResNet-50, one release: tuned for each device",
        "one container across generations, one device",
    ):
        assert number(cells(name)[0]) < pairs
