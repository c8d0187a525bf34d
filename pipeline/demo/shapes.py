"""The 31 objects as ink: each a short list of strokes on the unit square, rasterised once to a pair of masks.

`BODY` strokes take the object's colour, `MARK` strokes a darker shade of it, `HOLE` strokes show the background
again. Later strokes lie over earlier ones.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 256
"""Side of a rasterised shape in pixels; larger than any object is drawn."""

Mask = NDArray[np.uint8]
Brush = Callable[[Mask, int], None]

BODY, MARK, HOLE = range(3)


class Stroke(NamedTuple):
    """One brush movement and the ink it leaves."""

    ink: int
    brush: Brush


class Shape(NamedTuple):
    """An object's coverage, 0-255, both (SIDE, SIDE): where it is, and where it is of the darker shade."""

    body: Mask
    mark: Mask


def _points(coordinates: tuple[float, ...]) -> NDArray[np.int32]:
    return np.array(np.rint(np.array(coordinates).reshape(-1, 2) * SIDE), np.int32)


def polygon(*coordinates: float, ink: int = BODY) -> Stroke:
    """A filled polygon through x, y, x, y, …"""
    return Stroke(ink, lambda mask, value: cv2.fillPoly(mask, [_points(coordinates)], value, cv2.LINE_AA))


def line(width: float, *coordinates: float, ink: int = BODY) -> Stroke:
    """A line of round ends through x, y, x, y, …"""
    thickness = round(width * SIDE)
    return Stroke(
        ink,
        lambda mask, value: cv2.polylines(mask, [_points(coordinates)], False, value, thickness, cv2.LINE_AA),
    )


def ellipse(x: float, y: float, width: float, height: float, tilt: float = 0, ink: int = BODY) -> Stroke:
    """A filled ellipse given by its centre, half axes and tilt in degrees."""
    centre, axes = (round(x * SIDE), round(y * SIDE)), (round(width * SIDE), round(height * SIDE))
    return Stroke(ink, lambda mask, value: cv2.ellipse(mask, centre, axes, tilt, 0, 360, value, -1, cv2.LINE_AA))


def disc(x: float, y: float, radius: float, ink: int = BODY) -> Stroke:
    """A filled circle."""
    return ellipse(x, y, radius, radius, ink=ink)


def arc(width: float, x: float, y: float, radius: float, start: float, end: float, ink: int = BODY) -> Stroke:
    """A part of a circle, in degrees clockwise from three o'clock."""
    centre, axes = (round(x * SIDE), round(y * SIDE)), (round(radius * SIDE),) * 2
    thickness = round(width * SIDE)
    return Stroke(
        ink,
        lambda mask, value: cv2.ellipse(mask, centre, axes, 0, start, end, value, thickness, cv2.LINE_AA),
    )


def _star(points: int, outer: float, inner: float) -> Stroke:
    angles = np.arange(2 * points) * np.pi / points - np.pi / 2
    radii = np.where(np.arange(2 * points) % 2 == 0, outer, inner)
    corners = 0.5 + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return polygon(*corners.ravel())


def _heart() -> Stroke:
    t = np.linspace(0, 2 * np.pi, 60)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return polygon(*np.stack([0.5 + x / 38, 0.46 - y / 38], axis=1).ravel())


STROKES: dict[str, tuple[Stroke, ...]] = {
    "star": (_star(5, 0.47, 0.19),),
    "heart": (_heart(),),
    "circle": (disc(0.5, 0.5, 0.42),),
    "square": (polygon(0.12, 0.12, 0.88, 0.12, 0.88, 0.88, 0.12, 0.88),),
    "triangle": (polygon(0.5, 0.08, 0.95, 0.88, 0.05, 0.88),),
    "ring": (disc(0.5, 0.5, 0.45), disc(0.5, 0.5, 0.27, ink=HOLE)),
    "cross": (
        polygon(0.36, 0.06, 0.64, 0.06, 0.64, 0.94, 0.36, 0.94),
        polygon(0.06, 0.36, 0.94, 0.36, 0.94, 0.64, 0.06, 0.64),
    ),
    "moon": (disc(0.45, 0.5, 0.43), disc(0.65, 0.42, 0.36, ink=HOLE)),
    "sun": (_star(12, 0.48, 0.33), disc(0.5, 0.5, 0.24, ink=MARK), disc(0.5, 0.5, 0.2)),
    "cloud": (
        disc(0.28, 0.6, 0.2),
        disc(0.48, 0.44, 0.25),
        disc(0.72, 0.56, 0.2),
        polygon(0.28, 0.55, 0.72, 0.5, 0.72, 0.76, 0.28, 0.8),
    ),
    "tree": (
        line(0.14, 0.5, 0.6, 0.5, 0.9, ink=MARK),
        polygon(0.5, 0.04, 0.78, 0.38, 0.22, 0.38),
        polygon(0.5, 0.18, 0.86, 0.56, 0.14, 0.56),
        polygon(0.5, 0.34, 0.94, 0.76, 0.06, 0.76),
    ),
    "house": (
        polygon(0.18, 0.45, 0.82, 0.45, 0.82, 0.93, 0.18, 0.93),
        polygon(0.5, 0.06, 0.96, 0.48, 0.04, 0.48, ink=MARK),
        polygon(0.42, 0.62, 0.6, 0.62, 0.6, 0.93, 0.42, 0.93, ink=MARK),
    ),
    "car": (
        polygon(0.04, 0.5, 0.22, 0.47, 0.34, 0.26, 0.68, 0.26, 0.8, 0.47, 0.96, 0.52, 0.96, 0.7, 0.04, 0.7),
        polygon(0.32, 0.46, 0.4, 0.32, 0.49, 0.32, 0.49, 0.46, ink=HOLE),
        polygon(0.54, 0.46, 0.54, 0.32, 0.64, 0.32, 0.71, 0.46, ink=HOLE),
        disc(0.26, 0.71, 0.12, ink=MARK),
        disc(0.74, 0.71, 0.12, ink=MARK),
    ),
    "boat": (
        polygon(0.04, 0.68, 0.96, 0.68, 0.78, 0.92, 0.22, 0.92),
        line(0.04, 0.48, 0.06, 0.48, 0.7, ink=MARK),
        polygon(0.53, 0.1, 0.88, 0.6, 0.53, 0.6),
        polygon(0.43, 0.2, 0.43, 0.6, 0.16, 0.6),
    ),
    "fish": (
        ellipse(0.42, 0.5, 0.37, 0.23),
        polygon(0.7, 0.5, 0.97, 0.26, 0.97, 0.74),
        disc(0.24, 0.44, 0.045, ink=MARK),
        arc(0.03, 0.24, 0.5, 0.17, -45, 45, ink=MARK),
    ),
    "flower": (
        *(disc(0.5 + 0.28 * np.cos(t), 0.5 + 0.28 * np.sin(t), 0.18) for t in np.arange(6) * np.pi / 3),
        disc(0.5, 0.5, 0.16, ink=MARK),
    ),
    "mushroom": (
        ellipse(0.5, 0.46, 0.45, 0.36),
        polygon(0, 0.54, 1, 0.54, 1, 0.86, 0, 0.86, ink=HOLE),
        polygon(0.38, 0.54, 0.62, 0.54, 0.68, 0.92, 0.32, 0.92, ink=MARK),
        disc(0.36, 0.3, 0.07, ink=HOLE),
        disc(0.62, 0.34, 0.08, ink=HOLE),
    ),
    "cup": (
        arc(0.08, 0.74, 0.48, 0.16, -90, 90),
        polygon(0.14, 0.22, 0.76, 0.22, 0.68, 0.82, 0.22, 0.82),
        line(0.05, 0.08, 0.88, 0.82, 0.88, ink=MARK),
    ),
    "bottle": (
        polygon(0.42, 0.14, 0.58, 0.14, 0.58, 0.34, 0.7, 0.46, 0.7, 0.96, 0.3, 0.96, 0.3, 0.46, 0.42, 0.34),
        polygon(0.4, 0.04, 0.6, 0.04, 0.6, 0.14, 0.4, 0.14, ink=MARK),
        polygon(0.3, 0.58, 0.7, 0.58, 0.7, 0.8, 0.3, 0.8, ink=MARK),
    ),
    "key": (
        disc(0.26, 0.5, 0.22),
        disc(0.26, 0.5, 0.1, ink=HOLE),
        line(0.09, 0.46, 0.5, 0.94, 0.5),
        line(0.08, 0.76, 0.5, 0.76, 0.66),
        line(0.08, 0.9, 0.5, 0.9, 0.66),
    ),
    "umbrella": (
        disc(0.5, 0.5, 0.45),
        polygon(0, 0.5, 1, 0.5, 1, 1, 0, 1, ink=HOLE),
        *(disc(x, 0.52, 0.1, ink=HOLE) for x in (0.16, 0.38, 0.62, 0.84)),
        line(0.045, 0.5, 0.3, 0.5, 0.84, ink=MARK),
        arc(0.045, 0.42, 0.84, 0.08, 0, 180, ink=MARK),
    ),
    "arrow": (polygon(0.04, 0.38, 0.54, 0.38, 0.54, 0.16, 0.96, 0.5, 0.54, 0.84, 0.54, 0.62, 0.04, 0.62),),
    "lightning": (polygon(0.6, 0.02, 0.2, 0.56, 0.46, 0.56, 0.34, 0.98, 0.8, 0.4, 0.53, 0.4, 0.72, 0.02),),
    "leaf": (
        polygon(*np.stack([0.5 + 0.34 * np.sin(t := np.linspace(0, 2 * np.pi, 40)) * np.cos(t / 2) ** 2,
                           0.06 + 0.8 * (1 - np.cos(t)) / 2], axis=1).ravel()),
        line(0.035, 0.5, 0.2, 0.5, 0.97, ink=MARK),
        line(0.03, 0.5, 0.5, 0.32, 0.38, ink=MARK),
        line(0.03, 0.5, 0.5, 0.68, 0.38, ink=MARK),
    ),
    "apple": (
        disc(0.36, 0.56, 0.28),
        disc(0.64, 0.56, 0.28),
        ellipse(0.5, 0.7, 0.3, 0.24),
        line(0.05, 0.5, 0.36, 0.54, 0.12, ink=MARK),
        ellipse(0.68, 0.17, 0.14, 0.07, -25, ink=MARK),
    ),
    "hat": (
        ellipse(0.5, 0.78, 0.47, 0.12),
        polygon(0.26, 0.78, 0.3, 0.16, 0.7, 0.16, 0.74, 0.78),
        polygon(0.27, 0.6, 0.73, 0.6, 0.74, 0.74, 0.26, 0.74, ink=MARK),
    ),
    "bell": (
        disc(0.5, 0.1, 0.06),
        disc(0.5, 0.88, 0.09, ink=MARK),
        polygon(0.22, 0.66, 0.26, 0.36, 0.34, 0.18, 0.5, 0.12, 0.66, 0.18, 0.74, 0.36, 0.78, 0.66),
        polygon(0.08, 0.82, 0.22, 0.65, 0.78, 0.65, 0.92, 0.82),
    ),
    "flag": (
        line(0.06, 0.2, 0.05, 0.2, 0.96, ink=MARK),
        polygon(0.22, 0.08, 0.92, 0.16, 0.72, 0.34, 0.92, 0.56, 0.22, 0.56),
    ),
    "ladder": (
        line(0.07, 0.3, 0.04, 0.3, 0.96),
        line(0.07, 0.7, 0.04, 0.7, 0.96),
        *(line(0.06, 0.3, y, 0.7, y) for y in (0.16, 0.33, 0.5, 0.67, 0.84)),
    ),
    "crown": (
        polygon(0.08, 0.84, 0.06, 0.26, 0.29, 0.52, 0.5, 0.14, 0.71, 0.52, 0.94, 0.26, 0.92, 0.84),
        line(0.06, 0.12, 0.76, 0.88, 0.76, ink=MARK),
        *(disc(x, y, 0.05) for x, y in ((0.06, 0.22), (0.5, 0.1), (0.94, 0.22))),
    ),
    "anchor": (
        disc(0.5, 0.15, 0.11),
        disc(0.5, 0.15, 0.05, ink=HOLE),
        line(0.08, 0.5, 0.26, 0.5, 0.9),
        line(0.07, 0.3, 0.36, 0.7, 0.36),
        arc(0.08, 0.5, 0.52, 0.38, 15, 165),
        polygon(0.04, 0.68, 0.1, 0.46, 0.24, 0.64),
        polygon(0.96, 0.68, 0.9, 0.46, 0.76, 0.64),
    ),
}  # fmt: skip


@cache
def shape(name: str) -> Shape:
    """Rasterise an object.

    Args:
        name: one of `vocabulary.OBJECTS`.
    """
    body, mark = np.zeros((SIDE, SIDE), np.uint8), np.zeros((SIDE, SIDE), np.uint8)
    for stroke in STROKES[name]:
        stroke.brush(body, 0 if stroke.ink == HOLE else 255)
        stroke.brush(mark, 255 if stroke.ink == MARK else 0)
    return Shape(body, mark)
