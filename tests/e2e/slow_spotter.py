"""A spotter that is slow in one process, whichever is the first."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.spotting import Spotting
from tests.e2e.blank_spotter import BlankSpotter


class SlowSpotter(BlankSpotter):
    """Says of every image that it has no text, after so many seconds in the process that first marked the folder."""

    def __init__(self, threads: int, device: str, folder: str, seconds: float) -> None:
        super().__init__(threads, device)
        self._seconds = seconds
        try:
            os.close(os.open(Path(folder) / "slow", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            self._seconds = 0.0

    def spot(self, images: Sequence[np.ndarray]) -> list[Spotting]:
        time.sleep(self._seconds * len(images))
        return super().spot(images)
