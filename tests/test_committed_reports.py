"""Reports from real machines stay readable and have a page, and the README opens with pictures of one."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchbox.report.files import read_report
from benchbox.report.html.page import render_page

ROOT = Path(__file__).parent.parent
REPORTS = sorted(ROOT.glob("reports/*/*/report.json"))


def test_there_are_committed_reports() -> None:
    assert REPORTS


@pytest.mark.parametrize("path", REPORTS, ids=lambda path: "-".join(path.parts[-3:-1]))
def test_a_committed_report_is_read_and_whole(path: Path) -> None:
    report = read_report(path)
    assert report.complete
    assert report.cases
    assert (path.parent / "report.md").is_file()


def test_the_readme_opens_with_pictures_that_fetch_nothing() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    opening = readme.partition("\n## ")[0]
    for name in ("page.png", "page-dark.png", "quick.svg"):
        assert f"docs/images/{name}" in opening
        assert (ROOT / "docs/images" / name).stat().st_size > 5000
    for picture in (ROOT / "docs/images").glob("*.svg"):
        svg = picture.read_text(encoding="utf-8")
        assert "samples/s" in svg
        assert "url(http" not in svg
        assert "@import" not in svg


@pytest.mark.parametrize("path", REPORTS, ids=lambda path: "-".join(path.parts[-3:-1]))
def test_a_committed_report_has_a_page_of_all_its_cases(path: Path) -> None:
    report = read_report(path)
    page = render_page([report])
    assert page.count('<details class="case"') == len(report.cases)
