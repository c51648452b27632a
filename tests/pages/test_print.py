"""Pages on paper: Chromium prints them, and what it printed is read again."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from benchbox.report.files import read_report
from benchbox.report.html.page import render_page
from benchbox.report.text import case_labels, significant
from benchbox.schema import Report
from tests.pages.browser import set_view
from tests.pages.data import make_sweep
from tests.pages.pdf import PrintedPage, printed_pages

Open = Callable[..., webdriver.Chrome]
COMMITTED = sorted((Path(__file__).parents[2] / "reports").glob("*/*/report.json"))
A4_INCHES = (8.27, 11.69)
MARGIN_PT = 0.39 * 72
"""The browser's own, on every side."""
PORTRAIT_PX, LANDSCAPE_PX = 718, 1046
"""What the margins leave of A4's width, upright and across."""
HEADING = "outcomesamples/s95%"


def printed(browser: webdriver.Chrome) -> list[PrintedPage]:
    width, height = A4_INCHES
    done = browser.execute_cdp_cmd("Page.printToPDF", {"paperWidth": width, "paperHeight": height})
    return printed_pages(base64.b64decode(done["data"]))


def squeezed(text: str) -> str:
    return "".join(text.split())


def opened_page(folder: Path, opened: Open, *reports: Report) -> webdriver.Chrome:
    page = folder / "page.html"
    page.write_text(render_page(reports), encoding="utf-8")
    return opened(page, dark=True)


def assert_whole(pages: list[PrintedPage], *reports: Report) -> None:
    """Every case and its rate are there, and no letter lies in a margin or beyond."""
    text = "".join(page.text for page in pages)
    for report in reports:
        labels = case_labels([result.case for result in report.cases])
        for result in report.cases:
            assert squeezed(labels[result.case.case_id]) in text
            if result.summary is not None:
                assert significant(result.summary.samples_per_second, 4) in text
    for page in pages:
        assert page.left >= MARGIN_PT
        assert page.right <= page.width - MARGIN_PT
        # No heading is alone at the foot of a page.
        assert not page.text.endswith(("Cases", "cases", "Plots", "History", "Environment", "Sidebyside"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: "-".join(path.parts[-3:-1]))
def test_a_committed_report(path: Path, tmp_path: Path, opened: Open) -> None:
    report = read_report(path)
    pages = printed(opened_page(tmp_path, opened, report))
    assert_whole(pages, report)
    text = "".join(page.text for page in pages)
    assert "Beforeyoutrustafigure" in text
    assert "hostallocator" in text  # of the environment
    # The zero report has nine figures a case, which is too much for an upright page.
    assert any(page.width > page.height for page in pages) == (path.parent.name == "zero")
    for control in ("Search", "Reset", "Openallshown", "Skiptothecases", "Whatthecolumnsmean", "▶"):
        assert control not in text


def test_a_table_of_many_columns_lies_across_and_has_its_heading_on_every_page(
    tmp_path: Path, opened: Open
) -> None:
    reports = [make_sweep(), make_sweep(name="NVIDIA A100-SXM4-80GB", slower=2.0, world_sizes=(1, 2))]
    pages = printed(opened_page(tmp_path, opened, *reports))
    assert_whole(pages, *reports)
    across = [page for page in pages if page.width > page.height]
    assert len(across) > 1
    assert [HEADING in page.text for page in pages] == [page in across for page in pages]
    text = "".join(page.text for page in pages)
    assert text.count("thedevicehelditsclocksback") == 2  # of closed hints
    assert text.count("GPU-5f0c9c1e") == 2  # of closed environments


def test_an_open_case_is_printed_and_a_closed_one_is_not(sweep_page: Path, opened: Open) -> None:
    browser = opened(sweep_page)
    browser.find_element(By.CSS_SELECTOR, "details.case summary").click()
    WebDriverWait(browser, 10).until(lambda b: b.find_elements(By.CSS_SELECTOR, "details.case[open] .panels"))
    text = "".join(page.text for page in printed(browser))
    assert text.count("Steptimes") == text.count("Telemetryovermeasuredtime") == 1


WIDER_THAN_PAPER = """
const across = arguments[0];
const mine = (e) => !e.closest('.hidden') && Boolean(e.closest('.across')) === across;
return Array.from(document.querySelectorAll('main *'))
  .filter((e) => mine(e) && e.getBoundingClientRect().right > innerWidth + 1)
  .map((e) => e.outerHTML.slice(0, 80));
"""
LARGER_THAN_THE_CELL = """
const size = (e) => parseFloat(getComputedStyle(e).fontSize);
return Array.from(document.querySelectorAll('td *, th *'))
  .filter((e) => size(e) > size(e.closest('td, th')) + 0.01 || size(e) > size(document.body))
  .map((e) => e.outerHTML.slice(0, 80));
"""


def test_nothing_is_wider_than_the_paper_or_larger_than_its_row(tmp_path: Path, opened: Open) -> None:
    reports = [
        make_sweep((16, 64), ("bf16",), slower=1 + day / 10, created_at=f"2026-01-0{day + 1}")
        for day in range(5)
    ]
    browser = opened_page(tmp_path, opened, *reports)
    try:
        for width, across in ((PORTRAIT_PX, False), (LANDSCAPE_PX, True)):
            set_view(browser, width)
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
            assert browser.execute_script(WIDER_THAN_PAPER, across) == []
            assert browser.execute_script(LARGER_THAN_THE_CELL) == []
        heights = browser.execute_script(
            "return Array.from(document.querySelectorAll('#cases tbody tr'), (row) => row.offsetHeight)"
        )
        assert max(heights) < 3 * 16  # two lines: no name is broken into syllables
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
