"""A tar archive as a forward stream of members that survives damage and reports every stretch of it.

Headers are parsed by `tarfile.TarInfo.frombuf`; the loop over them is here because tarfile's own stops
without an error at a bad header and reads extended headers of any size into memory.
"""

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from pipeline.schema import RejectReason
from pipeline.source import CHUNK, Source, open_source

MAX_EXTENDED_HEADER = 2**20
MAX_NAME = 4096  # PATH_MAX of Linux

_BLOCK = tarfile.BLOCKSIZE
_ZEROS = bytes(_BLOCK)
_MAGIC = re.compile(rb"ustar(?:\x0000|  \x00)")  # POSIX and GNU
_MAGIC_OFFSET = 257
_REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_EXTENDED = (*_PAX, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_PAX_RECORD = re.compile(rb"([1-9]\d{0,6}) ([^=]+)=")


class TruncatedMemberError(EOFError):
    """The archive ends inside the member."""


@dataclass(frozen=True)
class Damage:
    """One damaged stretch of the archive: BAD_HEADER, NO_END_MARKER, DATA_AFTER_END or CORRUPT_STREAM.

    `offset` is where it begins, in bytes of the (decompressed) tar.
    """

    reason: RejectReason
    message: str
    offset: int


@dataclass(frozen=True)
class Member:
    """One member; `offset` is where its data begin in the (decompressed) tar, `size` what its header says.

    `size` is hostile until compared with a limit. `is_file` is false for links, directories, devices, sparse
    files and files whose name was lost with a damaged extended header.
    """

    name: str
    offset: int
    size: int
    is_file: bool
    _source: Source = field(repr=False, compare=False)

    def read(self) -> bytes:
        """The member's data, once, before the next member is asked for.

        Raises TruncatedMemberError if the archive ends inside them.
        """
        if self._source.position != self.offset:
            raise ValueError(f"the stream has moved past member {self.name!r}")
        data = self._source.read(self.size)
        if len(data) < self.size:
            raise TruncatedMemberError(f"{len(data)} of {self.size} bytes of member {self.name[:200]!r}")
        return data


def read_members(stream: BinaryIO, length: int | None = None) -> Iterator[Member | Damage]:
    """Members and damage of the tar or tar.gz (by its magic bytes) in `stream`, in their order.

    `stream` stands at its start; `length` is the stored object's length in bytes, None if unknown. The
    archive is complete if no Damage came. A member that is not read is seeked over where the stream can,
    else read in chunks. After damage, reading goes on at the next header with a valid checksum and the ustar
    magic, aligned or not (a download may have been appended to a partial one).

    Raises ShortReadError when the stream ends before or after `length`.
    """
    stored, source = open_source(stream, length)
    yield from _members(source)
    stored.drain()


def _members(source: Source) -> Iterator[Member | Damage]:
    shared: dict[bytes, bytes] = {}  # pax records of the whole archive
    own: dict[bytes, bytes] = {}  # and of the next member
    lost = False  # the next member's extended header is damaged
    ended = False
    cut = ""
    while len(block := source.read(_BLOCK)) == _BLOCK:
        offset = source.position - _BLOCK
        if block == _ZEROS:
            ended |= source.skip_zeros() >= _BLOCK
            if source.has_more:
                yield _resync(source, RejectReason.DATA_AFTER_END, "data after the end of the archive")
                own, lost = {}, False
            continue
        header = _header(block)
        if header is None:
            source.put_back(block)
            yield _resync(source, RejectReason.BAD_HEADER, "not a tar header")
            own, lost = {}, False
            continue
        ended = False

        if header.type in _EXTENDED:
            end = source.position + _padded(header.size)
            try:
                if header.size > MAX_EXTENDED_HEADER:
                    raise ValueError(f"{header.size} bytes are too many")
                payload = source.read(header.size)
                if len(payload) < header.size:
                    break
                if header.type in _PAX:
                    own = _pax_records(payload) | own  # the first wins, as in tarfile
                elif header.type == tarfile.XGLTYPE:
                    shared |= _pax_records(payload)
                elif header.type == tarfile.GNUTYPE_LONGNAME:
                    own = {b"path": _bounded_name(payload.partition(b"\0")[0])} | own
            except ValueError as error:
                message = f"extended header, its member is skipped: {error}"
                yield Damage(RejectReason.BAD_HEADER, message, offset)
                lost = True
            source.skip_to(end)
            continue

        extended = header.type == tarfile.GNUTYPE_SPARSE and block[482:483] != b"\0"
        while extended:
            extended = source.read(_BLOCK)[504:505] not in (b"", b"\0")
        records = shared | own
        name = records[b"path"].decode("utf-8", "backslashreplace") if b"path" in records else header.name
        holds_data = header.isreg() or header.type not in tarfile.SUPPORTED_TYPES
        size = int(records.get(b"size", header.size)) if holds_data else 0
        is_file = header.type in _REGULAR and b"sparse" not in records and not lost
        own, lost = {}, False
        member = Member(name, source.position, size, is_file, source)
        yield member
        source.skip_to(member.offset + _padded(size))
        if source.position < member.offset + size:
            cut = f" inside member {name[:200]!r}"
    if source.error is not None:
        yield Damage(RejectReason.CORRUPT_STREAM, source.error, source.position)
    elif not ended:
        message = f"the archive ends{cut} without end-of-archive blocks"
        yield Damage(RejectReason.NO_END_MARKER, message, source.position)


def _header(block: bytes) -> tarfile.TarInfo | None:
    try:
        # Arrow takes no lone surrogates, hence not tarfile's surrogateescape.
        header = tarfile.TarInfo.frombuf(block, "utf-8", "backslashreplace")
    except tarfile.HeaderError:
        return None
    return header if header.size >= 0 else None


def _resync(source: Source, reason: RejectReason, what: str) -> Damage:
    """Move to the next valid header, or before the archive's last zeros. Returns the damage passed over."""
    start = source.position
    window = b""
    found = None
    while found is None and (chunk := source.read(CHUNK)):
        window = window[-2 * _BLOCK :] + chunk
        for match in _MAGIC.finditer(window):
            at = match.start() - _MAGIC_OFFSET
            block = window[at : at + _BLOCK] if at >= 0 else b""
            if len(block) == _BLOCK and _header(block) is not None:
                found = window[at:]
                break
    if found is None:
        found = bytes(min(len(window) - len(window.rstrip(b"\0")), 2 * _BLOCK))
    source.put_back(found)
    return Damage(reason, f"{what}: {source.position - start} bytes passed over", start)


def _pax_records(payload: bytes) -> dict[bytes, bytes]:
    """Path and size of a pax extended header, and a mark if the file is sparse (POSIX.1-2001, "pax").

    Raises ValueError for records that are malformed or absurd.
    """
    kept = {}
    at = 0
    while at < len(payload):
        match = _PAX_RECORD.match(payload, at)
        end = at + int(match[1]) if match else 0
        if match is None or not match.end() < end <= len(payload) or payload[end - 1 : end] != b"\n":
            raise ValueError("malformed pax record")
        key, value = match[2], payload[match.end() : end - 1]
        if key == b"path" and value:
            kept[key] = _bounded_name(value.rstrip(b"/"))
        elif key == b"size":
            if not value.isdigit() or len(value) > 20:
                raise ValueError("malformed pax size")
            kept[key] = value
        elif key.startswith(b"GNU.sparse."):
            kept[b"sparse"] = b""
        at = end
    return kept


def _bounded_name(name: bytes) -> bytes:
    if len(name) > MAX_NAME:
        raise ValueError(f"a name of {len(name)} bytes")
    return name


def _padded(size: int) -> int:
    """`size` rounded up to whole blocks."""
    return -(-size // _BLOCK) * _BLOCK
