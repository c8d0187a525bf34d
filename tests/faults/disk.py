"""A file system of its own for what a run writes, so that it can be full: a tmpfs, where mounting is allowed."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SIZE = 128 << 20


class Disk:
    """A folder, on a file system whose size can be set where `refusal` is None."""

    def __init__(self, folder: Path, refusal: str | None) -> None:
        self.folder = folder
        self.refusal = refusal

    def fill(self, left: int) -> None:
        """Leave room for no more than so many bytes (in whole pages)."""
        room = os.statvfs(self.folder)
        used = (room.f_blocks - room.f_bfree) * room.f_frsize
        self._resize(used + max(left, room.f_frsize))

    def free(self) -> None:
        self._resize(SIZE)

    def _resize(self, size: int) -> None:
        if self.refusal is None:
            subprocess.run(["mount", "-o", f"remount,size={size}", str(self.folder)], check=True)


@contextmanager
def disk(folder: Path) -> Iterator[Disk]:
    """Mount it, for the time of the block; where that is refused it is a plain folder that cannot be filled."""
    folder.mkdir()
    try:
        options = ["-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs"]
        subprocess.run(["mount", *options, str(folder)], check=True, capture_output=True, text=True)
        refusal = None
    except (OSError, subprocess.CalledProcessError) as error:
        refusal = f"no tmpfs can be mounted: {getattr(error, 'stderr', None) or error}"
    try:
        yield Disk(folder, refusal)
    finally:
        if refusal is None:
            # Lazily: a process that is ending may hold a file.
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
