"""The samples of a shard in batches, whose composition depends on the shard alone."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.images import DecodedImage
from pipeline.samples import RawSample, Reject

BATCH_PIXELS = 64_000_000
"""Decoded pixels a batch may hold (3 bytes each), unless one image alone has more."""

BATCH_REJECTS = 1024
"""Rejects that may wait for a batch to fill: a shard can hold nothing else."""

BLANK = DecodedImage(np.full((224, 224, 3), 255, np.uint8), "PNG")
"""In the place of an image that is not opened: the others' batch stays as large, and so do their bytes."""


@dataclass(frozen=True)
class Sample:
    """A usable sample: what the shard holds of it, and its picture; or, told by `crash`, none but its place.

    `crop`: what CLIP sees of the picture, uint8 (side, side, 3); None where it is not asked to.
    """

    raw: RawSample
    image: DecodedImage
    uid: str
    crash: str | None = None
    crop: npt.NDArray[np.uint8] | None = None


def batches(items: Iterable[Sample | Reject], size: int) -> Iterator[tuple[list[Sample], list[Reject]]]:
    """Group samples by number and decoded pixels; rejects travel with the batch they were met in.

    The grouping depends on the items alone, so the same shard always gives the same batches.
    """
    samples: list[Sample] = []
    rejects: list[Reject] = []
    pixels = 0
    for item in items:
        if isinstance(item, Reject):
            rejects.append(item)
            if len(rejects) == BATCH_REJECTS:
                yield samples, rejects
                samples, rejects, pixels = [], [], 0
            continue
        height, width = item.image.size
        if samples and (len(samples) == size or pixels + height * width > BATCH_PIXELS):
            yield samples, rejects
            samples, rejects, pixels = [], [], 0
        samples.append(item)
        pixels += height * width
    if samples or rejects:
        yield samples, rejects
