"""RapidOCR 3: PP-OCRv6 small on OpenVINO, without an angle classifier.

RapidOCR's models and post-processing, but not its own call: that turns an image it cannot handle into one
without text, leaves the precision to the CPU's type, pins the threads of every process to the same cores, and
breaks a line with one full-width character in it into single characters.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import openvino
import rapidocr
from rapidocr.ch_ppocr_det import TextDetector
from rapidocr.ch_ppocr_det.utils import DBPostProcess

from pipeline.spotting import Image, Spotting, Word, attempt
from pipeline.spotting.boxes import split_words, to_polygon
from pipeline.spotting.config import RapidOCRConfig
from pipeline.spotting.openvino_models import read_model, resolve_precision, sha256

MODELS = Path(rapidocr.__file__).parent / "models"
DETECTOR = "PP-OCRv6_det_small.onnx"
RECOGNISER = "PP-OCRv6_rec_small.onnx"

_REVISION = 2  # of this module: raised by whatever may change a word and is no setting

# Every shape of input needs kernels of its own, which take longer to make than to use: few shapes, and all are kept.
_SIDE_STEP = 160  # of the detector's input, whose stride is 32
_STRETCH = 0.15  # most of it, along a side, that saves filling up
_MAX_LINES = 1000
_LINE_HEIGHT = 48  # of the recogniser
_WIDTH_STEP = 64  # of the recogniser's input; it was trained at 320, and reads short words as well without the padding
_NARROW = 256  # up to this width a call for four lines takes a tenth to a quarter less than four calls
_TOGETHER = 4
_MAX_WIDTH = 3840  # a line 80 times as long as high; longer ones are squeezed
_TEXT_RATIO = 0.8  # the unclip ratio whose boxes fit published ones best; the recogniser wants them larger
_GREY = 127  # the padding of a line: zero after normalisation

Quad = npt.NDArray[np.float32]
"""(4, 2) corners."""


@dataclass(frozen=True)
class Line:
    """A line of text cut out of an image."""

    quad: Quad
    """Corners in the image, in reading direction: start and end of the top, end and start of the bottom."""
    strip: Image
    """(48, W, 3) RGB, upright."""


@dataclass(frozen=True)
class Reading:
    """What the recogniser read in a line."""

    text: str
    confidences: npt.NDArray[np.float32]
    """(len(text),) of each character, in [0, 1]."""
    bounds: npt.NDArray[np.float64]
    """(len(text) + 1,) where characters begin and end, as fractions of the line's length."""


class RapidOCRSpotter:
    """Detect lines, then recognise them."""

    def __init__(self, config: RapidOCRConfig, threads: int) -> None:
        """Load both models on the CPU.

        Raises:
            FileNotFoundError: the installed RapidOCR does not carry the models.
            ValueError: bf16 is asked for and the CPU does not have it.
        """
        self._config = config
        # Share of a line's height, on each side: a long region of height h grew to (1 + ratio) h.
        self._margin = (config.unclip_ratio - _TEXT_RATIO) / (2 * (1 + config.unclip_ratio))
        core = openvino.Core()
        self._precision = resolve_precision(config.precision, core)
        properties = {
            "INFERENCE_PRECISION_HINT": {"bf16": "bf16", "fp32": "f32"}[self._precision],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # all workers of a machine would be pinned to its first cores
            # Compiled kernels kept: some 70 and 4 MB for each shape of input, of which there are 36 up to 960 pixels.
            "CPU_RUNTIME_CACHE_CAPACITY": 3000,
        }
        detector, recogniser = (read_model(core, MODELS / name) for name in (DETECTOR, RECOGNISER))
        alphabet = recogniser.get_rt_info()["framework"]["character"].value.splitlines()
        self._alphabet = ("", *alphabet, " ")  # the first class is CTC's blank, the last one the space
        self._detector = core.compile_model(detector, "CPU", properties)
        self._recogniser = core.compile_model(recogniser, "CPU", properties)
        self._to_boxes = DBPostProcess(
            thresh=config.pixel_threshold,
            box_thresh=config.box_threshold,
            max_candidates=_MAX_LINES,
            unclip_ratio=config.unclip_ratio,
            score_mode="fast",
            use_dilation=True,
        )

    def fingerprint(self) -> dict[str, Any]:
        return {
            **self._config.model_dump(exclude={"name", "gate"}),
            "revision": _REVISION,
            "precision": self._precision,
            "language": "multi",
            "detector": sha256(MODELS / DETECTOR),
            "recogniser": sha256(MODELS / RECOGNISER),
        }

    def spot(self, images: Sequence[Image]) -> list[Spotting]:
        return [attempt(self._spot, image) for image in images]

    def _spot(self, image: Image) -> tuple[Word, ...]:
        height, width = image.shape[:2]
        source = _shrink(image, self._config.recognition_side)
        scale = np.array([width / source.shape[1], height / source.shape[0]])
        lines = self.detect(source)
        words = []
        for line, reading in zip(lines, self.recognise(lines), strict=True):
            if not reading.text or reading.confidences.mean() < self._config.text_score:
                continue
            box = line.quad + self._margin * (line.quad[::-1] - line.quad)
            end = self._margin * _LINE_HEIGHT / line.strip.shape[1]
            for span, quad in split_words(reading.text, box * scale, np.clip(reading.bounds, end, 1 - end)):
                confidence = float(reading.confidences[span].mean())
                words.append(Word(reading.text[span], confidence, to_polygon(quad, width, height)))
        return tuple(words)

    def detect(self, image: Image) -> list[Line]:
        """Lines of text from top to bottom and left to right.

        The image is scaled to the longest side, and to sides that the detector has kernels for: stretched where that
        is little, else filled up with black. (RapidOCR always stretches, and gives up where a side comes to nothing.)
        """
        scale = min(1.0, self._config.longest_side / max(image.shape[:2]))
        height, width = (_near(max(1, round(side * scale))) for side in image.shape[:2])
        canvas = np.zeros((1, _up(height, _SIDE_STEP), _up(width, _SIDE_STEP), 3), np.uint8)
        canvas[0, :height, :width] = _resize(image, height, width)
        text = self._detector(canvas, share_outputs=True)[0][:, :, :height, :width]
        boxes, _ = self._to_boxes(text, image.shape[:2])
        return [_cut(image, box.astype(np.float32)) for box in TextDetector.sorted_boxes(boxes)]

    def recognise(self, lines: Sequence[Line]) -> list[Reading]:
        """Read lines, each filled up with grey; but for rounding, no line depends on the others."""
        readings: dict[int, Reading] = {}
        for width, batch in _batches(lines):
            canvas = np.full((len(batch), _LINE_HEIGHT, width, 3), _GREY, np.uint8)
            for strip, index in zip(canvas, batch, strict=True):
                strip[:, : lines[index].strip.shape[1]] = lines[index].strip
            probabilities = self._recogniser(canvas, share_outputs=True)[0]
            classes, confidences = probabilities.argmax(axis=2), probabilities.max(axis=2)
            for row, index in enumerate(batch):
                share = lines[index].strip.shape[1] / width
                readings[index] = self._decode(classes[row], confidences[row], share)
        return [readings[index] for index in range(len(lines))]

    def _decode(self, classes: npt.NDArray[np.int64], confidences: npt.NDArray[np.float32], share: float) -> Reading:
        """Greedy CTC over (T,) columns, of which the line takes the first `share`; characters meet midway."""
        kept = (classes != 0) & np.append(True, classes[1:] != classes[:-1])
        centres = (np.flatnonzero(kept) + 0.5) / (len(classes) * share)
        bounds = np.clip(np.concatenate([[0], (centres[1:] + centres[:-1]) / 2, [1]]), 0, 1)
        return Reading("".join(self._alphabet[c] for c in classes[kept]), confidences[kept], bounds)


def _shrink(image: Image, longest_side: int) -> Image:
    """Scale down to the longest side, no side below 1; an image within it is returned as it is."""
    height, width = image.shape[:2]
    scale = longest_side / max(height, width)
    if scale >= 1:
        return image
    return _resize(image, max(1, round(height * scale)), max(1, round(width * scale)))


def _resize(image: Image, height: int, width: int) -> Image:
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=interpolation), np.uint8)


def _near(side: int) -> int:
    """The nearest multiple of the detector's step where it is near, else the side as it is."""
    nearest = round(side / _SIDE_STEP) * _SIDE_STEP
    return nearest if abs(nearest - side) <= _STRETCH * side else side


def _cut(image: Image, quad: Quad) -> Line:
    """Cut a line out of the image, upright and at the recogniser's height.

    As in RapidOCR, one at least 1.5 times as high as wide is read from its top right corner downwards.
    """
    width, height = _sides(quad)
    if height >= 1.5 * width:
        quad, width, height = np.roll(quad, -1, axis=0), height, width
    length = min(math.ceil(_LINE_HEIGHT * width / height), _MAX_WIDTH)
    corners = np.array([[0, 0], [length, 0], [length, _LINE_HEIGHT], [0, _LINE_HEIGHT]], np.float32)
    strip = cv2.warpPerspective(
        image,
        cv2.getPerspectiveTransform(quad, corners),
        (length, _LINE_HEIGHT),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return Line(quad, np.asarray(strip, np.uint8))


def _sides(quad: Quad) -> tuple[float, float]:
    """The longer ones of top and bottom, and of left and right."""
    top, right, bottom, left = np.linalg.norm(np.roll(quad, -1, axis=0) - quad, axis=1)
    return max(top, bottom), max(left, right)


def _batches(lines: Sequence[Line]) -> Iterator[tuple[int, list[int]]]:
    """Widths of input and the lines that share a call, four or one: few shapes."""

    def padded(index: int) -> int:
        return _up(lines[index].strip.shape[1], _WIDTH_STEP)

    for width, group in groupby(sorted(range(len(lines)), key=padded), key=padded):
        indices = list(group)
        whole = len(indices) // _TOGETHER * _TOGETHER if width <= _NARROW else 0
        for start in range(0, whole, _TOGETHER):
            yield width, indices[start : start + _TOGETHER]
        for index in indices[whole:]:
            yield width, [index]


def _up(size: int, step: int) -> int:
    """The next multiple of a step."""
    return -(-size // step) * step
