"""A recogniser of PP-OCR's: what stands in lines of text, and how sure it is of every character."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import openvino

from pipeline.spotting.lines import HEIGHT, Line, batches

_GREY = 127  # the padding of a line: zero after normalisation


@dataclass(frozen=True)
class Reading:
    """What a recogniser read in a line."""

    text: str
    confidences: npt.NDArray[np.float32]
    """(len(text),) of each character, in [0, 1]."""
    bounds: npt.NDArray[np.float64]
    """(len(text) + 1,) where characters begin and end, as fractions of the line's length."""

    @property
    def confidence(self) -> float:
        """Mean of the characters'; 0 where nothing was read."""
        return float(self.confidences.mean()) if self.text else 0.0


class Recogniser:
    """A model of (N, 48, W, 3) RGB of uint8 that gives (N, T, classes) of probability, and the classes' characters."""

    def __init__(self, network: openvino.CompiledModel, characters: Sequence[str]) -> None:
        self._network = network
        self._alphabet = ("", *characters, " ")  # the first class is CTC's blank, the last one the space

    def __call__(self, lines: Sequence[Line]) -> list[Reading]:
        """Read lines, each filled up with grey; but for rounding, no line depends on the others."""
        readings: dict[int, Reading] = {}
        for width, batch in batches(lines):
            canvas = np.full((len(batch), HEIGHT, width, 3), _GREY, np.uint8)
            for strip, index in zip(canvas, batch, strict=True):
                strip[:, : lines[index].strip.shape[1]] = lines[index].strip
            probabilities = self._network(canvas, share_inputs=True, share_outputs=True)[0]
            classes = probabilities.argmax(axis=2)
            confidences = probabilities.max(axis=2)
            for row, index in enumerate(batch):
                share = lines[index].strip.shape[1] / width
                readings[index] = self._decode(classes[row], confidences[row], share)
        return [readings[index] for index in range(len(lines))]

    def _decode(self, classes: npt.NDArray[np.int64], confidences: npt.NDArray[np.float32], share: float) -> Reading:
        """Greedy CTC over (T,) columns, of which the line takes the first `share`; characters meet midway."""
        kept = (classes != 0) & np.append(True, classes[1:] != classes[:-1])
        centres = (np.flatnonzero(kept) + 0.5) / (len(classes) * share)
        bounds = np.clip(np.concatenate([[0], (centres[1:] + centres[:-1]) / 2, [1]]), 0, 1)
        return Reading("".join(self._alphabet[c] for c in classes[kept]), confidences[kept], bounds)
