"""Polygons of spotted words: into the image, and out of the box of a line."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import regex

# Han and kana are written without spaces: a run of them, with the punctuation that follows, is one word, and
# ends where another script begins. Everything else ends at white space only.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}ー"
_WORD = regex.compile(rf"[{_UNSPACED}][{_UNSPACED}\p{{P}}]*|[^\s{_UNSPACED}]+")

_INT16_MAX = np.iinfo(np.int16).max


def to_polygon(points: npt.ArrayLike, width: int, height: int) -> npt.NDArray[np.int16]:
    """Round `points`, (N, 2) x and y in pixels, to whole pixels of an image of `width` by `height`.

    Clipped into [0, width - 1] x [0, height - 1], and to what int16 holds (32,767).
    """
    corner = np.minimum([width - 1, height - 1], _INT16_MAX)
    return np.clip(np.rint(points), 0, corner).astype(np.int16)


def split_words(
    text: str, quad: npt.ArrayLike, bounds: npt.ArrayLike | None = None
) -> Iterator[tuple[slice, npt.NDArray[np.float64]]]:
    """Cut a line into its words: for each the slice of `text`, never empty, and its part of the line's box.

    Args:
        text: the line as it was read.
        quad: (4, 2) corners of the line in reading direction: start and end of its top, end and start of its
            bottom.
        bounds: (len(text) + 1,) ascending, where each character begins and the last one ends, as fractions of
            the line's length. None: all characters are equally wide.
    """
    top_start, top_end, bottom_end, bottom_start = np.asarray(quad, dtype=np.float64)
    edges = np.linspace(0, 1, len(text) + 1) if bounds is None else np.asarray(bounds)
    for match in _WORD.finditer(text):
        first, last = edges[match.start()], edges[match.end()]
        word = [
            top_start + first * (top_end - top_start),
            top_start + last * (top_end - top_start),
            bottom_start + last * (bottom_end - bottom_start),
            bottom_start + first * (bottom_end - bottom_start),
        ]
        yield slice(*match.span()), np.array(word)
