"""`parrotscope explore` in a real browser: search, turn the page, see an image with its outlines."""

import base64
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from typer.testing import CliRunner

from jobs.cli import app
from pipeline.report.captions import visible
from tests.e2e.browser import chromium, requested
from tests.pipeline.report.hostile import TEXTS, write_hostile_run

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    """Of the explorer of a run of 21 samples."""
    if find_spec("streamlit") is None:
        pytest.skip("streamlit is not installed (the extra `explore`)")
    run = write_hostile_run(tmp_path_factory.mktemp("explore"), TEXTS * 2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jobs.cli", "explore", run.url, "--port", str(port)]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        until(lambda: answers(f"http://127.0.0.1:{port}/_stcore/health"))
        yield f"http://127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGTERM)
        said, _ = server.communicate(timeout=20)
        assert b"Traceback" not in said, said


@pytest.fixture
def browser(address, tmp_path) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path) as browser:
        browser.get(address)
        until(lambda: len(cards(browser)) == 12)
        yield browser


def until(holds: Callable[[], Any], seconds: float = 40) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.2)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url) as answer:  # noqa: S310 - loopback
            return answer.status == 200
    except OSError:
        return False


def cards(browser: webdriver.Chrome) -> list[dict[str, Any]]:
    """Caption, source and width of the picture, and marked words, of each card."""
    script = """return [...document.querySelectorAll('.cards figure')].map(card => ({
        caption: card.querySelector('.caption').textContent, source: card.querySelector('img').src,
        width: card.querySelector('img').naturalWidth,
        marked: [...card.querySelectorAll('mark')].map(mark => mark.textContent)}))"""
    return browser.execute_script(script)  # type: ignore[no-any-return]


def fill(browser: webdriver.Chrome, label: str, text: str) -> None:
    field = browser.find_element(By.CSS_SELECTOR, f'input[aria-label="{label}"]')
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(Keys.DELETE, text, Keys.ENTER)


def test_hostile_captions_are_texts_and_nothing_leaves_the_machine(browser, address) -> None:
    shown = cards(browser)
    assert {visible(text) for text in TEXTS[:6]} <= {card["caption"] for card in shown}
    until(lambda: {card["width"] for card in cards(browser)} == {8})
    assert browser.execute_script("return window.pwned === undefined")
    asked = {url for url in requested(browser) if url.startswith(("http", "ws"))}
    assert {url.split("/")[2] for url in asked} == {address.split("/")[2]}


def test_a_search_narrows_and_shows_an_image_with_its_outlines(browser) -> None:
    fill(browser, "A word in the image", "sale")
    until(lambda: [card["marked"] for card in cards(browser)] == [["SALE"]])
    (card,) = cards(browser)
    svg = base64.b64decode(card["source"].removeprefix("data:image/svg+xml;base64,")).decode()
    outlines = re.findall(r'<polygon points="([^"]*)"', svg)
    assert set(outlines) == {"1.0,2.0 5.0,2.0 5.0,5.0 1.0,5.0"}
    until(lambda: cards(browser)[0]["width"] == 8)
    fill(browser, "Words in the caption", "' OR true --")
    until(lambda: not cards(browser))
    assert "of 1: 0 samples" in browser.page_source


def test_pages_are_turned_and_a_new_search_begins_at_the_first(browser) -> None:
    fill(browser, "Page", "2")
    until(lambda: len(cards(browser)) == 9)
    assert "of 2: 21 samples" in browser.page_source
    fill(browser, "Cluster", "1")
    until(lambda: len(cards(browser)) == 10)
    assert "of 1: 10 samples" in browser.page_source


def test_a_mistake_is_one_sentence_before_anything_is_served(tmp_path, monkeypatch) -> None:
    result = CliRunner().invoke(app, ["explore", str(tmp_path / "nowhere")])
    assert result.exit_code == 1
    monkeypatch.setattr("jobs.explore.find_spec", lambda name: None)
    without = CliRunner().invoke(app, ["explore", str(tmp_path / "nowhere")])
    assert without.exit_code == 1
    assert "pip install 'parrotscope[explore]'" in without.output
    assert without.output.count("\n") == 1
