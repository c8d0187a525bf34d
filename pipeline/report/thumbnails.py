"""Small pictures of samples, and the outlines of their spotted words on the same scale."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageFilter

SIDE = 220
"""Pixels of the longest side."""

QUALITY = 80
BLUR = 0.07
"""Radius as a share of the longest side: shapes and colours stay, no face and no word."""

MAX_WORDS = 60
"""Words outlined in one image, the largest."""

MAX_WORD = 60
"""Characters of a word that its outline tells."""


@dataclass(frozen=True)
class Thumbnail:
    """A JPEG, its size in pixels."""

    jpeg: bytes
    width: int
    height: int

    @property
    def uri(self) -> str:
        return f"data:image/jpeg;base64,{base64.b64encode(self.jpeg).decode()}"


class Outline(NamedTuple):
    """A spotted word: `points` as SVG's polygon has them, in pixels of the thumbnail."""

    text: str
    co_emb: bool
    points: str


def thumbnail(pixels: np.ndarray, blurred: bool = False, side: int = SIDE) -> Thumbnail:
    """Shrink an image, uint8 (height, width, 3), to `side` pixels; a smaller one keeps its size.

    A blurred one is blurred in its pixels: nothing in the page brings back what was there.
    """
    image = Image.fromarray(pixels)
    image.thumbnail((side, side))
    if blurred:
        image = image.filter(ImageFilter.GaussianBlur(max(2, BLUR * max(image.size))))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY, optimize=True)
    return Thumbnail(file.getvalue(), *image.size)


def outlines(row: Mapping[str, Any], shown: Thumbnail) -> list[Outline]:
    """Outlines of the largest spotted words of a profile row; those also in the caption come last, on top."""
    across, down = shown.width / row["width"], shown.height / row["height"]
    words = zip(row["spotted"] or (), row["spotted_area"] or (), row["spotted_co_emb"] or (), strict=True)
    largest = sorted(words, key=lambda word: -word[1])[:MAX_WORDS]
    return [
        Outline(
            word["text"][:MAX_WORD],
            co_emb,
            " ".join(f"{point['x'] * across:.1f},{point['y'] * down:.1f}" for point in word["polygon"]),
        )
        for word, _, co_emb in sorted(largest, key=lambda word: word[2])
    ]
