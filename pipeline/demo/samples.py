"""The five kinds of sample the embedded CLIP learns from and is judged on, each a picture and its captions."""

from collections.abc import Collection
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from PIL import Image

from pipeline.demo.drawing import Picture, Pixels, Thing, draw_picture, set_case
from pipeline.demo.vocabulary import (
    COLOURS,
    OBJECTS,
    SCENES,
    WORDS,
    describe_object,
    describe_object_with_word,
    describe_scene,
    describe_sign,
    is_held_out,
)


class Kind(IntEnum):
    """What a picture shows."""

    OBJECT = 0
    OBJECT_WITH_WORD = 1
    SIGN = 2
    TWO_WORD_SIGN = 3
    SCENE = 4


class Content(NamedTuple):
    """What a picture shows: an object, words (lower case, from top to bottom) or nothing but a photograph."""

    thing: Thing | None
    words: tuple[str, ...]
    scene: str | None = None


def choose_content(
    kind: Kind, rng: np.random.Generator, held_out: bool = False, objects: Collection[str] = OBJECTS
) -> Content:
    """Choose object, colour and words.

    Args:
        held_out: whether object and word come from the pairs that training never sees, or from the others.
        objects: those to choose from.
    """
    if kind is Kind.SCENE:
        return Content(None, (), str(rng.choice([*SCENES])))
    words = tuple(str(word) for word in rng.choice(WORDS, size=(0, 1, 1, 2)[kind], replace=False))
    if kind in (Kind.SIGN, Kind.TWO_WORD_SIGN):
        return Content(None, words)
    names = [name for name in objects if not words or is_held_out(name, words[0]) == held_out]
    return Content(Thing(str(rng.choice(names)), str(rng.choice([*COLOURS]))), words)


def draw_content(content: Content, width: int, height: int, rng: np.random.Generator) -> Picture:
    """Draw the content with every word in a case of its own."""
    texts = tuple(set_case(word, rng) for word in content.words)
    return draw_picture(width, height, content.thing, texts, rng, content.scene)


def describe(content: Content, rng: np.random.Generator) -> str:
    """Write one of the captions under which the picture of this content might be found."""
    thing, words, scene = content
    if scene is not None:
        return describe_scene(scene, rng)
    if thing is None:
        return describe_sign(words, rng)
    if not words:
        return describe_object(*thing, rng)
    choice = rng.random()
    if choice < 0.12:
        return words[0]
    if choice < 0.22:
        return describe_object(*thing, rng)
    return describe_object_with_word(*thing, words[0], rng)


def shrink(pixels: Pixels, side: int) -> Pixels:
    """Resize a square picture as open_clip's preprocessing does: (side, side, 3) uint8."""
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC))
