"""Good and bad shards, built in memory."""

import io
import json
import tarfile
from collections.abc import Sequence

from hypothesis import HealthCheck, settings
from PIL import Image

FUZZ = settings(
    max_examples=600, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)

Members = Sequence[tuple[str, bytes]]


def encode(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(level: int = 0, size: tuple[int, int] = (8, 6)) -> bytes:
    return encode(Image.new("RGB", size, (level % 256, 90, 30)))


def sample(number: int) -> list[tuple[str, bytes]]:
    """A whole sample as img2dataset writes it; its .txt and .json hold different captions."""
    key = f"{number:09d}"
    metadata = {"caption": f"json caption {number}", "url": f"http://x/{number}", "width": 8}
    return [
        (f"{key}.jpg", picture(number)),
        (f"{key}.txt", f"caption {number}".encode()),
        (f"{key}.json", json.dumps(metadata).encode()),
    ]


def samples(count: int, start: int = 0) -> list[tuple[str, bytes]]:
    return [member for number in range(start, start + count) for member in sample(number)]


def tar(members: Members, kind: int = tarfile.USTAR_FORMAT, pax: dict[str, str] | None = None) -> bytes:
    """A sound archive, padded to 10,240 bytes as tar does; `pax`: records of its global header."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind, pax_headers=pax) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def entry(info: tarfile.TarInfo, data: bytes = b"") -> bytes:
    """One member's header and padded data, with a header of any size and type."""
    header = info.tobuf(tarfile.GNU_FORMAT)
    return header + data + bytes(-len(data) % 512)


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return entry(info)


def offsets(archive: bytes) -> dict[str, tarfile.TarInfo]:
    """Name to member of a sound archive: `offset` of the header, `offset_data`, `size`."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {info.name: info for info in opened.getmembers()}


END = bytes(1024)


class Forward(io.RawIOBase):
    """A stream that cannot seek and gives at most `step` bytes a read, as a socket does."""

    def __init__(self, data: bytes, step: int = 700) -> None:
        self._data = io.BytesIO(data)
        self._step = step
        self.read_bytes = 0

    def read(self, size: int = -1) -> bytes:
        data = self._data.read(min(size, self._step) if size >= 0 else self._step)
        self.read_bytes += len(data)
        return data

    def readable(self) -> bool:
        return True
