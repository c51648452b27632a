"""Debian's Chromium, driven by Selenium: no browser is downloaded, and every request is seen."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
    "--force-prefers-reduced-motion",  # or a click may come while the page still scrolls
)


@contextmanager
def chromium(folder: Path, *flags: str) -> Iterator[webdriver.Chrome]:
    """A browser with a new profile in ``folder``, which logs its console and its network."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    assert binary is not None, "chromium is missing: .ci/run installs it"
    assert driver is not None, "chromedriver is missing: .ci/run installs it"
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS, *flags, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    # The driver is spoken to on this machine; a proxy must not come between.
    service = Service(driver, env={**os.environ, "NO_PROXY": "*", "no_proxy": "*", "HOME": str(folder)})
    browser = webdriver.Chrome(options=options, service=service)
    try:
        browser.get("about:blank")
        requested(browser)  # what the browser's own first page asked for
        complaints(browser)
        yield browser
    finally:
        browser.quit()


def requested(browser: webdriver.Chrome) -> list[str]:
    """All addresses that were asked for since the last call."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]


def complaints(browser: webdriver.Chrome) -> list[str]:
    """All that the console was told since the last call: errors, refused styles and scripts."""
    return [entry["message"] for entry in browser.get_log("browser")]


def set_view(browser: webdriver.Chrome, width: int, height: int = 900, *, dark: bool = False) -> None:
    """A view of so many CSS pixels; dark is what the system asks pages for."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
