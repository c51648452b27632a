"""One browser for all tests of the pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from benchbox.report.html.page import render_page
from benchbox.schema import Report
from tests.pages.browser import chromium, complaints, requested, set_view
from tests.pages.data import make_sweep


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("chromium")) as started:
        yield started


@pytest.fixture(scope="session")
def sweep() -> Report:
    return make_sweep()


@pytest.fixture(scope="session")
def sweep_page(sweep: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(render_page([sweep]), encoding="utf-8")
    return path


@pytest.fixture
def opened(browser: webdriver.Chrome) -> Callable[..., webdriver.Chrome]:
    """Opens a file at a width of 1280, with nothing left of what an earlier test did or logged."""

    def open_page(path: Path, width: int = 1280, *, dark: bool = False) -> webdriver.Chrome:
        set_view(browser, width, dark=dark)
        browser.get("about:blank")
        requested(browser)
        complaints(browser)
        browser.get(path.as_uri())
        return browser

    return open_page
