"""RapidOCR 3: PP-OCRv6 small on OpenVINO, without an angle classifier.

RapidOCR's models and post-processing, but not its own call: that turns an image it cannot handle into one
without text, leaves the precision to the CPU's type, pins the threads of every process to the same cores, and
breaks a line with one full-width character in it into single characters.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from pipeline.spotting.int8 import quantise
from pipeline.spotting.int8_ranges import DETECTOR_RANGES, RECOGNISER_RANGES
from pipeline.spotting.lines import HEIGHT, Line, Quad, batches, cut, sides
from pipeline.spotting.openvino_models import HINTS, read_model, resolve_precision, sha256

MODELS = Path(rapidocr.__file__).parent / "models"
DETECTOR = "PP-OCRv6_det_small.onnx"
RECOGNISER = "PP-OCRv6_rec_small.onnx"

_REVISION = 3  # of this module: raised by whatever may change a word and is no setting

# Every shape of input needs kernels of its own, which take longer to make than to use: few shapes, and all are kept.
_SIDE_STEP = 160  # of the detector's input, whose stride is 32
_STRETCH = 0.15  # most of it, along a side, that saves filling up
_MAX_LINES = 1000
_LOW_LINES = 0.25  # share of an image's lines that must be low for it to be seen larger
_TEXT_RATIO = 0.8  # the unclip ratio whose boxes fit published ones best; the recogniser wants them larger
_GREY = 127  # the padding of a line: zero after normalisation


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
            "INFERENCE_PRECISION_HINT": HINTS[self._precision],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # all workers of a machine would be pinned to its first cores
            # Compiled kernels kept, for each shape of input: a worker that met all of 130 real images held 0.9 GB.
            "CPU_RUNTIME_CACHE_CAPACITY": 3000,
        }
        detector, recogniser = (read_model(core, MODELS / name) for name in (DETECTOR, RECOGNISER))
        if self._precision == "int8":
            quantise(detector, DETECTOR_RANGES)
            quantise(recogniser, RECOGNISER_RANGES)
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
        words = []
        for line, reading in self._read(source):
            box = line.quad + self._margin * (line.quad[::-1] - line.quad)
            length, thickness = sides(line.quad)
            end = self._margin * thickness / length
            for span, quad in split_words(reading.text, box * scale, np.clip(reading.bounds, end, 1 - end)):
                confidence = float(reading.confidences[span].mean())
                words.append(Word(reading.text[span], confidence, to_polygon(quad, width, height)))
        return tuple(words)

    def _read(self, image: Image) -> list[tuple[Line, Reading]]:
        """The lines that can be read: those of the first look in which any can."""
        for lines in self.looks(image):
            found = [
                (line, reading)
                for line, reading in zip(lines, self.recognise(lines), strict=True)
                if reading.text and reading.confidences.mean() >= self._config.text_score
            ]
            if found:
                return found
        return []

    def looks(self, image: Image) -> Iterator[list[Line]]:
        """Lines of text from top to bottom and left to right, as one look after the other finds them.

        The first is at `first_side`. A larger image in which it finds anything is then seen at `longest_side`, where
        lines do not merge that are near to each other; and at once where text is low.
        """
        first, longest = self._config.first_side, self._config.longest_side
        scale = first / max(image.shape[:2])
        boxes = self._boxes(image, first)
        larger = bool(boxes) and longest > first and scale * (1 + _STRETCH) < 1
        heights = [min(sides(box)) * scale for box in boxes]
        if not (larger and np.quantile(heights, _LOW_LINES) < self._config.low_line):
            yield [cut(image, box) for box in boxes]
        if larger:
            yield [cut(image, box) for box in self._boxes(image, longest)]

    def _boxes(self, image: Image, longest_side: int) -> list[Quad]:
        canvas, (height, width) = self.canvas(image, longest_side)
        text = self._detector(canvas, share_outputs=True)[0][:, :, :height, :width]
        boxes, _ = self._to_boxes(text, image.shape[:2])
        return [box.astype(np.float32) for box in TextDetector.sorted_boxes(boxes)]

    def canvas(self, image: Image, longest_side: int) -> tuple[Image, tuple[int, int]]:
        """The detector's input (1, H, W, 3), and how much of its height and width the image takes.

        The image is scaled down to the longest side, and to sides that the detector has kernels for: stretched where
        that is little, else filled up with black. (RapidOCR always stretches, and gives up where a side comes to
        nothing.)
        """
        scale = min(1.0, longest_side / max(image.shape[:2]))
        height, width = (_near(max(1, round(side * scale))) for side in image.shape[:2])
        canvas = np.zeros((1, _up(height), _up(width), 3), np.uint8)
        canvas[0, :height, :width] = _resize(image, height, width)
        return canvas, (height, width)

    def recognise(self, lines: Sequence[Line]) -> list[Reading]:
        """Read lines, each filled up with grey; but for rounding, no line depends on the others."""
        readings: dict[int, Reading] = {}
        for width, batch in batches(lines):
            canvas = np.full((len(batch), HEIGHT, width, 3), _GREY, np.uint8)
            for strip, index in zip(canvas, batch, strict=True):
                strip[:, : lines[index].strip.shape[1]] = lines[index].strip
            probabilities = self._recogniser(canvas, share_outputs=True)[0]
            classes = probabilities.argmax(axis=2)
            confidences = np.take_along_axis(probabilities, classes[..., None], axis=2)[..., 0]
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


def _up(side: int) -> int:
    """The next multiple of the detector's step."""
    return -(-side // _SIDE_STEP) * _SIDE_STEP
