"""A spotter that is slow in one process, whichever is the first."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.spotting import Spotting
from tests.e2e.blank_spotter import BlankSpotter


class SlowSpotter(BlankSpotter):
    """Says of every image that it has no text, after so many seconds in the process that is the first to spot."""

    def __init__(self, threads: int, device: str, folder: str, seconds: float) -> None:
        super().__init__(threads, device)
        self._mark = Path(folder) / "slow"
        self._slowness = seconds
        self._seconds: float | None = None

    def spot(self, images: Sequence[np.ndarray]) -> list[Spotting]:
        if self._seconds is None:
            self._seconds = self._slowness if self._is_first() else 0.0
        time.sleep(self._seconds * len(images))
        return super().spot(images)

    def _is_first(self) -> bool:
        try:
            os.close(os.open(self._mark, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True
