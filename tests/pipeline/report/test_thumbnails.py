"""Thumbnails, blurred in their pixels, and outlines on their scale."""

import base64
import io

import numpy as np
from PIL import Image

from pipeline.report.thumbnails import MAX_WORD, MAX_WORDS, SIDE, outlines, thumbnail
from tests.pipeline.runs import FAILED, profile, word

STRIPES = np.zeros((300, 600, 3), np.uint8)
STRIPES[:, ::40] = STRIPES[:, 1::40] = 255


def pixels(shown) -> np.ndarray:
    assert shown.uri == f"data:image/jpeg;base64,{base64.b64encode(shown.jpeg).decode()}"
    image = Image.open(io.BytesIO(shown.jpeg))
    assert (image.format, image.size) == ("JPEG", (shown.width, shown.height))
    return np.asarray(image).astype(int)


def test_the_longest_side_is_bounded_and_small_images_stay() -> None:
    assert pixels(thumbnail(STRIPES)).shape == (110, SIDE, 3)
    assert pixels(thumbnail(STRIPES.transpose(1, 0, 2))).shape == (SIDE, 110, 3)
    assert pixels(thumbnail(STRIPES[:5, :7])).shape == (5, 7, 3)
    assert pixels(thumbnail(np.zeros((1, 30_000, 3), np.uint8))).shape == (1, SIDE, 3)


def test_blurred_pixels_hold_no_detail() -> None:
    clear, blurred = (np.abs(np.diff(pixels(thumbnail(STRIPES, blur)), axis=1)).max() for blur in (False, True))
    assert clear > 60
    assert blurred < 8
    assert pixels(thumbnail(STRIPES[:3, :3], blurred=True)).shape == (3, 3, 3)


def test_outlines_are_scaled_and_words_of_the_caption_lie_on_top() -> None:
    spotted = [word("SALE", 1, 2), word("other")]
    row = profile("a", 0, width=16, height=12, spotted=spotted, spotted_area=[0.2, 0.1], spotted_co_emb=[True, False])
    shown = thumbnail(np.zeros((6, 8, 3), np.uint8))
    other, sale = outlines(row, shown)
    assert (other.text, other.co_emb) == ("other", False)
    assert sale == ("SALE", True, "0.5,1.0 2.5,1.0 2.5,2.5 0.5,2.5")


def test_outlines_are_bounded_and_a_failed_spotting_has_none() -> None:
    many = MAX_WORDS + 5
    row = profile("a", 0, spotted=[word("w" * 5_000)] * many, spotted_area=range(many), spotted_co_emb=[False] * many)
    shown = thumbnail(np.zeros((6, 8, 3), np.uint8))
    assert [len(outline.text) for outline in outlines(row, shown)] == [MAX_WORD] * MAX_WORDS
    assert outlines(profile("a", 0, **FAILED), shown) == []
