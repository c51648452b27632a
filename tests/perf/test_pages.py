"""What a page costs to make, to send and to open.

Sizes are bounds. Times are printed, and held against something else in the same run: machines differ.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from selenium import webdriver

from benchbox.report.files import read_report, write_report
from benchbox.report.html.page import render_page
from benchbox.stats import median
from tests.pages.browser import chromium
from tests.pages.data import make_many, make_sweep

pytestmark = pytest.mark.perf

READY = (
    "const [page] = performance.getEntriesByType('navigation'); return page.domContentLoadedEventEnd / 1000"
)
SORT_AND_FILTER = """
const start = performance.now();
document.querySelector('#table th.number button').click();
const box = document.querySelector('#search');
box.value = 'bf16 ckpt';
box.dispatchEvent(new Event('input', { bubbles: true }));
document.body.offsetHeight;
return (performance.now() - start) / 1000;
"""


MOST_READINGS = 40
"""A page of a thousand cases takes about 20 times as long as reading their report: 12.8 MB are written for
22.6 MB that are read, and every attempt's samples are gone through for a strip or a histogram."""
PLAIN_LINE = "<p>A line of plain text that says 123.4 samples/s and nothing else.</p>\n"


@pytest.mark.parametrize(
    ("num_cases", "most_bytes", "most_ratio"), [(24, 2e6, 5), (1000, 15e6, 1)], ids=["24", "1000"]
)
def test_a_page_of_so_many_cases(
    num_cases: int, most_bytes: float, most_ratio: float, tmp_path: Path
) -> None:
    """``most_ratio``: of the time until it can be used, to that of a plain page of the same size. A small
    page's is mostly its pictures and its table, a large one keeps its cases as text until they are opened."""
    report = make_sweep() if num_cases == 24 else make_many(num_cases)
    assert len(report.cases) == num_cases
    write_report(report, tmp_path / "report.json")
    start, cpu = time.perf_counter(), time.process_time()
    page = render_page([read_report(tmp_path / "report.json")])
    made_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    path, plain = tmp_path / "page.html", tmp_path / "plain.html"
    path.write_text(page, encoding="utf-8")
    size = path.stat().st_size
    plain.write_text(f"<!doctype html><title>x</title>{PLAIN_LINE * (size // len(PLAIN_LINE))}")
    with chromium(tmp_path) as browser:
        turns = [(ready(browser, plain), ready(browser, path)) for _ in range(3)]
        answer_s = browser.execute_script(SORT_AND_FILTER)
    plain_s, ready_s = (median(times) for times in zip(*turns, strict=True))
    print(
        f"\n{num_cases} cases: made in {made_s:.2f} s ({cpu_s:.2f} s of a processor), {size / 1e6:.2f} MB, "
        f"ready in the browser after {ready_s:.2f} s (a plain page of that size {plain_s:.2f} s), "
        f"sorted and searched in {answer_s:.3f} s"
    )
    assert size < most_bytes
    assert ready_s < most_ratio * plain_s
    assert answer_s < ready_s


def ready(browser: webdriver.Chrome, path: Path) -> float:
    """Seconds until the page can be used."""
    browser.get(path.as_uri())
    return browser.execute_script(READY)


def test_making_a_page_takes_a_few_readings_of_its_report(tmp_path: Path) -> None:
    write_report(make_many(1000), tmp_path / "report.json")
    render_page([make_sweep()])  # the imports
    reads, pages = [], []
    for _ in range(3):
        start = time.process_time()
        report = read_report(tmp_path / "report.json")
        reads.append(time.process_time() - start)
        start = time.process_time()
        render_page([report])
        pages.append(time.process_time() - start)
    ratio = median(pages) / median(reads)
    print(f"\nread in {median(reads):.2f} s of a processor, page in {median(pages):.2f}: {ratio:.0f} times")
    assert ratio < MOST_READINGS


def test_making_a_page_grows_with_the_cases_and_not_with_their_square(tmp_path: Path) -> None:
    def seconds(num_cases: int) -> float:
        report = make_many(num_cases)
        start = time.process_time()
        render_page([report])
        return time.process_time() - start

    seconds(200)  # the imports
    few, many = seconds(200), seconds(1000)
    print(f"\n200 cases: {few:.2f} s of a processor, 1,000: {many:.2f} s, a factor of {many / few:.1f}")
    assert many / few < 8
