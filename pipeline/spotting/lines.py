"""Lines of text cut out of an image, at the size at which the recogniser takes them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.spotting import Image

HEIGHT = 48
"""Of the recogniser's input, in pixels."""

# Every width of input needs kernels of its own, which take longer to make than to use: few widths, and all are kept.
_STEP, _WIDE_STEP = 32, 64
_NARROW = 256  # up to this width steps are small
# A call for several lines takes less than one for each, until it is this large.
_TOGETHER = (8, 4, 2, 1)
_TOGETHER_WIDTH = 1024
_SQUEEZED = 0.8  # to no less of its length, which costs few words; they were trained on lines squeezed into 320 pixels
_MOST_LENGTH = 3840  # a line 80 times as long as high; longer ones are squeezed more

Quad = npt.NDArray[np.float32]
"""(4, 2) corners."""


@dataclass(frozen=True)
class Line:
    """A line of text cut out of an image."""

    quad: Quad
    """Corners in the image, in reading direction: start and end of the top, end and start of the bottom."""
    strip: Image
    """(48, W, 3) RGB, upright, squeezed where that saves filling up."""

    def runs_downwards(self) -> bool:
        """Whether it does so more than sideways."""
        across, down = abs(self.quad[1] - self.quad[0])
        return bool(down > across)

    def turned(self) -> "Line":
        """The same, read from its other end."""
        return Line(np.roll(self.quad, 2, axis=0), self.strip[::-1, ::-1])


def cut(image: Image, quad: Quad) -> Line:
    """Cut a line out of the image, upright and at the recogniser's height.

    As in RapidOCR, one at least 1.5 times as high as wide is read from its top right corner downwards.
    """
    width, height = sides(quad)
    if height >= 1.5 * width:
        quad, width, height = np.roll(quad, -1, axis=0), height, width
    natural = min(math.ceil(HEIGHT * width / height), _MOST_LENGTH)
    length = min(natural, input_width(math.ceil(natural * _SQUEEZED)))
    corners = np.array([[0, 0], [length, 0], [length, HEIGHT], [0, HEIGHT]], np.float32)
    strip = cv2.warpPerspective(
        image,
        cv2.getPerspectiveTransform(quad, corners),
        (length, HEIGHT),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return Line(quad, np.asarray(strip, np.uint8))


def sides(quad: Quad) -> tuple[float, float]:
    """The longer ones of top and bottom, and of left and right."""
    start, end, below_end, below_start = quad.tolist()
    top, bottom = math.dist(start, end), math.dist(below_end, below_start)
    left, right = math.dist(start, below_start), math.dist(end, below_end)
    return max(top, bottom), max(left, right)


def input_width(length: int) -> int:
    """The least width of input that holds so many pixels."""
    step = _STEP if length <= _NARROW else _WIDE_STEP
    return -(-length // step) * step


def batches(lines: Sequence[Line]) -> Iterator[tuple[int, list[int]]]:
    """Widths of input and the lines that share a call: few shapes."""

    def width_of(index: int) -> int:
        return input_width(lines[index].strip.shape[1])

    for width, group in groupby(sorted(range(len(lines)), key=width_of), key=width_of):
        indices = list(group)
        for most in _TOGETHER:
            while len(indices) >= most and (most == 1 or most * width <= _TOGETHER_WIDTH):
                yield width, indices[:most]
                indices = indices[most:]
