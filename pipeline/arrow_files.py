"""Files as Arrow reads them: local ones by its own file system, all others by fsspec's.

Arrow scans a dataset in threads of its own, which let go of its files when the rows are already there. A thread
that wants Python's lock for that while the interpreter ends is ended by Python 3.11, and takes the process down
with it ("terminate called without an active exception"). So Python objects stay out of local reading, and
before the interpreter ends it waits until Arrow has let go of the others.
"""

import atexit
import time
from typing import Any
from weakref import WeakSet

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs
from fsspec.implementations.local import LocalFileSystem

WAIT_SECONDS = 10.0
"""At the end of the process; a file that something still holds is waited for in vain."""

_open: "WeakSet[Any]" = WeakSet()
_kept: dict[int, pa.fs.PyFileSystem] = {}
"""By the id of what they stand for (fsspec's equality takes no notice of an endpoint from the environment). With the
last reference to one in a thread of Arrow's, that thread would need Python's lock."""


def arrow_filesystem(fs: Any) -> pa.fs.FileSystem:
    """Arrow's view of an fsspec file system, for datasets."""
    if isinstance(fs, LocalFileSystem):
        return pa.fs.LocalFileSystem()
    return _kept.setdefault(id(fs), pa.fs.PyFileSystem(_Handler(fs)))


def arrow_file(fs: Any, path: str) -> pa.NativeFile:
    """One file, open for random access.

    Raises:
        OSError: it is not there, or storage says so.
    """
    return pa.OSFile(path) if isinstance(fs, LocalFileSystem) else _Handler(fs).open_input_file(path)


class ForgetfulDataset(ds.FileSystemDataset):  # type: ignore[misc]
    """Files of which a scan by DuckDB keeps nothing: Arrow would keep a quarter of a megabyte of each for the next."""

    @classmethod
    def of(cls, files: ds.FileSystemDataset) -> "ForgetfulDataset":
        return cls(list(files.get_fragments()), files.schema, files.format, files.filesystem)

    def scanner(self, *args: Any, **options: Any) -> ds.Scanner:
        """What DuckDB asks for rows."""
        return super().scanner(*args, cache_metadata=False, memory_pool=pa.system_memory_pool(), **options)


class _Handler(pa.fs.FSSpecHandler):  # type: ignore[misc]
    """pyarrow's own, but that it remembers the files that are open."""

    def open_input_file(self, path: str) -> pa.NativeFile:
        file = self.fs.open(path, "rb")
        _open.add(file)
        return pa.PythonFile(file, mode="r")


@atexit.register
def _wait() -> None:
    until = time.monotonic() + WAIT_SECONDS
    while any(not file.closed for file in _open) and time.monotonic() < until:
        time.sleep(0.01)
