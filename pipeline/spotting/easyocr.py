"""EasyOCR: CRAFT finds boxes, a CRNN reads them, image by image, and no default of its own decides.

Given an array, its `readtext` detects on it as RGB and turns it grey as BGR; here each step gets its own
image. Quantisation is off: torch's is deprecated, and EasyOCR swallows its failure. Its weights are torch
pickles, which it loads only if their MD5 is that of its release.
"""

import hashlib
import socket
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import easyocr
import numpy as np
import numpy.typing as npt
import torch
from easyocr.config import MODULE_PATH, detection_models, recognition_models
from filelock import FileLock

from pipeline.spotting import Image, Spotting, Word, attempt
from pipeline.spotting.boxes import split_words, to_polygon
from pipeline.spotting.config import EasyOCRConfig

_MAX_ASPECT = 100  # a longer box is a rule or a border, and reading it would take memory without bound
_TIMEOUT = 20  # seconds without a byte until a download has failed

# EasyOCR asks for pinned memory on a CPU, too, and torch says each time that there is none to pin.
warnings.filterwarnings("ignore", "'pin_memory' argument is set as true but no accelerator is found")


class EasyOCRSpotter:
    """One image at a time through EasyOCR's detection and recognition."""

    def __init__(self, config: EasyOCRConfig, device: str) -> None:
        """Load the weights; with `config.download`, fetch them first if they are not there.

        Raises:
            FileNotFoundError: the weights are not there, or are not EasyOCR's.
            ConnectionError: they could not be fetched.
            ValueError: EasyOCR has no model for these languages together.
        """
        self._config = config
        self._files = weight_files(config)
        try:
            reader = _open(config, self._files, device)
        except FileNotFoundError as error:
            if not config.download:
                raise FileNotFoundError(_plight(self._files, error)) from error
            fetch(config)
            reader = _open(config, self._files, device)
        # On a GPU EasyOCR wraps its models to spread over all it sees; a worker has one.
        reader.detector = getattr(reader.detector, "module", reader.detector)
        reader.recognizer = getattr(reader.recognizer, "module", reader.recognizer)
        self._reader = reader
        tf32 = device != "cpu" and torch.backends.cudnn.allow_tf32 and torch.cuda.is_tf32_supported()
        self._precision = "tf32" if tf32 else "fp32"

    def fingerprint(self) -> dict[str, Any]:
        detector, recogniser = (hashlib.sha256(file.read_bytes()).hexdigest() for file in self._files)
        return {
            **self._config.model_dump(exclude={"name", "model_directory", "download"}),
            "languages": " ".join(self._config.languages),
            "precision": self._precision,
            "detector": detector,
            "recogniser": recogniser,
        }

    def spot(self, images: Sequence[Image]) -> list[Spotting]:
        return [attempt(self._spot, image) for image in images]

    def _spot(self, image: Image) -> tuple[Word, ...]:
        height, width = image.shape[:2]
        words = []
        for quad, text, confidence in self.recognise(image, *self.detect(image)):
            for span, part in split_words(text, quad):
                polygon = to_polygon(part, width, height)
                words.append(Word(text[span], float(np.clip(confidence, 0, 1)), polygon))
        return tuple(words)

    def detect(self, image: Image) -> tuple[list[list[int]], list[npt.NDArray[np.float64]]]:
        """Lines of text: upright boxes x0, x1, y0, y1 inside the image, and quads (4, 2) of slanted ones."""
        config = self._config
        height, width = image.shape[:2]
        scale = min(config.mag_ratio, config.canvas_size / max(height, width))
        if min(height, width) * scale < 1:
            return [], []  # the detector would see no row or no column of it
        upright, slanted = self._reader.detect(
            image,
            min_size=config.min_size,
            text_threshold=config.text_threshold,
            low_text=config.low_text,
            link_threshold=config.link_threshold,
            canvas_size=config.canvas_size,
            mag_ratio=config.mag_ratio,
            reformat=False,
        )
        # EasyOCR's margins reach beyond the image, and a box without area would fail the whole image.
        clipped = [[max(x0, 0), min(x1, width), max(y0, 0), min(y1, height)] for x0, x1, y0, y1 in upright[0]]
        quads = [np.array(quad, np.float64) for quad in slanted[0]]
        return (
            [box for box in clipped if _readable(box[1] - box[0], box[3] - box[2])],
            [quad for quad in quads if _readable(*np.linalg.norm(quad[1:3] - quad[0:2], axis=1))],
        )

    def recognise(
        self, image: Image, upright: list[list[int]], slanted: list[npt.NDArray[np.float64]]
    ) -> list[tuple[npt.NDArray[np.float64], str, float]]:
        """Quad (4, 2) from top left clockwise, text and confidence of each line."""
        if not upright and not slanted:
            return []
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        lines = self._reader.recognize(grey, upright, slanted, batch_size=self._config.batch_size, reformat=False)
        return [(np.asarray(quad, np.float64), text, float(confidence)) for quad, text, confidence in lines]


def fetch(config: EasyOCRConfig) -> None:
    """Download the weights of `config` unless they are there.

    Best done once per machine, before its workers start. Workers that find nothing do it themselves: a lock
    file in the directory lets one download while the others wait.

    Raises:
        ConnectionError: the download failed.
    """
    files = weight_files(config)
    directory = files[0].parent
    directory.mkdir(parents=True, exist_ok=True)
    with FileLock(directory / "download.lock"):
        previous = socket.getdefaulttimeout()
        socket.setdefaulttimeout(_TIMEOUT)  # EasyOCR's own download would wait for ever
        try:
            _reader(config, directory, device="cpu", download=True)
        except Exception as error:
            raise ConnectionError(_plight(files, error)) from error
        finally:
            socket.setdefaulttimeout(previous)


def weight_files(config: EasyOCRConfig) -> tuple[Path, Path]:
    """Where the weights of detector and recogniser are to be.

    Raises:
        ValueError: EasyOCR has no model for these languages together.
    """
    with tempfile.TemporaryDirectory() as nowhere:
        chosen = _reader(config, Path(nowhere), device="cpu", detector=False, recognizer=False)
    recogniser = next(
        model["filename"]
        for generation in recognition_models.values()
        for model in generation.values()
        if model["characters"] == chosen.character
    )
    directory = config.model_directory or Path(MODULE_PATH) / "model"
    return directory / detection_models["craft"]["filename"], directory / recogniser


def _open(config: EasyOCRConfig, files: tuple[Path, Path], device: str) -> Any:
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"there is no {file}")
    return _reader(config, files[0].parent, device)


def _reader(config: EasyOCRConfig, directory: Path, device: str, download: bool = False, **parts: bool) -> Any:
    reader = easyocr.Reader(
        list(config.languages),
        gpu=False if device == "cpu" else device,
        model_storage_directory=str(directory),
        user_network_directory=str(directory),
        download_enabled=download,
        quantize=False,
        verbose=False,
        **parts,
    )
    sys.path.remove(str(directory))  # the reader puts it there, for networks of the user's own
    return reader


def _plight(files: tuple[Path, Path], error: Exception) -> str:
    return (
        f"EasyOCR cannot use its weights: {error}. It needs {files[0].name} and {files[1].name} in "
        f"{files[0].parent}: set spotting.download to fetch them from github.com/JaidedAI/EasyOCR, "
        "or spotting.model_directory to where they are."
    )


def _readable(width: float, height: float) -> bool:
    """Whether a box has an area and is short enough to be a line of text."""
    return min(width, height) >= 1 and max(width, height) <= _MAX_ASPECT * min(width, height)
