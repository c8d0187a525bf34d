"""A folder, local or on any fsspec URL, in which a file appears under its final name at once or not at all."""

import json
import os
import platform
import re
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import psutil

from pipeline.storage import locate


class Folder:
    """Small files read, and files of any size written whole.

    Args:
        url: local or any fsspec URL.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.fs, root = locate(url)
        self.root = root.rstrip("/")

    def __reduce__(self) -> tuple[type[Self], tuple[str]]:
        # A relative path means another folder in another process.
        return type(self), (self.fs.unstrip_protocol(self.root),)

    def path(self, *parts: object) -> str:
        return "/".join([self.root, *map(str, parts)])

    @property
    def local(self) -> bool:
        return "file" in self.fs.protocol

    def read_json(self, *parts: object) -> Any:
        """The content of a small JSON file, or None where there is none."""
        try:
            return json.loads(self.fs.cat_file(self.path(*parts)))
        except FileNotFoundError:
            return None

    def write_bytes(self, data: bytes, *parts: object) -> None:
        """Write a small file under its final name at once."""
        with self.committed(self.path(*parts)) as spool:
            Path(spool).write_bytes(data)

    def write_json(self, value: object, *parts: object) -> None:
        self.write_bytes(json.dumps(value, indent=1, ensure_ascii=False, default=str).encode(), *parts)

    def remove(self, *parts: object) -> None:
        """Remove a file if it is there."""
        try:
            self.fs.rm_file(self.path(*parts))
        except FileNotFoundError:
            return

    @contextmanager
    def committed(self, final: str) -> Iterator[str]:
        """Yield a local file to fill, then make it appear as `final`: renamed, or put on an object store.

        fsspec's own write handles are avoided: on an exception they close, and so publish half an object.
        """
        # Host and process (no host name has a tilde) tell `sweep` whose it is.
        owner = f".{platform.node()}~{os.getpid()}~"
        if self.local:
            folder = os.path.dirname(final)
            os.makedirs(folder, exist_ok=True)
            # Hidden names are passed over by every Parquet reader.
            spool = os.path.join(folder, f"{owner}{uuid.uuid4().hex}.tmp")
        else:
            handle, spool = tempfile.mkstemp(".tmp", owner)
            os.close(handle)
        try:
            yield spool
            if self.local:
                with open(spool, "rb") as written:
                    os.fsync(written.fileno())
                os.replace(spool, final)
            else:
                self.fs.put_file(spool, final)
        finally:
            if os.path.exists(spool):
                os.remove(spool)

    def sweep(self, *folders: object) -> None:
        """Remove what writers killed on this host left.

        Local storage: here and in the folders below. Elsewhere: among the temporary files, whichever run's they are.
        """
        places = (self.root, *map(self.path, folders)) if self.local else (tempfile.gettempdir(),)
        ours = re.compile(rf"\.{re.escape(platform.node())}~(\d{{1,9}})~\w+\.tmp")
        for folder in places:
            for spool in Path(folder).glob(".*.tmp"):
                # A temporary folder may be shared with others, who may call a file anything.
                if (name := ours.fullmatch(spool.name)) and not psutil.pid_exists(int(name[1])):
                    with suppress(OSError):
                        spool.unlink()
