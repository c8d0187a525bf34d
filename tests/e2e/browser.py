"""A real browser, Debian's chromium, without a window, a profile of its own, and a log of what it asks for."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

SWITCHES = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars""".split()


@contextmanager
def chromium(folder: Path) -> Iterator[webdriver.Chrome]:
    """The browser, its profile in `folder`; the test is skipped where it is not installed."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed (apt-get install chromium chromium-driver)")
    options = Options()
    options.binary_location = program
    for switch in (*SWITCHES, f"--user-data-dir={folder}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    options.set_capability("unhandledPromptBehavior", "ignore")  # a dialog stays until it is looked for
    browser = webdriver.Chrome(options, Service(driver))
    try:
        yield browser
    finally:
        browser.quit()


def requested(browser: webdriver.Chrome) -> list[str]:
    """URLs asked for since the last call, but those within the page (data:) and those that a policy stopped."""
    messages: list[dict[str, Any]] = [
        json.loads(entry["message"])["message"] for entry in browser.get_log("performance")
    ]
    events = [(message["method"], message["params"]) for message in messages]
    stopped = {of["requestId"] for method, of in events if method == "Network.loadingFailed" and "blockedReason" in of}
    sent = {of["requestId"]: of["request"]["url"] for method, of in events if method == "Network.requestWillBeSent"}
    return [url for name, url in sent.items() if name not in stopped and not url.startswith("data:")]


def resize(browser: webdriver.Chrome, width: int, height: int) -> None:
    """Set what the page sees: a window has no fewer than some 500 pixels."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
