"""Samples that no reader can use, each with the reason it must be rejected for. The archive around them is sound."""

import struct
import zlib
from collections.abc import Iterator, Mapping

from pipeline.schema import RejectReason

Members = Mapping[str, bytes]
"""Extension → bytes of the members of one sample."""


def _png_header(width: int, height: int) -> bytes:
    """A PNG file of a few bytes that claims to be of this size."""
    chunks = (
        b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0),
        b"IDAT" + zlib.compress(bytes(64)),
        b"IEND",
    )
    framed = (struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def hostile_samples(sound: Members) -> Iterator[tuple[RejectReason, Members]]:
    """Spoil a sound sample in every way that concerns one sample.

    A duplicate is only one beside a sample of the same key; giving it that key is up to the caller.

    Args:
        sound: the members jpg, txt and json of a sample that could be used.
    """
    image, caption, metadata = sound["jpg"], sound["txt"], sound["json"]
    rest = {"txt": caption, "json": metadata}
    yield RejectReason.UNDECODABLE_IMAGE, {"jpg": b"<html><title>404 Not Found</title></html>\n", **rest}
    yield RejectReason.UNDECODABLE_IMAGE, {"jpg": image[: len(image) // 3], **rest}
    yield RejectReason.UNDECODABLE_IMAGE, {"jpg": b"", **rest}
    yield RejectReason.DECOMPRESSION_BOMB, {"png": _png_header(20_000, 20_000), **rest}
    yield RejectReason.ABSURD_SIZE, {"png": _png_header(40_000, 2), **rest}
    yield RejectReason.MISSING_CAPTION, {"jpg": image}
    yield RejectReason.MISSING_CAPTION, {"jpg": image, "json": b'{"url": "https://pictures.example/1.jpg"}'}
    yield RejectReason.CAPTION_NOT_UTF8, {"jpg": image, "txt": "une étoile rouge".encode("latin-1")}
    yield RejectReason.BAD_JSON, {"jpg": image, "json": b'{"caption": "a red star'}
    yield RejectReason.HALF_SAMPLE, rest
    yield RejectReason.DUPLICATE_KEY, sound
