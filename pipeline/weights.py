"""Weights on a node: fetched by whichever of its workers comes first; the others wait, and take what it fetched."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock
from fsspec.utils import get_protocol

from pipeline.secrets import without_secrets
from pipeline.storage import etag_of, locate, storage_errors


def cache_folder() -> Path:
    """Where a node keeps copies: $XDG_CACHE_HOME/parrotscope, else ~/.cache/parrotscope."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "parrotscope"


def local_file(place: str) -> str:
    """A path as it is; of a file at an fsspec URL, the node's copy of what is there now by its size and ETag.

    Raises:
        OSError: the file is not there, or its storage fails.
        ValueError, ImportError: as `locate`.
    """
    if get_protocol(place) in ("file", "local"):
        return place
    fs, path = locate(place)
    with storage_errors(place):
        info = fs.info(path)
        identity = [without_secrets(place), info.get("size"), etag_of(info)]
        folder = hashlib.blake2b(json.dumps(identity).encode(), digest_size=16).hexdigest()
        copy = cache_folder() / folder / os.path.basename(path.partition("?")[0])
        with one_at_a_time(folder):
            if not copy.is_file():
                copy.parent.mkdir(exist_ok=True)
                spool = copy.with_name(f".{copy.name}.tmp")
                fs.get_file(path, str(spool))
                os.replace(spool, copy)
    return str(copy)


@contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Let one process of the node in, the others after it."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{name}.lock"):
        yield
