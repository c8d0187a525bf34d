"""Images where they lie: within the shards' tars, found by the offset and size that the run has stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.shards import Shard
from pipeline.source import open_source
from pipeline.storage import etag_of, locate, storage_errors

_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True, order=True)
class Span:
    """Where an image's encoded bytes lie in the (decompressed) tar: offset and size in bytes."""

    offset: int
    size: int


@dataclass(frozen=True)
class Unavailable:
    """Why bytes cannot be had, in a sentence."""

    reason: str


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
