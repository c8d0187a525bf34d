"""Places in storage: the fsspec file system and path of a URL, and what storage says is wrong, in one class."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

_CACHES = frozenset({"blockcache", "filecache", "simplecache"})
_INSIDE = re.compile(r"(zip|tar|libarchive|reference|dir)://|data:")  # fsspec's views of what another URL holds
_UNREADABLE = re.compile("::|[\0\ud800-\udfff]")  # a byte that is not UTF-8 becomes half a surrogate pair


def locate(url: str) -> tuple[Any, str]:
    """The fsspec file system of a path or URL, and its path there: absolute and without protocol.

    Raises:
        ValueError: a name that no storage holds, or what is inside of another URL, as in an archive.
        OSError: storage says so.
        ImportError: a package for this storage is not installed.
    """
    *caches, place = url.split("::")
    if not _CACHES.issuperset(caches) or _INSIDE.match(place):
        raise ValueError(f"{url!r}: '::' in it can only put a cache, as in simplecache::URL; no archive is looked into")
    refuse_unreadable([place])
    with storage_errors(url):
        fs, path = url_to_fs(url)
    # fsspec leaves ~x as it is where x is no user.
    return fs, os.path.join(os.getcwd(), path) if isinstance(fs, LocalFileSystem) else path


def canonical(fs: Any, path: str) -> str:
    """The one path of a local file, without `..` (by names, whatever is a link); another's path as it is."""
    return os.path.abspath(path) if path and isinstance(fs, LocalFileSystem) else path


def refuse_unreadable(names: Iterable[str]) -> None:
    """Raise ValueError for a name that fsspec, Parquet or JSON would change or refuse."""
    for name in names:
        if _UNREADABLE.search(name):
            raise ValueError(f"the name {name!r} is not UTF-8, or has '::' in it, or a null byte")


def etag_of(info: Mapping[str, Any]) -> str | None:
    """The ETag, else the modification time (local: nanoseconds), else None."""
    for key in ("ETag", "etag", "mtime", "LastModified", "last_modified"):
        if (value := info.get(key)) is not None:
            return str(int(value * 1e9)) if isinstance(value, float) else str(value)
    return None


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turn what storage raises, in many classes of its own, into an OSError or ValueError that names the URL."""
    try:
        yield
    except (FileNotFoundError, ImportError):
        raise
    except ValueError as error:
        raise ValueError(f"{url}: {error}") from error
    except Exception as error:
        if isinstance(error, OSError) and error.filename:
            raise
        raise OSError(f"{url}: {type(error).__name__}: {error}") from error
