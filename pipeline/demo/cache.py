"""The training pictures of the embedded CLIP, drawn once by several processes and held in memory at its input size."""

from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.demo.drawing import Pixels
from pipeline.demo.samples import Content, Kind, choose_content, draw_content, shrink

SIDE = 64
"""Side of the model's input in pixels."""

CANVAS = 128
"""Side at which training pictures are drawn before they shrink to SIDE."""

KIND_SHARES = {
    Kind.OBJECT: 0.25,
    Kind.OBJECT_WITH_WORD: 0.32,
    Kind.SIGN: 0.21,
    Kind.TWO_WORD_SIGN: 0.18,
    Kind.SCENE: 0.04,
}


class Cache(NamedTuple):
    """Every training picture: pixels (n, SIDE, SIDE, 3) uint8, kinds (n,) int8, and what they show."""

    pixels: Pixels
    kinds: NDArray[np.int8]
    contents: list[Content]


def draw_chunk(kind: Kind, seed: tuple[int, int], count: int) -> tuple[Pixels, list[Content]]:
    """Draw `count` training pictures of one kind, (count, SIDE, SIDE, 3) uint8, and say what they show."""
    rng = np.random.default_rng(seed)
    pixels = np.empty((count, SIDE, SIDE, 3), np.uint8)
    contents = [choose_content(kind, rng) for _ in range(count)]
    for row, content in enumerate(contents):
        pixels[row] = shrink(draw_content(content, CANVAS, CANVAS, rng).pixels, SIDE)
    return pixels, contents


def draw_cache(size: int, seed: int, processes: int, chunk: int = 500) -> Cache:
    """Draw every training picture once; `size` is rounded to whole chunks of one kind each."""
    kinds = [kind for kind, share in KIND_SHARES.items() for _ in range(max(1, round(size * share / chunk)))]
    seeds = [(seed, number) for number in range(len(kinds))]
    pixels = np.empty((len(kinds) * chunk, SIDE, SIDE, 3), np.uint8)
    contents: list[Content] = []
    with ProcessPoolExecutor(processes, get_context("spawn"), cv2.setNumThreads, (1,)) as pool:
        for drawn, shown in pool.map(draw_chunk, kinds, seeds, repeat(chunk)):
            pixels[len(contents) : len(contents) + chunk] = drawn
            contents += shown
    return Cache(pixels, np.repeat(np.array(kinds, np.int8), chunk), contents)
