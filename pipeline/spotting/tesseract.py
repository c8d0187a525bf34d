"""Tesseract: its own program, one process per image, so that a crash or an endless run costs that image only.

`subprocess` and no wrapper: pytesseract writes every image to a file, takes the number of threads only from this
process's own environment, and ends the worker (`SystemExit`) at a version it cannot parse.
"""

import csv
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.spotting import Image, Spotting, Word, attempt
from pipeline.spotting.boxes import to_polygon
from pipeline.spotting.config import TesseractConfig

Grey = npt.NDArray[np.uint8]
"""(H, W)."""

_WORD = "5"  # level of a row; the others are page, block, paragraph and line
_WITH_ORIENTATION = (1, 12)  # page segmentation modes that use osd.traineddata, too


class TesseractSpotter:
    """One Tesseract per image, each on one thread, `threads` of them at a time."""

    def __init__(self, config: TesseractConfig, threads: int) -> None:
        """Find the program and its languages.

        Raises:
            FileNotFoundError: one of them is not there.
        """
        binary = shutil.which("tesseract")
        if binary is None:
            raise FileNotFoundError(
                "Tesseract is not on PATH: install it (Debian, Ubuntu: tesseract-ocr) on every machine that spots text."
            )
        self._config = config
        self._threads = threads
        self._version = _ask(binary, "--version").split()[1]
        directory = config.model_directory or _tessdata(binary)
        self._models = {language: _model(directory, language) for language in _languages(config)}
        self._command = [
            *(binary, "stdin", "stdout"),
            *("--tessdata-dir", str(directory)),
            *("-l", "+".join(config.languages)),
            *("--psm", str(config.page_segmentation)),
            *("-c", "tessedit_create_tsv=1"),
        ]
        # Images side by side: two OpenMP threads in one image took seven times the CPU, and no less time.
        self._environment = os.environ | {"OMP_THREAD_LIMIT": "1"}

    def fingerprint(self) -> dict[str, Any]:
        # The time limit is for the machine's speed: it decides no word of an image that is read.
        return {
            **self._config.model_dump(exclude={"name", "gate", "model_directory", "time_limit"}),
            "languages": "+".join(self._config.languages),
            "version": self._version,
            **{f"{language}.traineddata": _sha256(file) for language, file in self._models.items()},
        }

    def spot(self, images: Sequence[Image]) -> list[Spotting]:
        with ThreadPoolExecutor(self._threads) as pool:
            return list(pool.map(partial(attempt, self._spot), images))

    def _spot(self, image: Image) -> tuple[Word, ...]:
        height, width = image.shape[:2]
        grey = _scale(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), self._config.magnification, self._config.longest_side)
        scale = np.array([width / grey.shape[1], height / grey.shape[0]])
        words = []
        for row in csv.DictReader(self._read(grey).split("\n"), delimiter="\t", quoting=csv.QUOTE_NONE):
            text, confidence = row["text"], float(row["conf"]) / 100
            if row["level"] != _WORD or confidence < self._config.min_confidence or not text.strip():
                continue
            x0, y0 = int(row["left"]), int(row["top"])
            x1, y1 = x0 + int(row["width"]), y0 + int(row["height"])
            quad = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
            words.append(Word(text, confidence, to_polygon(quad * scale, width, height)))
        return tuple(words)

    def _read(self, grey: Grey) -> str:
        """What Tesseract says of an image (H, W) of uint8, as tab-separated values.

        Raises:
            TimeoutError: it took too long.
            RuntimeError: it ended with an error.
        """
        picture = b"P5 %d %d 255\n" % grey.shape[::-1] + grey.tobytes()  # PGM, which needs no encoder
        limit = self._config.time_limit
        try:
            done = subprocess.run(  # noqa: S603 (no shell, and nothing of the image among the arguments)
                self._command, input=picture, capture_output=True, timeout=limit, env=self._environment, check=False
            )
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"Tesseract took longer than {limit} seconds (spotting.time_limit)") from None
        if done.returncode != 0:
            said = " ".join(done.stderr.decode(errors="replace").split())
            raise RuntimeError(f"Tesseract ended with status {done.returncode}: {said}")
        return done.stdout.decode()


def _languages(config: TesseractConfig) -> tuple[str, ...]:
    """Everything that a model is needed for."""
    return (*config.languages, "osd") if config.page_segmentation in _WITH_ORIENTATION else config.languages


def _tessdata(binary: str) -> Path:
    """Where this Tesseract has its models.

    Raises:
        FileNotFoundError: it does not say (before Tesseract 5).
    """
    found = re.search(r'in "(.+)" \(\d+\):', _ask(binary, "--list-langs"))
    if found is None:
        raise FileNotFoundError(f"{binary} does not say where its models are: set spotting.model_directory.")
    return Path(found[1])


def _model(directory: Path, language: str) -> Path:
    file = directory / f"{language}.traineddata"
    if not file.is_file():
        raise FileNotFoundError(
            f"Tesseract has no model of {language!r}: there is no {file}; install it (Debian, Ubuntu: "
            f"tesseract-ocr-{language.lower().replace('_', '-')}), or set spotting.model_directory to where it is."
        )
    return file


def _ask(binary: str, question: str) -> str:
    return subprocess.run([binary, question], capture_output=True, text=True, check=True).stdout  # noqa: S603 (as above)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _scale(grey: Grey, magnification: float, longest_side: int) -> Grey:
    """Magnify, but to no more than the longest side; no side comes below 1."""
    height, width = grey.shape
    scale = min(magnification, longest_side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    interpolation = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    return np.asarray(cv2.resize(grey, size, interpolation=interpolation), np.uint8)
