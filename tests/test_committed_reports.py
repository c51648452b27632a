"""Reports from real machines stay readable, and the README's picture is what one of them shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchbox.report.files import read_report

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


def test_every_picture_of_the_readme_is_there_and_fetches_nothing() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    picture = ROOT / "docs/images/quick.svg"
    assert "docs/images/quick.svg" in readme
    svg = picture.read_text(encoding="utf-8")
    assert "samples/s" in svg
    assert "url(http" not in svg
    assert "@import" not in svg
