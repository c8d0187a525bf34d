"""Text spotting: the words that stand in an image, where they stand, and how sure the spotter is.

`load_spotter` is the one door to every engine; importing this module imports none of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, assert_never, runtime_checkable

import numpy as np
import numpy.typing as npt

from pipeline.schema import SpotStatus
from pipeline.spotting.config import CustomConfig, EasyOCRConfig, RapidOCRConfig, SpotterConfig, TesseractConfig

Image = npt.NDArray[np.uint8]
"""(H, W, 3) RGB."""

MAX_MESSAGE = 500


@dataclass(frozen=True, eq=False)  # a polygon has no single truth value
class Word:
    """One spotted word."""

    text: str
    """As the engine read it, without white space, not empty."""
    confidence: float
    """In [0, 1]."""
    polygon: npt.NDArray[np.int16]
    """(N, 2) x and y in whole pixels of the image given, inside it."""


@dataclass(frozen=True)
class Spotting:
    """What came of one image. No text is `ok` with no words; `failed` has no words and says why."""

    status: SpotStatus
    words: tuple[Word, ...]
    message: str | None = None


class SpotterError(RuntimeError):
    """A spotter of the user's own cannot be loaded or breaks its contract; the message names it."""


@runtime_checkable
class Spotter(Protocol):
    """An engine with its models loaded."""

    def fingerprint(self) -> dict[str, Any]:
        """Everything that decides the words, json-able and flat: engine, models by content hash, settings and
        precision as resolved. Not the number of threads."""

    def spot(self, images: Sequence[Image]) -> list[Spotting]:
        """One outcome per image, in order. An image that fails never spoils the others."""


def load_spotter(config: SpotterConfig, threads: int, device: str) -> Spotter:
    """Load the spotter of `config`.

    `threads` are the engine's own; OpenCV and torch keep to what `pipeline.threads` gave the process.
    `device` is torch's name of it, as `cpu` or `cuda`; RapidOCR and Tesseract run on the CPU whatever it is.

    Raises:
        FileNotFoundError: the engine's models are not there.
        SpotterError: a custom target does not make a `Spotter`.
        ValueError: this machine cannot run at the precision asked for.
    """
    match config:
        case RapidOCRConfig():
            from pipeline.spotting.rapidocr import RapidOCRSpotter

            return RapidOCRSpotter(config, threads)
        case EasyOCRConfig():
            from pipeline.spotting.easyocr import EasyOCRSpotter

            return EasyOCRSpotter(config, device)
        case TesseractConfig():
            from pipeline.spotting.tesseract import TesseractSpotter

            return TesseractSpotter(config, threads)
        case CustomConfig():
            from pipeline.spotting.custom import CustomSpotter

            return CustomSpotter(config, threads, device)
        case _:
            assert_never(config)


def check(image: Image) -> None:
    """Raise ValueError for what is not an image as spotters take them."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(f"not an RGB image of uint8: shape {image.shape}, {image.dtype}")


def attempt(spot: Callable[[Image], tuple[Word, ...]], image: Image) -> Spotting:
    """Spot one image; whatever goes wrong is its own failure, with the error's text as the message."""
    try:
        check(image)
        return Spotting(SpotStatus.OK, spot(image))
    except Exception as error:  # noqa: BLE001 (engines raise anything; an image must not spoil the others)
        return Spotting(SpotStatus.FAILED, (), f"{type(error).__name__}: {error}"[:MAX_MESSAGE])
