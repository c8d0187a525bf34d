"""Arrays of others' making: npy and npz files on any storage, read row by row within what they should hold.

Nothing is unpickled, and nothing is inflated or allocated before the shape a file declares is the one expected.
"""

import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from math import prod
from typing import Any, BinaryIO, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from pipeline.imported import ImportedError
from pipeline.vectors import Floats

Rows: TypeAlias = npt.NDArray[np.int64]

HEADER_BYTES = 16 << 10
"""numpy refuses a header of more than 10,000 characters."""

GAP_BYTES = 64 << 10
"""Between two rows: less is read and dropped, more is another request."""

BLOCK_BYTES = 8 << 20
BATCH_BYTES = 64 << 20
"""Of a npy, asked for at once; of a npz, a block is in memory at a time."""


@dataclass(frozen=True)
class Header:
    """What a npy file declares: shape, type of its numbers, where they begin, and whether columns come one by one."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.floating[Any]]
    offset: int
    fortran: bool

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * prod(self.shape[1:])


@dataclass(frozen=True)
class StoredArray:
    """An array of floating-point numbers in a npy file or, by its name there, in a npz archive."""

    fs: Any
    path: str
    member: str | None = None

    def __str__(self) -> str:
        return f"{self.member} of {self.path}" if self.member else self.path

    def header(self) -> Header:
        """What it declares; for a npy with a size, that the file holds as many bytes.

        Raises:
            ImportedError: it is no such array, or damaged.
        """
        with self._told():
            if self.member:
                with self._inflated() as stream:
                    return _read_header(stream)
            header = _read_header(BytesIO(self.fs.cat_file(self.path, start=0, end=HEADER_BYTES)))
            size, expected = self.fs.size(self.path), header.offset + header.dtype.itemsize * prod(header.shape)
            if size is not None and size != expected:
                raise ValueError(f"it has {size:,} bytes, and {expected:,} would hold the shape it declares")
            return header

    def read(self, shape: tuple[int, ...], rows: Rows | None = None) -> Floats:
        """Rows of an array that should have `shape`, or all of it: (m, *shape[1:]), in the type it is stored as.

        Of a npy by ranges, near rows by one; of a npz by inflating the whole array once, block by block.
        Memory: the result and BATCH_BYTES.

        Args:
            shape: expected of the file.
            rows: ascending, each once; None: all.

        Raises:
            ImportedError: it has another shape, is damaged, or stored by columns and to be read by rows.
            OSError: the storage failed; worth another try.
        """
        with self._told():
            if self.member:
                with self._inflated() as stream:
                    return _select(_expect(_read_header(stream), shape), rows, partial(_inflated_rows, stream))
            header = _read_header(BytesIO(self.fs.cat_file(self.path, start=0, end=HEADER_BYTES)))
            return _select(_expect(header, shape), rows, self._ranged_rows)

    def _ranged_rows(self, header: Header, rows: Rows) -> Floats:
        found = np.empty((len(rows), *header.shape[1:]), header.dtype)
        for ranges in _ranges(rows, header.row_bytes):
            firsts, lasts = (np.array([rows[part][end] for part in ranges]) for end in (0, -1))
            starts = (header.offset + firsts * header.row_bytes).tolist()
            ends = (header.offset + (lasts + 1) * header.row_bytes).tolist()
            blocks = self.fs.cat_ranges([self.path] * len(ranges), starts, ends, on_error="raise")
            for part, first, last, data in zip(ranges, firsts, lasts, blocks, strict=True):
                if len(data) != (last + 1 - first) * header.row_bytes:
                    raise OSError(f"{self}: {len(data)} bytes came of rows {first} to {last}")
                found[part] = _rows_of(data, header)[rows[part] - first]
        return found

    def members(self) -> list[str]:
        """Names of the arrays in a npz; errors as `header`."""
        with self._told(), self._archive() as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]

    @contextmanager
    def _archive(self) -> Iterator[zipfile.ZipFile]:
        options = {} if "file" in self.fs.protocol else {"block_size": BLOCK_BYTES, "cache_type": "readahead"}
        with self.fs.open(self.path, "rb", **options) as file, zipfile.ZipFile(file) as archive:
            yield archive

    @contextmanager
    def _inflated(self) -> Iterator[BinaryIO]:
        with self._archive() as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            if (info := members.get(str(self.member))) is None:
                raise ValueError(f"there is no such array, only {', '.join(list(members)[:20]) or 'nothing'}")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError("it is compressed as no npz is")
            with archive.open(info) as stream:
                yield cast(BinaryIO, stream)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What zipfile and numpy say of a file that is none of theirs, as one sentence with its name."""
        try:
            yield
        except FileNotFoundError:
            raise ImportedError(f"{self.path} is not there.") from None
        except (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, struct.error) as error:
            raise ImportedError(f"{self} cannot be imported: {' '.join(str(error).split())[:300]}.") from None


def _read_header(stream: BinaryIO) -> Header:
    """The header of a npy; ValueError if it is none of floating-point numbers."""
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"format {version} of npy is for arrays of named fields")
    try:
        shape, fortran, dtype = readers[version](stream)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - a header is a Python literal: whatever three parsers may raise
        raise ValueError(f"its header is damaged ({type(error).__name__})") from None
    if dtype.hasobject:
        raise ValueError("it holds pickled objects, and pickles are not read")
    if dtype.kind != "f" or dtype.itemsize > 8:
        raise ValueError(f"it holds {dtype}, not floating-point numbers")
    if not shape or min(shape) < 0:
        raise ValueError(f"it has the shape {shape}")
    return Header(shape, dtype, stream.tell(), fortran)


def _expect(header: Header, shape: tuple[int, ...]) -> Header:
    if header.shape != shape:
        raise ValueError(f"it has the shape {header.shape}, and {shape} was expected")
    return header


def _select(header: Header, rows: Rows | None, read: Callable[[Header, Rows], Floats]) -> Floats:
    """Rows, or all of them (None), by a function that reads rows of an array stored by rows."""
    if not header.fortran:
        return read(header, np.arange(header.shape[0]) if rows is None else rows)
    if rows is not None:
        raise ValueError("it is stored by columns (Fortran order)")
    columns = replace(header, shape=header.shape[::-1])
    return read(columns, np.arange(columns.shape[0])).T


def _rows_of(data: bytes, header: Header) -> Floats:
    return np.frombuffer(data, header.dtype).reshape(-1, *header.shape[1:])


def _inflated_rows(stream: BinaryIO, header: Header, rows: Rows) -> Floats:
    """Read to the end although no later row is wanted: only there does zipfile check the sum of all bytes."""
    found = np.empty((len(rows), *header.shape[1:]), header.dtype)
    total, block = header.shape[0], max(1, BLOCK_BYTES // max(1, header.row_bytes))
    for start in range(0, total, block):
        end = min(start + block, total)
        data = stream.read((end - start) * header.row_bytes)
        if len(data) != (end - start) * header.row_bytes:
            raise ValueError(f"it ends in row {start + len(data) // header.row_bytes:,} of {total:,}")
        first, last = np.searchsorted(rows, (start, end))
        found[first:last] = _rows_of(data, header)[rows[first:last] - start]
    if stream.read(1):
        raise ValueError("it holds more than the shape it declares")
    return found


def _ranges(rows: Rows, row_bytes: int) -> Iterator[list[slice]]:
    """Slices of `rows`, each to be read by one range of some BLOCK_BYTES, in lists of some BATCH_BYTES."""
    if not len(rows):
        return
    apart = np.diff(rows, prepend=rows[0]) * row_bytes > GAP_BYTES + row_bytes
    blocks = rows * row_bytes // BLOCK_BYTES
    starts = np.flatnonzero(apart | (np.diff(blocks, prepend=-1) > 0))
    ends = np.append(starts[1:], len(rows))
    sizes = (rows[ends - 1] + 1 - rows[starts]) * row_bytes
    batches = np.cumsum(sizes) // BATCH_BYTES
    for batch in np.unique(batches):
        yield [slice(starts[i], ends[i]) for i in np.flatnonzero(batches == batch)]
