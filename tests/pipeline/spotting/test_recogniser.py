import numpy as np
import pytest
from PIL import Image as Pictures
from PIL import ImageDraw, ImageFont

from pipeline.spotting.config import RapidOCRConfig
from pipeline.spotting.lines import Line
from pipeline.spotting.rapidocr import RapidOCRSpotter
from pipeline.spotting.recogniser import Reading, Recogniser

TEXTS = ["Parrot CAPTIONS", "teach", "a much longer line of text than any other", *3 * ["teach", "Parrot"]]


def line(text: str) -> Line:
    """Black text on white, upright."""
    font = ImageFont.load_default(34)
    strip = Pictures.new("RGB", (round(font.getlength(text)) + 12, 48), "white")
    ImageDraw.Draw(strip).text((6, 2), text, "black", font)
    return Line(np.zeros((4, 2), np.float32), np.asarray(strip))


@pytest.fixture(scope="module")
def spotter() -> RapidOCRSpotter:
    return RapidOCRSpotter(RapidOCRConfig(), threads=2)


@pytest.fixture(params=["first", "second"])
def recogniser(request: pytest.FixtureRequest, spotter: RapidOCRSpotter) -> Recogniser:
    return {"first": spotter._first, "second": spotter._second}[request.param]


def test_a_line_is_read_alike_alone_and_among_others(recogniser: Recogniser):
    lines = [line(text) for text in TEXTS]
    together = recogniser(lines)
    assert [reading.text for reading in together] == TEXTS
    for each, reading in zip(lines, together, strict=True):
        (alone,) = recogniser([each])
        assert alone.text == reading.text
        assert alone.bounds.tolist() == reading.bounds.tolist()
        np.testing.assert_allclose(alone.confidences, reading.confidences, atol=1e-2)


def test_characters_have_confidences_and_ascending_bounds(recogniser: Recogniser):
    (reading,) = recogniser([line("Parrot CAPTIONS")])
    assert len(reading.confidences) == len(reading.text) == len(reading.bounds) - 1
    assert reading.confidence == pytest.approx(reading.confidences.mean())
    assert 0.8 < reading.confidence <= 1
    assert (np.diff(reading.bounds) > 0).all()
    assert (reading.bounds[0], reading.bounds[-1]) == (0, 1)
    space = reading.bounds[6:8].mean()  # the words take seven and eight parts of the line, or nearly
    assert 0.3 < space < 0.5


def test_a_line_of_nothing_has_no_confidence():
    assert Reading("", np.zeros(0, np.float32), np.array([0.0, 1.0])).confidence == 0


def test_no_lines_have_no_readings(recogniser: Recogniser):
    assert recogniser([]) == []


def test_every_class_is_one_character(recogniser: Recogniser):
    blank, *characters = recogniser._alphabet
    assert blank == ""
    assert {len(character) for character in characters} == {1}
    assert len(set(characters)) == len(characters)
    assert len(recogniser._alphabet) == recogniser._network.output(0).partial_shape[2].get_length()


def test_the_second_knows_scripts_that_the_first_does_not(spotter: RapidOCRSpotter):
    assert not set("ひらカタ") & set(spotter._first._alphabet)
    assert set("ひらカタ") <= set(spotter._second._alphabet)
