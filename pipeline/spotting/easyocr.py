"""EasyOCR: CRAFT finds boxes, a CRNN reads them, and no default of its own decides.

Given an array, its `readtext` detects on it as RGB and turns it grey as BGR; given several, it scales them all to
one size. Here only the steps below it are used, by `pipeline.spotting.easyocr_batches`. Quantisation is off: torch's
is deprecated, and EasyOCR swallows its failure. Its weights are torch pickles, which it loads only if their MD5 is
that of its release.
"""

import hashlib
import socket
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import easyocr
import numpy as np
import torch
from easyocr.config import MODULE_PATH, detection_models, recognition_models
from filelock import FileLock

from pipeline.schema import SpotStatus
from pipeline.spotting import Image, Spotting, Word, attempt
from pipeline.spotting.boxes import split_words, to_polygon
from pipeline.spotting.config import EasyOCRConfig
from pipeline.spotting.easyocr_batches import CANVAS_STEP, BatchReader, Reading, unwrap

_TIMEOUT = 20  # seconds without a byte until a download has failed


class EasyOCRSpotter:
    """Detect the lines of all images, then recognise them together."""

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
        self._reader = BatchReader(reader, config)
        tf32 = device != "cpu" and torch.backends.cudnn.allow_tf32 and torch.cuda.is_tf32_supported()
        self._precision = "tf32" if tf32 else "fp32"

    def fingerprint(self) -> dict[str, Any]:
        detector, recogniser = (hashlib.sha256(file.read_bytes()).hexdigest() for file in self._files)
        return {
            **self._config.model_dump(exclude={"name", "gate", "model_directory", "download", "batch_pixels"}),
            "canvas_step": CANVAS_STEP,
            "languages": " ".join(self._config.languages),
            "precision": self._precision,
            "detector": detector,
            "recogniser": recogniser,
        }

    def spot(self, images: Sequence[Image]) -> list[Spotting]:
        spottings = [attempt(lambda _: (), image) for image in images]  # what is no image fails here
        sound = [index for index, spotting in enumerate(spottings) if spotting.status is SpotStatus.OK]
        detected = self._reader.detect([images[index] for index in sound])
        queue = [line for lines in detected if not isinstance(lines, Exception) for line in lines]
        readings = iter(self._reader.recognise(queue))
        for index, lines in zip(sound, detected, strict=True):
            read = lines if isinstance(lines, Exception) else [next(readings) for _ in lines]
            spottings[index] = attempt(partial(_words, read), images[index])
        return spottings


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


def _words(readings: Sequence[Reading | Exception] | Exception, image: Image) -> tuple[Word, ...]:
    """The words of an image's lines.

    Raises:
        Exception: what the image or one of its lines failed with.
    """
    height, width = image.shape[:2]
    words = []
    for reading in map(unwrap, unwrap(readings)):
        confidence = float(np.clip(reading.confidence, 0, 1))
        for span, part in split_words(reading.text, reading.quad):
            words.append(Word(reading.text[span], confidence, to_polygon(part, width, height)))
    return tuple(words)
