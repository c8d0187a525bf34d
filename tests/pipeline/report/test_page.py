"""The page: nothing of the data becomes markup, nothing is loaded, and a newcomer finds everything explained."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from jobs.report import gather
from pipeline.report.captions import visible
from pipeline.report.gallery import GallerySettings
from pipeline.report.page import POLICY, Report, render, settings_of
from pipeline.report.rejects import MEANINGS
from pipeline.report.thumbnails import MAX_WORD
from pipeline.schema import RejectReason
from tests.pipeline.report.hostile import HARMLESS, TEXTS, write_hostile_run
from tests.pipeline.runs import PROFILES


class Parsed(HTMLParser):
    """Elements with the names of their attributes, attributes with their values, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, ...]] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.comments = 0
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs) -> None:
        self.elements.append((tag, *(name for name, _ in attrs)))
        self.attributes += attrs

    def handle_data(self, data) -> None:
        self.text += data

    def handle_comment(self, data) -> None:
        self.comments += 1


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Report:
    run = write_hostile_run(tmp_path_factory.mktemp("hostile"), TEXTS)
    return gather(run, PROFILES, GallerySettings(images=20))


@pytest.fixture(scope="module")
def hostile(report) -> str:
    return render(report)


def test_hostile_texts_give_the_elements_of_harmless_ones(hostile, tmp_path) -> None:
    parsed = Parsed(hostile)
    report = gather(write_hostile_run(tmp_path, HARMLESS), PROFILES, GallerySettings(images=20))
    harmless = Parsed(render(report))
    assert parsed.elements == harmless.elements
    assert len([element for element in parsed.elements if element[0] == "polygon"]) == len(TEXTS) + 1
    assert parsed.comments == 0


def test_every_text_stands_there_as_it_is(hostile) -> None:
    parsed = Parsed(hostile)
    for text in TEXTS:
        assert visible(text) in parsed.text  # the caption
        assert parsed.text.count(visible(text[:MAX_WORD])) >= 2, text  # and the spotted word
    assert "hunter2" not in hostile
    assert "api_key: (not shown)" in parsed.text
    assert not set(hostile) & set("\x00\x1b\u202e\u2066\u061c")
    assert hostile.count("<mark>SALE</mark>") == 1
    assert "(empty caption)" in parsed.text
    assert "spotting failed" in parsed.text
    assert parsed.text.count("text not looked for") == 1


def test_nothing_is_loaded_run_or_left_for(hostile) -> None:
    parsed = Parsed(hostile)
    assert {element[0] for element in parsed.elements}.isdisjoint("script iframe object embed link base form".split())
    assert not [name for name, _ in parsed.attributes if name.startswith("on") or name == "style"]
    values = {name: [value for key, value in parsed.attributes if key == name] for name in ("src", "href", "content")}
    assert all(value.startswith(("data:image/jpeg;base64,", "data:image/png;base64,")) for value in values["src"])
    assert all(value.startswith("#") for value in values["href"])
    assert POLICY in values["content"]
    style = hostile[hostile.index("<style>") : hostile.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_terms_reasons_published_values_and_coverage_are_there(hostile) -> None:
    text = " ".join(re.sub("<[^>]*>", " ", hostile[hostile.index("<body>") :]).split())
    for expected in (
        "LAION-2B (published)", "33.43%", "54.60%", "arXiv 2312.14232", "parrot caption", "CoTR", "95 % interval",
        "CC12M", "The caption was to come from a .json that cannot be read.", "profiled 1", "known 1",
        "No image of the run is flagged", "the intervals are too narrow", "Cluster 1",
    ):  # fmt: skip
        assert expected in text, expected
    assert set(MEANINGS) == set(RejectReason)


def test_flagged_and_blurred_are_said(report) -> None:
    def told(flagged: int | None, **settings: bool) -> str:
        gallery = replace(report.gallery, flagged=flagged)
        return render(replace(report, gallery=gallery, settings=GallerySettings(**settings)))

    assert "3 images of the run are flagged by their NSFW or punsafe metadata and are not shown" in told(3)
    assert "those among the ones shown are blurred" in told(3, show_flagged=True)
    assert "No image of the run has NSFW or punsafe metadata" in told(None, show_flagged=True)
    assert "All images are blurred" in told(0, blur=True)


def test_a_missing_shard_leaves_its_reason_escaped(tmp_path) -> None:
    run = write_hostile_run(tmp_path, TEXTS)
    for path in tmp_path.glob("*.tar"):
        path.unlink()
    page = render(gather(run, PROFILES, GallerySettings()))
    assert "is not there any more" in page
    assert "<img src=x" not in page
    assert "data:image/jpeg" not in page


def test_settings_are_shown_without_what_opens_something(tmp_path) -> None:
    text, software = settings_of(write_hostile_run(tmp_path, HARMLESS))
    assert "hunter2" not in text
    assert "target: a:B" in text
    assert software == {HARMLESS[0]: HARMLESS[1]}
