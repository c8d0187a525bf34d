"""A spotter that some pictures kill, as crashes inside of libraries and the system's want of memory do."""

import os
import signal
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.schema import SpotStatus
from pipeline.spotting import Spotting, Word

DEADLY: dict[str, tuple[int, int, int]] = {
    "segfault": (255, 0, 101),
    "exit": (255, 0, 102),
    "killed": (255, 0, 103),
    "hang": (255, 0, 104),
    "decode": (255, 0, 105),
    "heavy": (255, 0, 106),
    "memory": (255, 0, 107),
}
"""Colours of the pictures, by what comes of them."""


class PoisonSpotter:
    """Reads of every picture how bright it is.

    Args:
        armed: whether deadly pictures kill.
    """

    def __init__(self, threads: int, device: str, armed: bool) -> None:
        self._deadly = {colour: what for what, colour in DEADLY.items()} if armed else {}
        if armed:
            from pipeline import decoding

            decode = decoding.decode

            def deadly_decode(*arguments: Any) -> Any:
                image = decode(*arguments)
                if self._of(image.pixels) == "decode":
                    os.kill(os.getpid(), signal.SIGSEGV)
                return image

            decoding.decode = deadly_decode

    def fingerprint(self) -> dict[str, Any]:
        return {"engine": "poison"}

    def spot(self, images: Sequence[np.ndarray]) -> list[Spotting]:
        return [self._spot(image, len(images)) for image in images]

    def _of(self, image: np.ndarray) -> str | None:
        return self._deadly.get(tuple(image[0, 0].tolist()))

    def _spot(self, image: np.ndarray, together: int) -> Spotting:
        match self._of(image):
            case "segfault":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "exit":
                os._exit(3)
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                time.sleep(3600)
            case "memory":
                raise MemoryError
            case "heavy" if together > 1:
                os.kill(os.getpid(), signal.SIGKILL)
        word = Word(f"{image.mean():.3f}", 1.0, np.array([[0, 0], [3, 0], [3, 3]], np.int16))
        return Spotting(SpotStatus.OK, (word,))
