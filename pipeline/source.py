"""An object's bytes as a forward stream that knows how many there should be, inflated where they are gzip."""

import gzip
import zlib
from io import SEEK_END
from typing import BinaryIO, cast

CHUNK = 2**16
_GZIP_MAGIC = b"\x1f\x8b"


class ShortReadError(OSError):
    """The bytes that came are not as many as the object has: transient, to be read again from the start."""


class Source:
    """Bytes read forward, counted, and held against the length they should have; some can be put back."""

    def __init__(self, stream: BinaryIO, length: int | None, end: int | None = None) -> None:
        """`length`: what the stream should hold. `end`: what a seekable stream does hold."""
        if length is not None and end is not None and length != end:
            raise ShortReadError(f"the object has {end} bytes, {length} were expected")
        self.error: str | None = None  # why the compressed stream could not be read on
        self._stream = stream
        self._length = end if length is None else length
        self._end = end
        self._taken = 0
        self._head = b""

    @property
    def position(self) -> int:
        return self._taken - len(self._head)

    def read(self, size: int) -> bytes:
        """`size` bytes, fewer only at the end."""
        parts = [self._head[:size]]
        self._head = self._head[size:]
        missing = size - len(parts[0])
        while missing and (data := self._take(missing)):
            parts.append(data)
            missing -= len(data)
        return b"".join(parts)

    def put_back(self, data: bytes) -> None:
        self._head = data + self._head

    def skip_to(self, position: int) -> None:
        """Move forward to `position`, or to the end where that comes first; seek where that is possible."""
        self._head = self._head[max(0, position - self.position) :]
        if self._end is not None:
            if position > self._taken:
                self._taken = min(position, self._end)
                self._stream.seek(self._taken)
        else:
            while position > self._taken and self._take(min(position - self._taken, CHUNK)):
                pass

    def skip_zeros(self) -> int:
        """Move forward to the next byte that is not zero, or to the end. Returns the number of zeros."""
        start = self.position
        while chunk := self.read(CHUNK):
            if rest := chunk.lstrip(b"\0"):
                self.put_back(rest)
                break
        return self.position - start

    def drain(self) -> None:
        """Move to the end, so that the length is checked."""
        self._head = b""
        while self._take(CHUNK):
            pass

    @property
    def has_more(self) -> bool:
        """Whether a byte is left."""
        self.put_back(self.read(1))
        return bool(self._head)

    def _take(self, size: int) -> bytes:
        if self.error is not None:
            return b""
        try:
            data = self._stream.read(size)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            self.error = str(error)
            return b""
        self._taken += len(data)
        if not data and self._length is not None and self._taken != self._length:
            raise ShortReadError(f"{self._taken} bytes came, {self._length} were expected")
        return data


def open_source(stream: BinaryIO, length: int | None) -> tuple[Source, Source]:
    """The stored bytes of `stream`, and what they hold: the same source, or its inflated bytes if it is gzip.

    `stream` stands at its start and should have `length` bytes (None: unknown).
    """
    stored = Source(stream, length, _end(stream))
    magic = stored.read(len(_GZIP_MAGIC))
    stored.put_back(magic)
    if magic != _GZIP_MAGIC:
        return stored, stored
    # GzipFile asks for no more than read(); it cannot seek without inflating, so its source has no `end`.
    inflated = gzip.GzipFile(fileobj=cast(BinaryIO, stored), mode="rb")
    return stored, Source(cast(BinaryIO, inflated), None)


def _end(stream: BinaryIO) -> int | None:
    """Length of a seekable stream, None for another. (fsspec's HTTP streams say they are seekable.)"""
    try:
        stream.seek(0, SEEK_END)
        end = stream.tell()
        stream.seek(0)
    except (OSError, ValueError, AttributeError):
        return None
    return end
