"""A spotter whose words the pixels alone decide: a wrong, lost or doubled image shows in the rows."""

import hashlib
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.schema import SpotStatus
from pipeline.spotting import Image, Spotting, Word


class DigestSpotter:
    """Reads a digest of its pixels in every image, and fails in one of sixteen.

    Args:
        seconds: to take for every image, so that there is time for something to happen.
    """

    def __init__(self, threads: int, device: str, seconds: float = 0.0) -> None:
        del threads, device
        self._seconds = seconds

    def fingerprint(self) -> dict[str, Any]:
        return {"engine": "digest"}

    def spot(self, images: Sequence[Image]) -> list[Spotting]:
        time.sleep(self._seconds * len(images))
        return [self._spotting(image) for image in images]

    def _spotting(self, image: Image) -> Spotting:
        digest = hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=8).digest()
        if digest[0] < 16:
            return Spotting(SpotStatus.FAILED, (), "the digest is low")
        height, width = image.shape[:2]
        corners = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], np.int16)
        return Spotting(SpotStatus.OK, (Word(digest.hex(), digest[1] / 255, corners // 2),))
