"""Pictures whose every word is known: a background, perhaps an object, and up to two words with their polygons.

Backgrounds are plain, noisy or graded colour, or crops of the photographs without lettering that ship inside the
scikit-image and scikit-learn wheels. Faces are the DejaVu fonts inside matplotlib. Nothing is downloaded. All
randomness comes from the generator passed in.
"""

from functools import cache
from importlib.resources import files
from typing import NamedTuple

import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pipeline.demo.shapes import shape
from pipeline.demo.vocabulary import COLOURS

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]

PHOTOGRAPHS = {
    "skimage": "brick chelsea coffee grass gravel hubble_deep_field ihc moon retina rocket",
    "sklearn": "china flower",
}
"""Package → its photographs; those with lettering, or with what a text spotter takes for it, are left out."""

FACES = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-BoldOblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-BoldItalic",
)
INKS: tuple[Colour, ...] = ((255, 255, 255), (0, 0, 0), *COLOURS.values())

CONTRAST = 105
"""Least difference in luma (0-255) between a word and what lies behind it."""


class Box(NamedTuple):
    """A rectangle in pixels, from its upper left corner."""

    x: float
    y: float
    width: float
    height: float


class DrawnWord(NamedTuple):
    """A word in its drawn case; polygon: (4, 2) int16, x and y of whole pixels, clockwise from upper left."""

    text: str
    polygon: NDArray[np.int16]


class Thing(NamedTuple):
    """An object of the vocabulary in one of its colours."""

    name: str
    colour: str


class Picture(NamedTuple):
    """pixels: (height, width, 3) uint8 RGB; words from top to bottom."""

    pixels: Pixels
    words: tuple[DrawnWord, ...]


def luma(pixels: NDArray[np.generic] | Colour) -> NDArray[np.float64]:
    """Rec. 601 luma, 0-255, over the last axis."""
    return np.asarray(pixels, np.float64) @ (0.299, 0.587, 0.114)


@cache
def photographs() -> dict[str, Pixels]:
    """Every background photograph by its file's stem, (height, width, 3) uint8 RGB."""
    folders = {"skimage": files("skimage") / "data", "sklearn": files("sklearn") / "datasets" / "images"}
    found: dict[str, Pixels] = {}
    for package, names in PHOTOGRAPHS.items():
        available = {entry.name.partition(".")[0]: entry for entry in folders[package].iterdir()}
        found |= {name: np.asarray(Image.open(str(available[name])).convert("RGB")) for name in names.split()}
    return found


def _any_photograph(rng: np.random.Generator) -> Pixels:
    return [*photographs().values()][rng.integers(len(photographs()))]


@cache
def _face(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/{name}.ttf", size)


def set_case(word: str, rng: np.random.Generator) -> str:
    """Write a word in upper case, in lower case or capitalised."""
    return (word.upper(), word, word.capitalize())[rng.choice(3, p=(0.4, 0.3, 0.3))]


def _crop(photograph: Pixels, width: int, height: int, scale: float, rng: np.random.Generator) -> Pixels:
    """A random window of the wanted shape, `scale` times the largest that fits, resized to (height, width, 3)."""
    scale *= min(photograph.shape[1] / width, photograph.shape[0] / height)
    w, h = max(1, int(width * scale)), max(1, int(height * scale))
    x, y = rng.integers(photograph.shape[1] - w + 1), rng.integers(photograph.shape[0] - h + 1)
    window = photograph[y : y + h, x : x + w]
    return np.asarray(cv2.resize(window, (width, height), interpolation=cv2.INTER_AREA))


def draw_scene(name: str, width: int, height: int, rng: np.random.Generator) -> Pixels:
    """A crop of a photograph, (height, width, 3) uint8 RGB; `name` is a key of `vocabulary.SCENES`."""
    return _crop(photographs()[name], width, height, rng.uniform(0.55, 1), rng)


def draw_background(width: int, height: int, rng: np.random.Generator) -> Pixels:
    """A fresh canvas, (height, width, 3) uint8 RGB: photograph (half of them), plain, noise or gradient."""
    kind = rng.random()
    if kind < 0.5:
        return _crop(_any_photograph(rng), width, height, rng.uniform(0.45, 1), rng)
    first, second = rng.integers(0, 256, (2, 3))
    if kind < 0.75:
        return np.full((height, width, 3), first, np.uint8)
    if kind < 0.88:
        grain = rng.integers(0, 256, (rng.integers(3, 12), rng.integers(3, 12), 3), np.uint8)
        return np.asarray(cv2.resize(grain, (width, height), interpolation=cv2.INTER_LINEAR))
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.cos(angle) * np.linspace(-0.5, 0.5, width) + np.sin(angle) * np.linspace(-0.5, 0.5, height)[:, None]
    mix = ((ramp - ramp.min()) / np.ptp(ramp))[..., None]
    return np.asarray(first + mix * (second - first), np.uint8)


def _texture(side: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """The luma of a photograph crop, (side, side, 1), of mean 0 and standard deviation 1."""
    grain = luma(_crop(_any_photograph(rng), side, side, rng.uniform(0.3, 0.8), rng))
    return np.asarray((grain - grain.mean()) / (grain.std() + 1))[..., None]


def _blend(canvas: Pixels, cover: Pixels, ink: Pixels | Colour, x: int, y: int) -> None:
    """Lay an ink over the canvas where `cover`, (h, w) uint8, says; `ink` is one colour or (h, w, 3)."""
    left, top = max(0, -x), max(0, -y)
    region = canvas[max(0, y) : y + cover.shape[0], max(0, x) : x + cover.shape[1]]
    window = np.s_[top : top + region.shape[0], left : left + region.shape[1]]
    alpha = cover[window][..., None].astype(np.uint16)
    paint = np.asarray(ink, np.uint16) if isinstance(ink, tuple) else ink[window].astype(np.uint16)
    region[:] = (region * (255 - alpha) + paint * alpha) // 255


def draw_object(canvas: Pixels, thing: Thing, box: Box, rng: np.random.Generator) -> None:
    """Draw an object into a box of the canvas, slightly tilted, half the time with a contrasting rim.

    It is textured by a photograph: a text spotter takes a flat silhouette for a character, a ring for an O.
    """
    side = min(box.width, box.height) * rng.uniform(0.78, 1)
    extent = int(np.ceil(side * 1.1))
    source = shape(thing.name)
    turn = cv2.getRotationMatrix2D((source.body.shape[1] / 2,) * 2, rng.uniform(-12, 12), 1)
    body, mark = (
        cv2.resize(cv2.warpAffine(mask, turn, mask.shape[::-1]), (extent,) * 2, interpolation=cv2.INTER_AREA)
        for mask in source
    )
    x = round(box.x + rng.uniform(0, 1) * (box.width - side) - 0.05 * side)
    y = round(box.y + rng.uniform(0, 1) * (box.height - side) - 0.05 * side)
    colour = np.clip(np.array(COLOURS[thing.colour]) + rng.integers(-14, 15, 3), 0, 255)
    if rng.random() < 0.5:
        rim = (0, 0, 0) if luma(colour) > 140 else (255, 255, 255)
        _blend(canvas, cv2.dilate(body, np.ones((3, 3), np.uint8), iterations=max(1, extent // 50)), rim, x, y)
    shaded = colour * (1 - mark[..., None] / 510) + rng.uniform(10, 55) * _texture(extent, rng)
    _blend(canvas, body, np.clip(shaded, 0, 255).astype(np.uint8), x, y)


def _contrasting(background: float, rng: np.random.Generator) -> Colour:
    """An ink whose luma is far from the background's."""
    inks = [ink for ink in INKS if abs(luma(ink) - background) >= CONTRAST]
    return inks[rng.integers(len(inks))]


def draw_word(canvas: Pixels, text: str, box: Box, rng: np.random.Generator) -> DrawnWord:
    """Draw a word as large as a box of the canvas allows, turned by at most 14 degrees.

    The word lies on a plate, has an outline, or stands plain where what is behind it is calm.

    Returns:
        The word and the tight polygon around its ink.
    """
    face = FACES[rng.integers(len(FACES))]
    angle = 0.0 if rng.random() < 0.4 else float(np.clip(rng.normal(0, 5), -14, 14))
    cos, sin = np.cos(np.radians(angle)), abs(np.sin(np.radians(angle)))
    left, top, right, bottom = _face(face, 100).getbbox(text)
    width, height = (right - left) / 100 + 0.3, (bottom - top) / 100 + 0.3
    room = box.width * rng.uniform(0.78, 0.98)
    size = max(6, int(min(room / (width * cos + height * sin), box.height / (width * sin + height * cos))))

    font, pad = _face(face, size), max(1, round(0.15 * size))
    left, top, right, bottom = (int(edge) for edge in font.getbbox(text))
    w, h = right - left + 2 * pad, bottom - top + 2 * pad
    sheet = Image.new("L", (w, h))
    ImageDraw.Draw(sheet).text((pad - left, pad - top), text, fill=255, font=font)
    ink = np.asarray(sheet)

    out_w, out_h = int(np.ceil(w * cos + h * sin)), int(np.ceil(w * sin + h * cos))
    x = round(box.x + rng.random() * max(0.0, box.width - out_w))
    y = round(box.y + rng.random() * max(0.0, box.height - out_h))
    turn = cv2.getRotationMatrix2D(((w - 1) / 2, (h - 1) / 2), angle, 1)
    turn[:, 2] += (out_w - w) / 2, (out_h - h) / 2

    behind = luma(canvas[max(0, y) : y + out_h, max(0, x) : x + out_w])
    style = rng.choice(3, p=(0.45, 0.3, 0.25))
    if style == 2 and behind.std() > 25:
        style = 1
    if style == 2:
        colour = _contrasting(float(behind.mean()), rng)
    else:
        under = INKS[rng.integers(len(INKS))]
        colour = _contrasting(float(luma(under)), rng)
        rim = np.ones((3, 3), np.uint8)
        base = np.full_like(ink, 255) if style == 0 else cv2.dilate(ink, rim, iterations=max(1, round(size / 16)))
        _blend(canvas, cv2.warpAffine(base, turn, (out_w, out_h)), under, x, y)
    _blend(canvas, cv2.warpAffine(ink, turn, (out_w, out_h)), colour, x, y)

    corners = np.array([(pad, pad, 1), (w - pad, pad, 1), (w - pad, h - pad, 1), (pad, h - pad, 1)])
    limit = (canvas.shape[1] - 1, canvas.shape[0] - 1)
    polygon = np.clip(np.rint(corners @ turn.T + (x, y)), 0, limit).astype(np.int16)
    return DrawnWord(text, polygon)


def _inset(box: Box, rng: np.random.Generator) -> Box:
    """A box of the same shape at a random place inside, of 0.55 to 1 times the size."""
    scale = rng.uniform(0.55, 1)
    x, y = (box.x, box.y) + rng.random(2) * (1 - scale) * (box.width, box.height)
    return Box(x, y, box.width * scale, box.height * scale)


def draw_picture(
    width: int,
    height: int,
    thing: Thing | None,
    texts: tuple[str, ...],
    rng: np.random.Generator,
    scene: str | None = None,
) -> Picture:
    """Draw a picture with an object, words, or both, all inside the central square that CLIP's crop keeps.

    Args:
        width, height: in pixels.
        thing: what to draw, if anything.
        texts: up to two words in the case to be drawn, from top to bottom.
        scene: the photograph behind; without it a background is drawn at random.
    """
    canvas = draw_scene(scene, width, height, rng) if scene else draw_background(width, height, rng)
    side = min(width, height)
    x, y = (width - side) / 2, (height - side) / 2
    bands: list[tuple[str | Thing, float]] = [(text, 1 / len(texts)) for text in texts]
    if thing and texts:
        share = rng.uniform(0.28, 0.38)
        bands = [(text, share) for text in texts]
        bands.insert(rng.choice((0, len(bands))), (thing, 1 - share * len(texts)))
    elif thing:
        bands = [(thing, 1.0)]
    words = []
    for content, share in bands:
        box = Box(x, y, side, side * share)
        if isinstance(content, Thing):
            draw_object(canvas, content, box if texts else _inset(box, rng), rng)
        else:
            words.append(draw_word(canvas, content, box, rng))
        y += side * share
    return Picture(canvas, tuple(words))
