"""PP-OCRv6 on OpenVINO: lines found and read by its tiny models, unsure ones read again by RapidOCR's small one.

RapidOCR's post-processing, but not its own call: that turns an image it cannot handle into one without text, leaves
the precision to the CPU's type, pins the threads of every process to the same cores, and breaks a line with one
full-width character in it into single characters.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openvino
import rapidocr
from rapidocr.ch_ppocr_det import TextDetector
from rapidocr.ch_ppocr_det.utils import DBPostProcess

from pipeline.schema import SpotStatus
from pipeline.spotting import Image, Spotting, Word, attempt, check
from pipeline.spotting.boxes import split_words, to_polygon
from pipeline.spotting.config import RapidOCRConfig
from pipeline.spotting.lines import Line, Quad, cut, sides
from pipeline.spotting.openvino_models import HINTS, Colours, read_model, resolve_precision, sha256
from pipeline.spotting.recogniser import Reading, Recogniser

MODELS = Path(__file__).parent / "models"
DETECTOR = MODELS / "PP-OCRv6_det_tiny.onnx"
RECOGNISER = MODELS / "PP-OCRv6_rec_tiny.onnx"
CHARACTERS = MODELS / "ppocrv6_tiny_dict.txt"
SECOND_RECOGNISER = Path(rapidocr.__file__).parent / "models" / "PP-OCRv6_rec_small.onnx"

# ImageNet's in the order of RGB, as it was trained; RapidOCR gives it half the contrast.
_DETECTOR_COLOURS = Colours((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
_RECOGNISER_COLOURS = Colours((127.5,) * 3, (127.5,) * 3)

_REVISION = 5  # of this module: raised by whatever may change a word and is no setting

# Every shape of input needs kernels of its own, which take longer to make than to use: few shapes, and all are kept.
_SIDE_STEP = 160  # of the detector's input, whose stride is 32
_STRETCH = 0.15  # most of it, along a side, that saves filling up
_MAX_LINES = 1000
_LOW_LINES = 0.25  # share of an image's lines that must be low for it to be seen larger
_TEXT_RATIO = 0.8  # the unclip ratio whose boxes fit published ones best; the recogniser wants them larger
_MOST_WAITING = 1 << 26  # bytes of lines that wait to be recognised: 64 images of a common kind have a fifth of it


@dataclass(frozen=True)
class Found:
    """An image's size in pixels and its lines."""

    height: int
    width: int
    lines: list[Line]


class RapidOCRSpotter:
    """Detect lines, then recognise them."""

    def __init__(self, config: RapidOCRConfig, threads: int) -> None:
        """Load the models on the CPU.

        Raises:
            FileNotFoundError: the installed RapidOCR does not carry the second recogniser.
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
        detector = read_model(core, DETECTOR, _DETECTOR_COLOURS)
        first, second = (read_model(core, path, _RECOGNISER_COLOURS) for path in (RECOGNISER, SECOND_RECOGNISER))
        characters = CHARACTERS.read_text("utf-8")
        more_characters = second.get_rt_info()["framework"]["character"].value  # RapidOCR's model files hold them
        self._detector = core.compile_model(detector, "CPU", properties)
        self._first = Recogniser(core.compile_model(first, "CPU", properties), characters.splitlines())
        self._second = Recogniser(core.compile_model(second, "CPU", properties), more_characters.splitlines())
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
            "detector": sha256(DETECTOR),
            "recogniser": sha256(RECOGNISER),
            "second_recogniser": sha256(SECOND_RECOGNISER),
        }

    def spot(self, images: Sequence[Image]) -> list[Spotting]:
        """Spot the images together; where one fails, each by itself, which comes to the same words."""
        try:
            return [Spotting(SpotStatus.OK, words) for words in self._spot(images)]
        except Exception:  # noqa: BLE001 (it is met again, and told, where its image is spotted)
            return [attempt(lambda alone: next(self._spot([alone])), image) for image in images]

    def _spot(self, images: Sequence[Image]) -> Iterator[tuple[Word, ...]]:
        """Words of each image. Lines of many images are recognised in one go, as full batches take less."""
        waiting: list[Found] = []
        size = 0
        for image in images:
            check(image)
            lines = self.find(image)
            waiting.append(Found(image.shape[0], image.shape[1], lines))
            size += sum(line.strip.nbytes for line in lines)
            if size > _MOST_WAITING:
                yield from self._words(waiting)
                waiting, size = [], 0
        yield from self._words(waiting)

    def _words(self, waiting: Sequence[Found]) -> Iterator[tuple[Word, ...]]:
        readings = iter(self.recognise([line for found in waiting for line in found.lines]))
        for found in waiting:
            yield tuple(
                word
                for line, reading in islice(readings, len(found.lines))
                if reading.confidence >= self._config.text_score
                for word in self._split(line, reading, found.width, found.height)
            )

    def _split(self, line: Line, reading: Reading, width: int, height: int) -> Iterator[Word]:
        """The words of a line in an image of such a size."""
        box = line.quad + self._margin * (line.quad[::-1] - line.quad)
        length, thickness = sides(line.quad)
        end = self._margin * thickness / length
        for span, quad in split_words(reading.text, box, np.clip(reading.bounds, end, 1 - end)):
            yield Word(reading.text[span], float(reading.confidences[span].mean()), to_polygon(quad, width, height))

    def find(self, image: Image) -> list[Line]:
        """Lines of text, from top to bottom and left to right.

        Text that is low at `first_side` is found in a larger image at `longest_side`: lines near to each other merge
        where they are seen too small.
        """
        first, longest = self._config.first_side, self._config.longest_side
        source = _shrink(image, self._config.recognition_side)
        boxes = self._boxes(source, first)
        scale = first / max(source.shape[:2])
        if boxes and longest > first and scale * (1 + _STRETCH) < 1:
            heights = [min(sides(box)) * scale for box in boxes]
            if np.quantile(heights, _LOW_LINES) < self._config.low_line:
                boxes = self._boxes(source, longest)
        enlarge = np.divide(image.shape[1::-1], source.shape[1::-1]).astype(np.float32)
        lines = (cut(source, box) for box in boxes)
        return [replace(line, quad=line.quad * enlarge) for line in lines]

    def _boxes(self, image: Image, longest_side: int) -> list[Quad]:
        canvas, (height, width) = self.canvas(image, longest_side)
        text = self._detector(canvas, share_inputs=True, share_outputs=True)[0][:, :, :height, :width]
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

    def recognise(self, lines: Sequence[Line]) -> list[tuple[Line, Reading]]:
        """Read lines; those of which the first recogniser is unsure the second reads again.

        A line that runs downwards may as well run upwards, as the labels of a chart do: it is read both ways, and the
        surer reading counts. Of what only one recogniser takes for text, most is none: the second gets no line that
        the first makes nothing of. (Its reading stays, for `text_score` to drop.)
        """
        least, sure = self._config.read_again_from, self._config.read_again_below
        turned = [index for index, line in enumerate(lines) if line.runs_downwards()]
        candidates = [*lines, *(lines[index].turned() for index in turned)]
        readings = list(zip(candidates, self._first(candidates), strict=True))
        best, others = readings[: len(lines)], readings[len(lines) :]
        for index, other in zip(turned, others, strict=True):
            best[index] = max(best[index], other, key=lambda read: read[1].confidence)
        unsure = [index for index, (_, reading) in enumerate(best) if least <= reading.confidence < sure]
        again = [best[index][0] for index in unsure]
        for index, line, reading in zip(unsure, again, self._second(again), strict=True):
            best[index] = (line, reading)
        return best


def _shrink(image: Image, longest_side: int) -> Image:
    """Scale down to the longest side, no side below 1; an image within it is returned as it is."""
    height, width = image.shape[:2]
    scale = longest_side / max(height, width)
    if scale >= 1:
        return image
    return _resize(image, max(1, round(height * scale)), max(1, round(width * scale)))


def _resize(image: Image, height: int, width: int) -> Image:
    """Pixels are averaged, which takes thrice as long, only where interpolating would skip some."""
    half = 2 * height < image.shape[0] or 2 * width < image.shape[1]
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    interpolation = cv2.INTER_AREA if half and shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=interpolation), np.uint8)


def _near(side: int) -> int:
    """The nearest multiple of the detector's step where it is near, else the side as it is."""
    nearest = round(side / _SIDE_STEP) * _SIDE_STEP
    return nearest if abs(nearest - side) <= _STRETCH * side else side


def _up(side: int) -> int:
    """The next multiple of the detector's step."""
    return -(-side // _SIDE_STEP) * _SIDE_STEP
