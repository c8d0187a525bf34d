"""Images of every kind with any damage: decoded within the limits or refused, in bounded time and memory."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from pipeline.images import ImageError, decode
from pipeline.schema import RejectReason
from tests.fuzz import fuzz
from tests.fuzz.bounds import bounded
from tests.pipeline.shard_factory import encode

pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow has to say much of such images

MAX_PIXELS, MAX_SIDE = 200_000, 4_000
REFUSED = (RejectReason.UNDECODABLE_IMAGE, RejectReason.DECOMPRESSION_BOMB, RejectReason.ABSURD_SIZE)

GRADIENT = Image.fromarray(np.arange(24 * 31 * 3, dtype=np.uint32).reshape(24, 31, 3).astype(np.uint8))
FRAMES = [GRADIENT, GRADIENT.rotate(180)]


def _exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "described"
    return exif.tobytes()


JPEGS = [
    encode(GRADIENT, "JPEG", exif=_exif(6)),
    encode(GRADIENT, "JPEG", progressive=True, quality=30),
    encode(GRADIENT, "JPEG", subsampling=0, restart_marker_blocks=1, comment=b"c" * 40),
    encode(GRADIENT.convert("L"), "JPEG"),
    encode(GRADIENT.convert("CMYK"), "JPEG", icc_profile=b"not a profile" * 30),
    encode(GRADIENT, "MPO", save_all=True, append_images=FRAMES[1:]),
]
PNGS = [
    encode(GRADIENT.convert(mode), "PNG", **options)
    for mode, options in [
        ("1", {}),
        ("L", {"transparency": 3}),
        ("LA", {}),
        ("P", {"transparency": b"\0\x80\xff"}),
        ("P", {"bits": 2}),
        ("RGB", {"transparency": (1, 2, 3), "exif": _exif(3)}),
        ("RGBA", {"dpi": (300, 300)}),
        ("I;16", {}),
        ("RGB", {"save_all": True, "append_images": FRAMES[1:]}),
    ]
]
WEBPS = [
    encode(GRADIENT, "WEBP", exif=_exif(5)),
    encode(GRADIENT, "WEBP", lossless=True),
    encode(GRADIENT.convert("RGBA"), "WEBP", quality=20),
    encode(GRADIENT.convert("RGBA"), "WEBP", save_all=True, append_images=FRAMES[1:]),
]
OTHERS = [
    encode(GRADIENT, kind)
    for kind in ("GIF", "BMP", "TIFF", "PPM", "ICO", "TGA", "PCX", "DDS", "SGI", "JPEG2000", "AVIF", "EPS", "PDF", "IM")
]
SIZES = [0, 1, 2, 7, 255, 256, 4_001, 65_535, 65_536, 2**24 - 1, 2**31 - 1, 2**31, 2**32 - 1]

CUT = st.tuples(st.integers(0, 1 << 14), st.integers(0, 40), st.binary(max_size=8))


def spliced(data: bytes, cuts: list[tuple[int, int, bytes]]) -> bytes:
    for at, length, junk in cuts:
        at %= len(data) + 1
        data = data[:at] + junk + data[at + length :]
    return data


def outcome(data: bytes) -> str:
    """Format or reason; neither an error of another kind nor a picture beyond the limits."""
    refusal: ImageError | None = None
    with bounded(5, 128):
        try:
            image = decode(data, MAX_PIXELS, MAX_SIDE)
        except ImageError as error:
            refusal = error
    if refusal is not None:
        assert refusal.reason in REFUSED
        assert "MemoryError" not in str(refusal)
        str(refusal).encode()
        return refusal.reason
    height, width, channels = image.pixels.shape
    assert (channels, image.pixels.dtype, image.pixels.flags.c_contiguous) == (3, np.uint8, True)
    assert 0 < width * height <= MAX_PIXELS
    assert max(width, height) <= MAX_SIDE
    return image.format


@pytest.mark.parametrize(("kind", "seeds"), [("JPEG", JPEGS), ("PNG", PNGS), ("WEBP", WEBPS)])
def test_the_seeds_are_images(kind, seeds) -> None:
    assert [outcome(seed) for seed in seeds] == [kind] * len(seeds)


def test_other_kinds_are_refused() -> None:
    assert {outcome(seed) for seed in OTHERS} == {RejectReason.UNDECODABLE_IMAGE}


@fuzz(500)
@given(st.sampled_from([*JPEGS, *PNGS, *WEBPS, *OTHERS]), st.lists(CUT, min_size=1, max_size=5))
def test_any_bytes(data: bytes, cuts) -> None:
    outcome(spliced(data, cuts))


def chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    """Kinds and contents of the chunks of a sound PNG."""
    found, at = [], 8
    while at < len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        found.append((png[at + 4 : at + 8], png[at + 8 : at + 8 + size]))
        at += size + 12
    return found


def png_of(found: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG of chunks, with checksums that hold."""
    packed = [
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in found
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


KINDS = [kind.encode() for kind in "IHDR PLTE tRNS IDAT IEND iCCP zTXt iTXt eXIf acTL fcTL fdAT gAMA".split()]
HOWS = ["replace", "insert", "drop", "swap", "edit"]
MAYBE_SIZE = st.sampled_from([None, *SIZES])
DEPTHS = st.sampled_from([None, 1, 2, 4, 8, 16, 3, 255])
COLOURS = st.sampled_from([None, *range(8)])
CONTENTS = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [
            b"k\0\0" + zlib.compress(bytes(60_000_000), 9),
            b"k\0\x01\0\0\0" + zlib.compress(bytes(60_000_000), 9),
            zlib.compress(bytes(60_000_000), 9),
            _exif(6)[6:],
            struct.pack(">II", 2**31 - 1, 0),
        ]
    ),
)


@fuzz(500)
@given(
    st.sampled_from(PNGS),
    st.lists(st.tuples(st.integers(0, 12), st.sampled_from(HOWS), st.sampled_from(KINDS), CONTENTS, CUT), max_size=3),
    st.tuples(MAYBE_SIZE, MAYBE_SIZE),
    st.tuples(DEPTHS, COLOURS, st.sampled_from([0, 1, 2])),
)
def test_png_whose_checksums_hold(seed: bytes, edits, size, form) -> None:
    found = chunks(seed)
    header = list(struct.unpack(">IIBBBBB", found[0][1]))
    for place, value in [(0, size[0]), (1, size[1]), (2, form[0]), (3, form[1]), (6, form[2])]:
        header[place] = header[place] if value is None else value
    found[0] = (b"IHDR", struct.pack(">IIBBBBB", *header))
    for at, how, kind, content, cut in edits:
        at %= len(found)
        if how == "insert":
            found.insert(at, (kind, content))
        elif how == "replace":
            found[at] = (found[at][0], content)
        elif how == "edit":
            found[at] = (found[at][0], spliced(found[at][1], [cut]))
        elif how == "swap":
            found[at], found[0] = found[0], found[at]
        elif len(found) > 1:
            del found[at]
    outcome(png_of(found))


@fuzz(300)
@given(
    st.sampled_from(JPEGS),
    st.integers(0, 30),
    st.sampled_from(["size", "content", "drop", "twice"]),
    st.lists(CUT, min_size=1, max_size=2),
    st.sampled_from(SIZES[:8]),
    st.sampled_from(SIZES[:8]),
)
def test_jpeg_whose_segments_hold(seed: bytes, at: int, how: str, cuts, width: int, height: int) -> None:
    segments, place = [], 2
    while seed[place + 1] != 0xDA:
        (length,) = struct.unpack(">H", seed[place + 2 : place + 4])
        segments.append((seed[place + 1], seed[place + 4 : place + 2 + length]))
        place += 2 + length
    at %= len(segments)
    marker, content = segments[at]
    if how == "size":
        frame = next(i for i, (kind, _) in enumerate(segments) if kind in (0xC0, 0xC1, 0xC2))
        kind, content = segments[frame]
        segments[frame] = (kind, content[:1] + struct.pack(">HH", height % 65_536, width % 65_536) + content[5:])
    elif how == "content":
        segments[at] = (marker, spliced(content, cuts)[:65_000])
    elif how == "twice":
        segments.insert(at, (marker, content))
    else:
        del segments[at]
    packed = [b"\xff" + bytes([kind]) + struct.pack(">H", len(content) + 2) + content for kind, content in segments]
    outcome(seed[:2] + b"".join(packed) + seed[place:])


@fuzz(300)
@given(
    st.sampled_from(WEBPS),
    st.integers(0, 10),
    st.sampled_from(["content", "drop", "twice", "canvas"]),
    CUT,
    st.sampled_from(SIZES),
    st.booleans(),
)
def test_webp_whose_chunks_hold(seed: bytes, at: int, how: str, cut, size: int, sound: bool) -> None:
    found, place = [], 12
    while place + 8 <= len(seed):
        (length,) = struct.unpack("<I", seed[place + 4 : place + 8])
        found.append((seed[place : place + 4], seed[place + 8 : place + 8 + length]))
        place += 8 + length + length % 2
    at %= len(found)
    kind, content = found[at]
    if how == "content":
        found[at] = (kind, spliced(content, [cut]))
    elif how == "twice":
        found.insert(at, (kind, content))
    elif how == "canvas":
        canvas = struct.pack("<I", size % 2**24)[:3]
        found[0] = (found[0][0], found[0][1][:4] + canvas + canvas + found[0][1][10:])
    else:
        del found[at]
    packed = b"".join(kind + struct.pack("<I", len(c) if sound else size) + c + bytes(len(c) % 2) for kind, c in found)
    outcome(b"RIFF" + struct.pack("<I", len(packed) + 4) + b"WEBP" + packed)


EXIF = bytearray(_exif(6))


@fuzz(300)
@given(st.sampled_from(["JPEG", "PNG", "WEBP"]), st.lists(CUT, min_size=1, max_size=3))
@example("JPEG", [(10, 4, b"\xff\xff\xff\xff")])
def test_any_exif(kind: str, cuts) -> None:
    """Corrupt EXIF says nothing of the picture: it is decoded."""
    buffer = io.BytesIO()
    GRADIENT.save(buffer, kind, exif=b"Exif\0\0" + spliced(bytes(EXIF[6:]), cuts))
    assert outcome(buffer.getvalue()) == kind
