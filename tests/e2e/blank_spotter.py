"""A spotter that finds no text, for tests about everything but the text."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.schema import SpotStatus
from pipeline.spotting import Spotting


class BlankSpotter:
    """Says of every image that it has no text."""

    def __init__(self, threads: int, device: str) -> None:
        del threads, device

    def fingerprint(self) -> dict[str, Any]:
        return {"engine": "blank"}

    def spot(self, images: Sequence[np.ndarray]) -> list[Spotting]:
        return [Spotting(SpotStatus.OK, ()) for _ in images]
