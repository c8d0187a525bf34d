"""The samples of a shard: tar members grouped as webdataset does, every group a sample or a reject."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

from pipeline.config import InputLimits
from pipeline.metadata import is_utf8, parse_metadata
from pipeline.schema import MetadataStatus, RejectReason
from pipeline.tar import Damage, Member, TruncatedMemberError, read_members

IMAGE_SUFFIXES = frozenset({"jpg", "jpeg", "png", "webp"})

# webdataset's base_plus_ext and skip_meta, but for dot files in folders ("dir/._x.jpg"): ignored here too.
_NAME = re.compile(r"((?:.*/)?[^./]+)\.([^/]*)")
_META = re.compile(r"__[^/]*__(/|$)")
_CUT = (RejectReason.NO_END_MARKER, RejectReason.CORRUPT_STREAM)


@dataclass(frozen=True)
class RawSample:
    """One sample as stored: the encoded image, where it lies in the (decompressed) tar, caption and json."""

    index: int
    key: str
    image: bytes
    image_offset: int
    image_size: int
    caption: str
    metadata: dict[str, Any]
    metadata_status: MetadataStatus


@dataclass(frozen=True)
class Reject:
    """What could not be used: a sample group, or (`index` and `key` None) a stretch of the archive."""

    index: int | None
    key: str | None
    reason: RejectReason
    message: str
    offset: int


@dataclass
class ReadCounts:
    """What became of the members of a shard: each is used, skipped or rejected (in a group that is)."""

    members_used: int = 0
    members_skipped: int = 0
    members_rejected: int = 0
    bytes_used: int = 0


class _Part(NamedTuple):
    offset: int
    size: int
    data: bytes | None  # None: over the limit, not read


class _Unusable(Exception):  # noqa: N818 - an outcome, not an error
    def __init__(self, reason: RejectReason, message: str) -> None:
        self.reason = reason
        self.message = message


class _Group:
    """Consecutive members of one key."""

    def __init__(self, index: int, key: str, offset: int, duplicate: bool) -> None:
        self.index = index
        self.key = key
        self.offset = offset
        self.duplicate = duplicate
        self.suffixes: dict[str, None] = {}  # ordered
        self.parts: dict[str, _Part] = {}  # image, txt, json
        self.cut: str | None = None

    def add(self, member: Member, suffix: str, limits: InputLimits) -> None:
        self.suffixes[suffix] = None
        part = "image" if suffix in IMAGE_SUFFIXES else suffix
        if part not in ("image", "txt", "json") or part in self.parts:
            return
        data = None
        if member.size <= (limits.max_image_bytes if part == "image" else limits.max_text_bytes):
            try:
                data = member.read()
            except TruncatedMemberError as error:
                self.cut = str(error)
        self.parts[part] = _Part(member.offset, member.size, data)

    def finish(self, caption_key: str, archive_cut: bool) -> RawSample | Reject:
        """The group's outcome; `archive_cut`: the archive ended without its end blocks while it was open."""
        try:
            return self._sample(caption_key)
        except _Unusable as outcome:
            reason = outcome.reason
            if archive_cut and reason in (RejectReason.HALF_SAMPLE, RejectReason.MISSING_CAPTION):
                reason = RejectReason.TRUNCATED
            return Reject(self.index, self.key, reason, outcome.message, self.offset)

    def _sample(self, caption_key: str) -> RawSample:
        if self.duplicate:
            raise _Unusable(RejectReason.DUPLICATE_KEY, "the key was already used in this shard")
        if self.cut is not None:
            raise _Unusable(RejectReason.TRUNCATED, self.cut)
        image = self.parts.get("image")
        if image is None:
            present = ", ".join(self.suffixes)
            raise _Unusable(RejectReason.HALF_SAMPLE, f"no image, only {present[:200]}")
        if image.data is None:
            raise _Unusable(RejectReason.ABSURD_SIZE, f"an image of {image.size} bytes")
        stored = self.parts.get("json")
        metadata, status = parse_metadata(stored.data) if stored else ({}, MetadataStatus.ABSENT)
        caption = self._caption(caption_key, metadata, status)
        return RawSample(self.index, self.key, image.data, image.offset, image.size, caption, metadata, status)

    def _caption(self, caption_key: str, metadata: Mapping[str, Any], status: MetadataStatus) -> str:
        if txt := self.parts.get("txt"):
            if txt.data is None:
                raise _Unusable(RejectReason.ABSURD_SIZE, f"a caption of {txt.size} bytes")
            try:
                return txt.data.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                raise _Unusable(RejectReason.CAPTION_NOT_UTF8, f"{error.reason} at {error.start}") from None
        if status is MetadataStatus.ABSENT:
            raise _Unusable(RejectReason.MISSING_CAPTION, "neither .txt nor .json")
        source = self.parts["json"]
        if source.data is None:
            raise _Unusable(RejectReason.ABSURD_SIZE, f"no .txt, and a .json of {source.size} bytes")
        if status is MetadataStatus.INVALID:
            raise _Unusable(RejectReason.BAD_JSON, "no .txt, and the .json holds no JSON object")
        caption = metadata.get(caption_key)
        if not isinstance(caption, str):
            found = "nothing" if caption is None else f"a {type(caption).__name__}"
            message = f"no .txt, and {found} under {caption_key!r} in the .json"
            raise _Unusable(RejectReason.MISSING_CAPTION, message)
        if not is_utf8(caption):
            raise _Unusable(RejectReason.CAPTION_NOT_UTF8, "lone surrogates in the .json")
        return caption


def read_samples(
    stream: BinaryIO,
    length: int | None,
    limits: InputLimits,
    caption_key: str = "caption",
    counts: ReadCounts | None = None,
) -> Iterator[RawSample | Reject]:
    """Every sample group of a shard as a RawSample or a Reject, and damage of the archive as Rejects.

    A group is a run of members with one key: folders and base name up to its first dot. The suffix is the
    rest, lower-cased; a suffix that comes again starts another group. Groups are numbered in tar order from
    0, rejected ones included. The first image is used; the caption is the .txt as it stands (without a byte
    order mark), else `caption_key` of the .json. Memory holds the shard's keys and one group's members.

    `stream` and `length` are as in `tar.read_members`; `counts` is added to. Raises ShortReadError.
    """
    counts = ReadCounts() if counts is None else counts
    seen: set[str] = set()
    group: _Group | None = None
    archive_cut = False

    def finish(group: _Group) -> RawSample | Reject:
        outcome = group.finish(caption_key, archive_cut)
        if isinstance(outcome, RawSample):
            read = [part.size for part in group.parts.values() if part.data is not None]
            counts.members_used += len(read)
            counts.members_skipped += len(group.suffixes) - len(read)
            counts.bytes_used += sum(read)
        else:
            counts.members_rejected += len(group.suffixes)
        return outcome

    index = 0
    for item in read_members(stream, length):
        if isinstance(item, Damage):
            archive_cut = item.reason in _CUT
            yield Reject(None, None, item.reason, item.message, item.offset)
            continue
        match = _NAME.fullmatch(item.name)
        if not item.is_file or match is None or _META.match(item.name):
            counts.members_skipped += 1
            continue
        key, suffix = match[1], match[2].lower()
        if group is None or key != group.key or suffix in group.suffixes:
            if group is not None:
                yield finish(group)
            group = _Group(index, key, item.offset, key in seen)
            seen.add(key)
            index += 1
        group.add(item, suffix, limits)
    if group is not None:
        yield finish(group)
