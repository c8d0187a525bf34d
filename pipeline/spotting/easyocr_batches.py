"""EasyOCR's two networks over the images of a batch, by EasyOCR's own steps around them.

No word depends on the neighbours of its image or of its line: the canvas an image is detected on follows from the
image's size, the width a line is read at from the line's shape. Images of one canvas share a call of the detector,
lines of one width a call of the recogniser, whichever image they come from.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

import cv2
import easyocr.config
import numpy as np
import numpy.typing as npt
import torch
from easyocr.craft_utils import adjustResultCoordinates, getDetBoxes
from easyocr.easyocr import get_display
from easyocr.recognition import AlignCollate, recognizer_predict
from easyocr.utils import get_image_list, group_text_box
from PIL import Image as Pictures

from pipeline.spotting import Image
from pipeline.spotting.config import EasyOCRConfig

CANVAS_STEP = 128
"""Pixels; the sides of the detector's canvases are multiples of it, where EasyOCR's own are multiples of 32. So images
of many sizes share a shape (web images lie on 9 % more pixels for it), and there are at most a hundred shapes at 1,280
pixels: EasyOCR's memory is known to grow with every new one (its pull request 1278)."""

_LINE_HEIGHT = easyocr.config.imgH  # of the recogniser's input
_OWN_STEP = 32  # of EasyOCR's canvases, beyond which it would see no text
_CPU_PIXELS = 200_000  # a CPU detects fastest on one image, and reads fastest some ten lines at once
_GPU_PIXELS = 8_000_000
_MAX_ASPECT = 100  # a longer box is a rule or a border, and reading it would take memory without bound
_MAX_LINES = 1000  # of an image; more are specks
_WEAK, _CONTRAST = 0.1, 0.5  # a line read with less confidence is read again with the contrast raised to this
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of red, green and blue, as the detector knows them

Item = TypeVar("Item")
Result = TypeVar("Result")
Shape = tuple[int, int]
"""Height and width."""
Quad = npt.NDArray[np.float64]
"""(4, 2) corners in pixels of the image, from top left clockwise."""


@dataclass(frozen=True, eq=False)
class Line:
    """A line of text, cut out of its image."""

    quad: Quad
    strip: npt.NDArray[np.uint8]
    """(64, W) grey, or (H, 64) where the line is higher than wide."""
    width: int
    """Of the recogniser's input: EasyOCR's own for the line alone, a multiple of 64."""


@dataclass(frozen=True, eq=False)
class Reading:
    """What the recogniser read in a line."""

    quad: Quad
    text: str
    confidence: float


class BatchReader:
    """Detection and recognition by the networks of an `easyocr.Reader`, on its device."""

    def __init__(self, reader: Any, config: EasyOCRConfig) -> None:
        self._easyocr = reader
        self._config = config
        self._pixels = config.batch_pixels or (_CPU_PIXELS if reader.device == "cpu" else _GPU_PIXELS)
        self._mean, self._deviation = (
            torch.tensor([255 * share for share in shares], device=reader.device).view(3, 1, 1)
            for shares in (_MEAN, _DEVIATION)
        )
        foreign = set(reader.character) - set(reader.lang_char)  # known to the model, not to the languages chosen
        self._ignored = [1 + reader.character.index(character) for character in sorted(foreign)]

    def detect(self, images: Sequence[Image]) -> list[list[Line] | Exception]:
        """The lines of each image, upright ones first, or the error it failed with."""
        return _by_shape(self._detect, images, [self._canvas(image) for image in images], self._pixels)

    def recognise(self, lines: Sequence[Line]) -> list[Reading | Exception]:
        """What each line says, or the error it failed with; the lines may be of many images."""
        return _by_shape(self._recognise, lines, [(_LINE_HEIGHT, line.width) for line in lines], self._pixels)

    def _scaled(self, image: Image) -> tuple[float, Shape]:
        """How many times larger the detector sees the image, and the size it then has."""
        height, width = image.shape[:2]
        longest = max(height, width)
        scale = min(self._config.mag_ratio * longest, self._config.canvas_size) / longest
        return scale, (int(height * scale), int(width * scale))

    def _canvas(self, image: Image) -> Shape:
        height, width = (-(-side // CANVAS_STEP) * CANVAS_STEP for side in self._scaled(image)[1])
        return height, width

    def _detect(self, images: Sequence[Image]) -> list[list[Line]]:
        canvas = self._canvas(images[0])
        if 0 in canvas:
            return [[] for _ in images]  # the detector would see no row or no column of them
        canvases = np.zeros((len(images), *canvas, 3), np.uint8)
        for filled, image in zip(canvases, images, strict=True):
            height, width = self._scaled(image)[1]
            filled[:height, :width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        with torch.inference_mode():
            pixels = torch.from_numpy(canvases).to(self._easyocr.device).permute(0, 3, 1, 2)
            maps, _ = self._easyocr.detector((pixels - self._mean) / self._deviation)
        return [self._lines(image, scores) for image, scores in zip(images, maps.cpu().numpy(), strict=True)]

    def _lines(self, image: Image, scores: npt.NDArray[np.float32]) -> list[Line]:
        """Lines by the detector's maps (H / 2, W / 2, 2) of text and links between characters."""
        config = self._config
        height, width = image.shape[:2]
        scale, scaled = self._scaled(image)
        rows, columns = (-(-side // _OWN_STEP) * _OWN_STEP // 2 for side in scaled)
        text, link = scores[:rows, :columns, 0], scores[:rows, :columns, 1]
        found, _, _ = getDetBoxes(text, link, config.text_threshold, config.link_threshold, config.low_text)
        found = [quad.astype(np.int32).ravel() for quad in adjustResultCoordinates(found, 1 / scale, 1 / scale)]
        # As `Reader.detect` has them; the function's own defaults differ.
        upright, slanted = group_text_box(
            found, slope_ths=0.1, ycenter_ths=0.5, height_ths=0.5, width_ths=0.5, add_margin=0.1
        )
        sized = [box for box in upright if max(box[1] - box[0], box[3] - box[2]) > config.min_size]
        # EasyOCR's margins reach beyond the image, and a box without area would fail the whole image.
        clipped = [[max(x0, 0), min(x1, width), max(y0, 0), min(y1, height)] for x0, x1, y0, y1 in sized]
        corners = [quad for quad in map(np.asarray, slanted) if np.ptp(quad, axis=0).max() > config.min_size]
        boxes = [box for box in clipped if _readable(box[1] - box[0], box[3] - box[2])]
        quads = [quad for quad in corners if _readable(*np.linalg.norm(quad[1:3] - quad[0:2], axis=1))]
        cuts: list[tuple[list[Any], list[Any]]] = [([box], []) for box in boxes] + [([], [quad]) for quad in quads]
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        lines = []
        for cut in cuts[:_MAX_LINES]:
            ((quad, strip),), input_width = get_image_list(*cut, grey, model_height=_LINE_HEIGHT)
            lines.append(Line(np.asarray(quad, np.float64), strip, input_width))
        return lines

    def _recognise(self, lines: Sequence[Line]) -> list[Reading]:
        read = self._read(lines, contrast=0)
        weak = [index for index, (_, confidence) in enumerate(read) if confidence < _WEAK]
        if weak:
            again = self._read([lines[index] for index in weak], contrast=_CONTRAST)
            for index, other in zip(weak, again, strict=True):
                read[index] = max(other, read[index], key=lambda one: one[1])
        arabic = self._easyocr.model_lang == "arabic"  # read from left to right
        return [
            Reading(line.quad, get_display(text) if arabic else text, float(confidence))
            for line, (text, confidence) in zip(lines, read, strict=True)
        ]

    def _read(self, lines: Sequence[Line], contrast: float) -> list[tuple[str, float]]:
        reader, width = self._easyocr, lines[0].width
        align = AlignCollate(_LINE_HEIGHT, width, keep_ratio_with_pad=True, adjust_contrast=contrast)
        strips = align([Pictures.fromarray(line.strip) for line in lines])
        read: list[tuple[str, float]] = recognizer_predict(
            reader.recognizer, reader.converter, [strips], width // 10, self._ignored, {}, device=reader.device
        )
        return read


def _by_shape(
    call: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item], shapes: Sequence[Shape], pixels: int
) -> list[Result | Exception]:
    """What `call` makes of each item, or its error; a call gets items of one shape, as many as `pixels` hold."""
    outcomes: dict[int, Result | Exception] = {}
    for shape, group in groupby(sorted(range(len(items)), key=shapes.__getitem__), key=shapes.__getitem__):
        indices, size = list(group), max(1, pixels // max(1, shape[0] * shape[1]))
        for start in range(0, len(indices), size):
            batch = indices[start : start + size]
            outcomes.update(zip(batch, _each(call, [items[index] for index in batch]), strict=True))
    return [outcomes[index] for index in range(len(items))]


def _each(call: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item]) -> list[Result | Exception]:
    """What `call` makes of each item: of all at once or, where that raises, of each alone, or its error."""
    try:
        return list(call(items))
    except torch.AcceleratorError:
        raise  # the device is lost to this process, and whatever came next would fail with it
    except Exception as error:  # noqa: BLE001 (engines raise anything; an image must not spoil the others)
        failure = error.with_traceback(None)  # which holds the memory of the call that failed
    if len(items) == 1:
        return [failure]
    warnings.warn(
        f"EasyOCR failed on {len(items)} at once and goes on one by one: {type(failure).__name__}: {failure}. If "
        "memory is short, lower spotting.batch_pixels.",
        stacklevel=2,
    )
    return [outcome for item in items for outcome in _each(call, [item])]


def unwrap(outcome: Result | Exception) -> Result:
    """The result; an error is raised."""
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _readable(width: float, height: float) -> bool:
    """Whether a box has an area and is short enough to be a line of text."""
    return min(width, height) >= 1 and max(width, height) <= _MAX_ASPECT * min(width, height)
