"""Images where they lie: within the shards' tars, found by the offset and size that the run has stored."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline import schema
from pipeline.images import ImageError, decode
from pipeline.run import Run
from pipeline.shards import Shard
from pipeline.source import open_source
from pipeline.storage import etag_of, locate, storage_errors

IMAGES_AT_ONCE = 64
"""Images fetched together, those of one shard by one reading; their encoded bytes are in memory."""

_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True, order=True)
class Span:
    """Where an image's encoded bytes lie in the (decompressed) tar: offset and size in bytes."""

    offset: int
    size: int


@dataclass(frozen=True)
class Unavailable:
    """Why an image or its bytes cannot be had, in a sentence."""

    reason: str


class StoredImages:
    """The images of a run's samples, from its shards as they are now.

    Args:
        run: its list of shards (`shards`: by id) and its bounds on images are read now.

    Raises:
        RunError: there is no run.
    """

    def __init__(self, run: Run) -> None:
        self._limits = run.config().input.limits
        self.shards = {shard.id: shard for shard in run.collection()}

    def of(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[npt.NDArray[np.uint8] | Unavailable]:
        """The image of each row, (height, width, 3), RGB, upright, or why it cannot be had; one is decoded at a time.

        Args:
            rows: `shard`, `width`, `height`, `image_format`, `image_offset` and `image_size` of profiles. An image
                of another size or format than its row says is Unavailable, never another picture.
        """
        waiting = iter(rows)
        while some := list(islice(waiting, IMAGES_AT_ONCE)):
            stored: dict[int, bytes | Unavailable] = {}
            for shard in dict.fromkeys(row[schema.SHARD.name] for row in some):
                places = [place for place, row in enumerate(some) if row[schema.SHARD.name] == shard]
                spans = [Span(some[place]["image_offset"], some[place]["image_size"]) for place in places]
                stored |= zip(places, self._read(shard, spans), strict=True)
            for place, row in enumerate(some):
                yield self._decoded(row, stored.pop(place))

    def _read(self, shard: str, spans: Sequence[Span]) -> Sequence[bytes | Unavailable]:
        if shard not in self.shards:
            return [Unavailable(f"shards.parquet does not say where shard {shard} is")] * len(spans)
        return read_spans(self.shards[shard], spans)

    def _decoded(self, row: Mapping[str, Any], data: bytes | Unavailable) -> npt.NDArray[np.uint8] | Unavailable:
        if isinstance(data, Unavailable):
            return data
        try:
            image = decode(data, self._limits.max_pixels, self._limits.max_side)
        except ImageError as error:
            return Unavailable(f"{error.reason}: {error}")
        found, known = (image.pixels.shape[:2], image.format), ((row["height"], row["width"]), row["image_format"])
        if found != known:
            return Unavailable(f"the image decodes to {found}, the profile says {known}")
        return image.pixels


def read_spans(shard: Shard, spans: Sequence[Span]) -> list[bytes | Unavailable]:
    """The bytes of spans of one shard, in their order.

    From a plain tar only these bytes are read: by ranges on an object store, by seeking on a disk. A tar.gz is
    inflated from its start to the last of them, once. Bytes of a shard that is gone, or whose size or etag is
    not the one that the run has seen, are `Unavailable`; that is looked at after the reading, so that none is of
    a shard that changed meanwhile. So are those of a shard whose URL was signed, as no signature is stored.
    """
    try:
        fs, path = locate(shard.url)
        with storage_errors(shard.url):
            found = _inflated(fs, path, shard, spans) if _is_gzip(fs, path) else _ranges(fs, path, spans)
            fs.invalidate_cache()
            info = fs.info(path)
    except FileNotFoundError:
        return [Unavailable(f"{shard.url} is not there any more")] * len(spans)
    except (OSError, ValueError, ImportError) as error:
        return [Unavailable(str(error) or type(error).__name__)] * len(spans)
    now = info.get("size"), etag_of(info)
    if now != (shard.size, shard.etag):
        reason = f"{shard.url} has size {now[0]} and etag {now[1]}; the run has seen {shard.size} and {shard.etag}"
        return [Unavailable(reason)] * len(spans)
    return [
        data if len(data) == span.size else Unavailable(f"{shard.url} gave {len(data)} of {span.size} bytes")
        for data, span in zip(found, spans, strict=True)
    ]


def _is_gzip(fs: Any, path: str) -> bool:
    return bool(fs.cat_file(path, start=0, end=len(_GZIP_MAGIC)) == _GZIP_MAGIC)


def _ranges(fs: Any, path: str, spans: Sequence[Span]) -> list[bytes]:
    ends = [span.offset + span.size for span in spans]
    return list(fs.cat_ranges([path] * len(spans), [span.offset for span in spans], ends, on_error="raise"))


def _inflated(fs: Any, path: str, shard: Shard, spans: Sequence[Span]) -> list[bytes]:
    found = {}
    with fs.open(path, "rb") as stream:
        _, inflated = open_source(stream, shard.size)
        for span in sorted(set(spans)):
            inflated.skip_to(span.offset)
            found[span] = inflated.read(span.size)
    return [found[span] for span in spans]
