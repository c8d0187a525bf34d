"""The images of a shard, opened in the order of the tar: one after the other, or by threads ahead of the models."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from pipeline.batches import BATCH_PIXELS, BLANK, Sample
from pipeline.config import InputLimits
from pipeline.images import DecodedImage, ImageError, decode, pixel_count
from pipeline.samples import RawSample, Reject
from pipeline.shards import Shard, sample_uid
from pipeline.spotting import Image
from pipeline.stages import Stages

Item = RawSample | Reject
Opened = Sample | Reject


@dataclass(frozen=True)
class Wanted:
    """What the models want of an image.

    Attributes:
        whole: all of its pixels. Else a sample's image may be a reduced copy.
        crop: makes what CLIP sees of them, in any thread; None: CLIP wants nothing.
        least_side: for CLIP a JPEG may be decoded smaller, but for so many pixels along a side; None: it may not.
    """

    whole: bool = True
    crop: Callable[[Image], Image] | None = None
    least_side: int | None = None


class Decoder:
    """Opens images, and makes of each what CLIP wants to see.

    A GPU waits for nothing but for what comes in time: decoding and resizing let go of Python's lock, so threads do
    both while it computes. On a CPU that the models fill, they would only take from each other.

    Args:
        limits: of an image.
        threads: that open images ahead; 0: they are opened when they are asked for.
        ahead: images that may be open before they are asked for. They are no larger than a batch may be.
    """

    def __init__(self, limits: InputLimits, threads: int = 0, ahead: int = 1) -> None:
        self._limits = limits
        self.threads = threads
        self._ahead = ahead

    def __call__(
        self,
        shard: Shard,
        source: Iterable[Item],
        crashed: Mapping[int, str],
        stages: Stages,
        wanted: Wanted,
    ) -> Iterator[Opened]:
        """What comes of each item, in order; stage `decode` is the time that the caller waits for it.

        Args:
            shard: where the items come from.
            source: its samples and rejects.
            crashed: index to crash of the images that must not be opened: blank ones stand for them.
            stages: counts the seconds.
            wanted: of each image.
        """
        open_ = partial(self._open, shard, crashed, wanted)
        results = self._in_threads(open_, source) if self.threads else (partial(open_, item) for item in source)
        for result in results:
            with stages.time("decode"):
                opened = result()
            yield opened

    def _in_threads(self, open_: Callable[[Item], Opened], source: Iterable[Item]) -> Iterator[Callable[[], Opened]]:
        waiting: deque[tuple[Future[Opened], int]] = deque()
        pixels = 0
        with ThreadPoolExecutor(self.threads) as pool:
            try:
                for item in source:
                    size = _size(item)
                    while waiting and (len(waiting) == self._ahead or pixels + size > BATCH_PIXELS):
                        first, its = waiting.popleft()
                        pixels -= its
                        yield first.result
                    waiting.append((pool.submit(open_, item), size))
                    pixels += size
                for last, _ in waiting:
                    yield last.result
            finally:
                pool.shutdown(cancel_futures=True)

    def _open(self, shard: Shard, crashed: Mapping[int, str], wanted: Wanted, item: Item) -> Opened:
        if isinstance(item, Reject):
            return item
        crash, image = crashed.get(item.index), BLANK
        seen = image.pixels
        if crash is None:
            try:
                image = self._decode(item, None if wanted.whole else wanted.least_side)
                seen = image.pixels
                if wanted.crop and wanted.whole and wanted.least_side:
                    seen = self._decode(item, wanted.least_side).pixels
            except ImageError as error:
                return Reject(item.index, item.key, error.reason, str(error), item.image_offset)
        uid = sample_uid(shard.id, item.index, item.key, item.metadata)
        return Sample(item, image, uid, crash, wanted.crop(seen) if wanted.crop else None)

    def _decode(self, item: RawSample, least_side: int | None) -> DecodedImage:
        return decode(item.image, self._limits.max_pixels, self._limits.max_side, least_side)


def _size(item: Item) -> int:
    """Pixels that it will have; of one that will have few, but many bytes, a third of these."""
    return max(pixel_count(item.image), len(item.image) // 3) if isinstance(item, RawSample) else 0
