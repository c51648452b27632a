"""What a page costs to make, to send and to open. Sizes are bounds; times are printed, machines differ."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from benchbox.report.files import read_report, write_report
from benchbox.report.html.page import render_page
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


@pytest.mark.parametrize(("num_cases", "most_bytes"), [(24, 2e6), (1000, 15e6)])
def test_a_page_of_so_many_cases(num_cases: int, most_bytes: float, tmp_path: Path) -> None:
    report = make_sweep() if num_cases == 24 else make_many(num_cases)
    assert len(report.cases) == num_cases
    write_report(report, tmp_path / "report.json")
    start, cpu = time.perf_counter(), time.process_time()
    page = render_page([read_report(tmp_path / "report.json")])
    made_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    path = tmp_path / "page.html"
    path.write_text(page, encoding="utf-8")
    size = path.stat().st_size
    with chromium(tmp_path) as browser:
        browser.get(path.as_uri())
        ready_s = browser.execute_script(READY)
        answer_s = browser.execute_script(SORT_AND_FILTER)
    print(
        f"\n{num_cases} cases: made in {made_s:.2f} s ({cpu_s:.2f} s of a processor), {size / 1e6:.2f} MB, "
        f"ready in the browser after {ready_s:.2f} s, sorted and searched in {answer_s:.3f} s"
    )
    assert size < most_bytes


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
