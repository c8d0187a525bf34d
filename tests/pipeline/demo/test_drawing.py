import cv2
import numpy as np
import pytest

from pipeline.demo.drawing import Box, Thing, draw_picture, draw_word, photographs, set_case
from pipeline.demo.shapes import STROKES, shape
from pipeline.demo.vocabulary import COLOURS, OBJECTS, SCENES


def filled(polygon: np.ndarray, like: np.ndarray) -> np.ndarray:
    mask = np.zeros(like.shape[:2], np.uint8)
    cv2.fillPoly(mask, [polygon.astype(np.int32)], 1)
    return mask.astype(bool)


@pytest.mark.parametrize("seed", range(20))
def test_a_polygon_covers_the_ink_of_its_word(seed: int) -> None:
    canvas = np.full((256, 320, 3), 120, np.uint8)
    word = draw_word(canvas, "Sugar", Box(32, 0, 256, 256), np.random.default_rng(seed))
    changed = (canvas != 120).any(axis=2)
    inside = filled(word.polygon, canvas)
    assert word.text == "Sugar"
    assert word.polygon.dtype == np.int16
    assert word.polygon.min() >= 0
    assert (word.polygon < (320, 256)).all()
    assert changed[inside].mean() > 0.15  # thin faces on a plain canvas ink a fifth of their box
    plate = cv2.dilate(inside.astype(np.uint8), np.ones((41, 41), np.uint8)).astype(bool)
    assert not changed[~plate].any()


@pytest.mark.parametrize("seed", range(20))
def test_words_keep_to_the_central_square_and_their_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    picture = draw_picture(400, 256, None, ("OPEN", "Sale"), rng)
    assert picture.pixels.shape == (256, 400, 3)
    assert [word.text for word in picture.words] == ["OPEN", "Sale"]
    polygons = np.array([word.polygon for word in picture.words])
    assert polygons[..., 0].min() >= 72
    assert polygons[..., 0].max() <= 328
    assert polygons[0, :, 1].mean() < polygons[1, :, 1].mean()


def test_the_same_seed_draws_the_same_picture() -> None:
    thing = Thing("boat", "green")
    first, second = (draw_picture(256, 256, thing, ("hotel",), np.random.default_rng(4)) for _ in range(2))
    assert np.array_equal(first.pixels, second.pixels)
    assert np.array_equal(first.words[0].polygon, second.words[0].polygon)
    other = draw_picture(256, 256, thing, ("hotel",), np.random.default_rng(5))
    assert not np.array_equal(first.pixels, other.pixels)


def test_a_scene_is_a_photograph_alone() -> None:
    picture = draw_picture(320, 240, None, (), np.random.default_rng(0), scene="chelsea")
    assert picture.words == ()
    assert picture.pixels.std() > 10


def test_every_scene_has_its_photograph() -> None:
    assert photographs().keys() == SCENES.keys()


def test_every_object_has_a_shape_of_its_own() -> None:
    assert STROKES.keys() == set(OBJECTS)
    bodies = {shape(name).body.tobytes() for name in OBJECTS}
    assert len(bodies) == len(OBJECTS)
    assert all(0.05 < (shape(name).body > 127).mean() < 0.8 for name in OBJECTS)


@pytest.mark.parametrize("colour", COLOURS)
def test_an_object_shows_its_colour(colour: str) -> None:
    pictures = [draw_picture(128, 128, Thing("square", colour), (), np.random.default_rng(seed)) for seed in range(5)]
    distance = [np.abs(picture.pixels.astype(int) - COLOURS[colour]).sum(axis=2) for picture in pictures]
    assert np.mean([(d < 120).mean() for d in distance]) > 0.15


def test_case_is_upper_lower_or_capitalised() -> None:
    rng = np.random.default_rng(0)
    assert {set_case("sale", rng) for _ in range(30)} == {"SALE", "sale", "Sale"}
