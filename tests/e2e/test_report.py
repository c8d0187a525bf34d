"""The report in a real browser: hostile texts are texts, nothing is asked of a network, and pictures are seen."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.common.exceptions import NoAlertPresentException
from selenium.webdriver.common.by import By

from jobs.report import gather
from pipeline.report.captions import visible
from pipeline.report.gallery import GallerySettings
from pipeline.report.page import POLICY, render
from tests.e2e.browser import chromium, requested, resize
from tests.pipeline.report.hostile import TEXTS, write_hostile_run
from tests.pipeline.runs import PROFILES


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    path = folder / "report.html"
    path.write_text(render(gather(write_hostile_run(folder, TEXTS), PROFILES, GallerySettings(images=20))))
    return path


def opened(browser: webdriver.Chrome, path: Path) -> list[str]:
    """Open a page, give what tries to run time for it, and tell what was asked for."""
    requested(browser)
    browser.get(path.as_uri())
    time.sleep(0.3)
    return requested(browser)


def closed_dialog(browser: webdriver.Chrome) -> bool:
    """Whether a dialog was open."""
    try:
        browser.switch_to.alert.accept()
    except NoAlertPresentException:
        return False
    return True


def pwned(browser: webdriver.Chrome) -> bool:
    """Whether a text of the page has run: a dialog was open, or it left a mark."""
    dialog = False
    while closed_dialog(browser):
        dialog = True
    return dialog or bool(browser.execute_script("return window.pwned !== undefined"))


def test_these_texts_would_act_and_the_policy_alone_stops_them(browser, tmp_path) -> None:
    """What the other tests say is worth something: unescaped the texts do act, and are seen to."""
    body = "\n".join(text for text in TEXTS if "<!--" not in text)
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    bare, guarded = tmp_path / "bare.html", tmp_path / "guarded.html"
    bare.write_text(f"<!DOCTYPE html><meta charset=utf-8>{body}")
    guarded.write_text(f"<!DOCTYPE html><meta charset=utf-8>{policy}{body}")
    assert "https://example.invalid/x.css" in opened(browser, bare)
    assert pwned(browser)
    assert opened(browser, guarded) == [guarded.as_uri()]
    assert not pwned(browser)


def test_nothing_runs_and_nothing_is_asked_of_a_network(browser, page) -> None:
    browser.get_log("browser")
    assert opened(browser, page) == [page.as_uri()]
    assert not pwned(browser)
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert browser.execute_script("return document.scripts.length + document.querySelectorAll('iframe').length") == 0
    assert browser.get_log("browser") == []  # nor was anything refused: the policy had nothing to do


def test_every_picture_is_seen_with_its_outlines(browser, page) -> None:
    opened(browser, page)
    sizes = browser.execute_script(
        "return [...document.images].map(image => [image.closest('.cards') !== null, image.naturalWidth])"
    )
    assert [width for in_gallery, width in sizes if in_gallery] == [8] * (len(TEXTS) + 3)
    assert [width for in_gallery, width in sizes if not in_gallery] == [1500] * 5
    boxes = browser.execute_script(
        "return [...document.querySelectorAll('polygon')].map(word => {"
        " const box = word.getBoundingClientRect(), picture = word.closest('.picture').getBoundingClientRect();"
        " return [box.width, box.left - picture.left, picture.width] })"
    )
    assert len(boxes) == len(TEXTS) + 1
    for width, left, picture in boxes:
        assert width == pytest.approx(picture / 2, abs=1)
        assert -1 <= left <= picture / 2


def test_captions_are_shown_to_the_letter(browser, page) -> None:
    opened(browser, page)
    captions = [element.get_property("textContent") for element in browser.find_elements(By.CLASS_NAME, "caption")]
    assert {visible(text) for text in TEXTS} <= set(captions)
    assert [mark.text for mark in browser.find_elements(By.CSS_SELECTOR, "figcaption mark")] == ["SALE"]


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_the_page_fits_the_screen(browser, page, width, height) -> None:
    resize(browser, width, height)
    opened(browser, page)
    browser.execute_script("for (const fold of document.querySelectorAll('details')) fold.open = true")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
