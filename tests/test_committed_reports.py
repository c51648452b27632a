"""Reports from real machines stay readable and have a page, and the README opens with pictures of one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from benchbox.report.build import rediagnosed
from benchbox.report.estimates import comparison_line, comparison_rows
from benchbox.report.files import read_report
from benchbox.report.html.page import render_page
from benchbox.report.markdown import render_markdown
from benchbox.report.shown import read_shown
from docs import pictures

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs/images"
REPORTS = sorted(ROOT.glob("reports/*/*/report.json"))
OF_EACH = pytest.mark.parametrize("path", REPORTS, ids=lambda path: "-".join(path.parts[-3:-1]))


def test_there_are_committed_reports() -> None:
    assert REPORTS


@OF_EACH
def test_a_committed_report_is_read_and_whole(path: Path) -> None:
    report = read_report(path)
    assert report.complete
    assert report.cases


@OF_EACH
def test_the_markdown_beside_a_report_is_what_the_report_says(path: Path) -> None:
    markdown = path.with_name("report.md").read_text(encoding="utf-8")
    assert markdown == render_markdown(read_report(path)), "benchbox report --format markdown --out writes it"


@OF_EACH
def test_a_committed_reports_verdicts_are_by_todays_rules(path: Path) -> None:
    report = read_report(path)
    stale = {
        before.case.case_id: (before.diagnosis, after.diagnosis)
        for before, after in zip(report.cases, rediagnosed(report).cases, strict=True)
        if before.diagnosis != after.diagnosis
    }
    assert stale == {}


def test_the_memory_that_the_docs_show_is_that_of_the_committed_reports() -> None:
    shown = (ROOT / "docs/memory.md").read_text(encoding="utf-8")
    quick, zero = (
        read_report(path) for name in ("quick", "zero") for path in REPORTS if path.parent.name == name
    )
    _, rows = comparison_rows(quick)
    assert rows
    missing = [row for row in rows if f"| {' | '.join(row)} |" not in shown]
    assert missing == []
    line = comparison_line(zero)
    assert line is not None
    median, worst = re.findall(r"([\d.]+) %", line)
    held = 0
    for result in zero.cases:
        assert result.memory_estimate is not None
        assert result.summary is not None
        interval, peak = result.memory_estimate.peak_device_interval_bytes, result.summary.peak_host_rss_bytes
        held += interval.low <= peak <= interval.high
    told = f"median {median} %, worst {worst} % off, {held} of {len(zero.cases)} cases within their interval"
    assert told in shown


@OF_EACH
def test_a_committed_report_has_a_page_of_all_its_cases(path: Path) -> None:
    report = read_report(path)
    page = render_page([report])
    assert page.count('<details class="case"') == len(report.cases)


def test_make_pages_writes_a_page_beside_a_report(tmp_path: Path) -> None:
    """The target itself, in a folder of its own that needs no installing."""
    folder = tmp_path / "reports" / "a-machine" / "quick"
    folder.mkdir(parents=True)
    shutil.copy(next(path for path in REPORTS if path.parent.name == "quick"), folder)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "installed").touch()
    done = subprocess.run(
        ["make", "pages", f"BIN={Path(sys.executable).parent}", "INSTALLED=installed"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    page = (folder / "page.html").read_text(encoding="utf-8")
    assert page == render_page([read_shown(folder / "report.json")])


def test_the_readme_opens_with_pictures() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    opening = readme.partition("\n## ")[0]
    for name in ("page.png", "page-dark.png", "quick.svg"):
        assert f"docs/images/{name}" in opening


def test_drawings_are_of_the_committed_report_by_todays_code_and_fetch_nothing() -> None:
    drawn = pictures.drawings()
    assert {path.name for path in IMAGES.glob("*.svg")} == set(drawn)
    for name, content in drawn.items():
        assert (IMAGES / name).read_bytes() == content, f"{name} is of an older report: make pictures"
        assert b"url(http" not in content
        assert b"@import" not in content


def test_screenshots_are_of_the_page_that_the_committed_report_has_today() -> None:
    digest = pictures.digest_of(pictures.page())
    assert {path.name for path in IMAGES.glob("*.png")} == {"page.png", "page-dark.png"}
    for name, is_dark in (("page.png", False), ("page-dark.png", True)):
        with Image.open(IMAGES / name) as image:
            assert image.info.get(pictures.DIGEST) == digest, f"{name} is of an older page: make pictures"
            assert image.size == (pictures.PAGE_WIDTH, pictures.PAGE_HEIGHT)
            colours = image.convert("L").getcolors(256)
        assert colours is not None
        assert (max(colours)[1] < 60) == is_dark
        assert len(colours) > 30
