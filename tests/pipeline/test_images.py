import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from pipeline.images import ImageError, decode
from pipeline.schema import RejectReason
from tests.pipeline.shard_factory import FUZZ, encode

R = RejectReason
LIMITS = (10_000, 1_000)


def pixels(data):
    return decode(data, *LIMITS).pixels


def reason(data, max_pixels=LIMITS[0], max_side=LIMITS[1]):
    with pytest.raises(ImageError) as error:
        decode(data, max_pixels, max_side)
    assert str(error.value)
    return error.value.reason


def png(width, height, depth, colour, rows, *chunks):
    """A PNG from its parts: `rows` are unfiltered, `chunks` come before the data."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = b"".join(b"\0" + row for row in rows)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + b"".join(chunk(kind, data) for kind, data in chunks)
        + chunk(b"IDAT", zlib.compress(body))
        + chunk(b"IEND", b"")
    )


HALVES = Image.new("RGB", (32, 16), "red")
HALVES.paste("blue", (16, 0, 32, 16))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_shape_type_and_format(kind):
    image = decode(encode(HALVES, kind), *LIMITS)
    assert image.format == kind
    assert (image.pixels.shape, image.pixels.dtype) == ((16, 32, 3), np.uint8)
    assert image.pixels.flags.c_contiguous
    assert image.pixels.flags.writeable
    assert image.pixels[8, 4].tolist() == pytest.approx([255, 0, 0], abs=6)
    assert image.pixels[8, 28].tolist() == pytest.approx([0, 0, 255], abs=6)


def test_mpo_is_a_jpeg():
    data = encode(HALVES, "MPO", save_all=True, append_images=[HALVES])
    image = decode(data, *LIMITS)
    assert (image.format, image.pixels.shape) == ("JPEG", (16, 32, 3))


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM", "PDF"])
def test_other_formats_are_refused(kind):
    assert reason(encode(HALVES, kind)) is R.UNDECODABLE_IMAGE


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", b"<html>404</html>", b"RIFF\0\0\0\0WEBPVP8 "])
def test_no_image(data):
    assert reason(data) is R.UNDECODABLE_IMAGE


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_data_are_not_filled_up(kind, share):
    noise = np.random.default_rng(0).integers(0, 255, (60, 60, 3), np.uint8)
    data = encode(Image.fromarray(noise), kind)
    assert reason(data[: int(len(data) * share)]) is R.UNDECODABLE_IMAGE


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_size_is_checked_before_decoding(kind):
    data = encode(HALVES, kind)
    half = data[:-5] if kind != "WEBP" else data
    assert reason(half, 511, 32) is R.DECOMPRESSION_BOMB
    assert reason(half, 512, 31) is R.ABSURD_SIZE
    assert decode(data, 512, 32).pixels.shape == (16, 32, 3)


def test_pillows_own_bound_is_a_bomb():
    data = png(60_000, 60_000, 8, 2, [])
    assert reason(data, 10**12, 10**6) is R.DECOMPRESSION_BOMB


def test_scans_of_a_progressive_jpeg_are_bounded():
    data = encode(Image.new("RGB", (64, 64)), progressive=True)
    scan = data.rindex(b"\xff\xda")
    assert pixels(data).shape == (64, 64, 3)
    bomb = data[:scan] + data[scan:-2] * 200 + data[-2:]
    assert reason(bomb, 64 * 64, 64) is R.DECOMPRESSION_BOMB


def test_grey_of_8_and_1_bit():
    assert pixels(encode(Image.new("L", (2, 2), 77), "PNG")).tolist() == [[[77] * 3] * 2] * 2
    assert pixels(encode(Image.new("1", (1, 1), 1), "PNG")).tolist() == [[[255] * 3]]


@pytest.mark.parametrize("level", [0, 255, 256, 0x8000, 0xFFFF])
def test_16_bits_are_scaled_not_clipped(level):
    grey = png(1, 1, 16, 0, [struct.pack(">H", level)])
    rgb = png(1, 1, 16, 2, [struct.pack(">3H", level, 0, 0xFFFF)])
    assert pixels(grey).tolist() == [[[level >> 8] * 3]]
    assert pixels(rgb).tolist() == [[[level >> 8, 0, 255]]]


def test_16_bit_grey_that_is_turned_keeps_its_levels():
    image = Image.fromarray(np.arange(6, dtype=np.uint16).reshape(2, 3) * 256)
    data = encode(image, "PNG", exif=orientation(6))
    assert pixels(data)[:, :, 0].tolist() == [[3, 0], [4, 1], [5, 2]]


@pytest.mark.parametrize("quality", [{}, {"progressive": True}])
def test_cmyk_follows_adobe(quality):
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    assert pixels(encode(cyan, **quality))[8, 8].tolist() == pytest.approx([0, 255, 255], abs=6)


def test_cmyk_without_an_adobe_marker_is_read_as_with_it():
    data = encode(Image.new("CMYK", (16, 16), (255, 0, 0, 0)))
    at = data.index(b"\xff\xee")
    length = struct.unpack(">H", data[at + 2 : at + 4])[0]
    bare = data[:at] + data[at + 2 + length :]
    assert pixels(bare)[8, 8].tolist() == pytest.approx([0, 255, 255], abs=6)


PALETTE = (b"PLTE", bytes([200, 0, 0, 0, 200, 0, 0, 0, 200]))


@pytest.mark.parametrize(
    ("data", "row"),
    [
        (png(3, 1, 8, 3, [b"\0\1\2"], PALETTE), [[200, 0, 0], [0, 200, 0], [0, 0, 200]]),
        (
            png(3, 1, 8, 3, [b"\0\1\2"], PALETTE, (b"tRNS", b"\x80\0")),
            [[227, 127, 127], [255] * 3, [0, 0, 200]],
        ),
        (
            png(3, 1, 8, 3, [b"\0\1\2"], PALETTE, (b"tRNS", b"\xff\0")),
            [[200, 0, 0], [255] * 3, [0, 0, 200]],
        ),
        (png(2, 1, 8, 4, [bytes([100, 255, 100, 0])]), [[100] * 3, [255] * 3]),
        (png(2, 1, 8, 6, [bytes([9, 8, 7, 255, 9, 8, 7, 0])]), [[9, 8, 7], [255] * 3]),
        (png(1, 1, 8, 6, [bytes([0, 0, 0, 51])]), [[204] * 3]),
        (png(2, 1, 8, 0, [bytes([5, 6])], (b"tRNS", b"\0\5")), [[255] * 3, [6] * 3]),
        (png(4, 1, 2, 0, [b"\x1b"], (b"tRNS", b"\0\2")), [[0] * 3, [85] * 3, [255] * 3, [255] * 3]),
        (png(2, 1, 1, 0, [b"\x40"], (b"tRNS", b"\0\0")), [[255] * 3, [255] * 3]),
        (
            png(2, 1, 8, 2, [bytes([1, 2, 3, 4, 5, 6])], (b"tRNS", b"\0\1\0\2\0\3")),
            [[255] * 3, [4, 5, 6]],
        ),
        (
            png(2, 1, 16, 0, [struct.pack(">2H", 0x1234, 0x1235)], (b"tRNS", b"\x12\x34")),
            [[255] * 3, [0x12] * 3],
        ),
        (
            png(2, 1, 16, 2, [struct.pack(">6H", 0x100, 0x200, 0x300, 0, 0, 0)], (b"tRNS", b"\1\0\2\0\3\0")),
            [[255] * 3, [0] * 3],
        ),
        (png(1, 1, 16, 4, [struct.pack(">2H", 0x4200, 0)]), [[255] * 3]),
        (png(1, 1, 16, 6, [struct.pack(">4H", 0x4200, 0x4300, 0x4400, 0xFFFF)]), [[0x42, 0x43, 0x44]]),
    ],
    ids=[
        *["palette", "palette alphas", "palette colour", "LA", "RGBA", "half", "L tRNS", "2 bits tRNS"],
        *["1 bit tRNS", "RGB tRNS", "16 bit tRNS", "16 bit RGB tRNS", "16 bit LA", "16 bit RGBA"],
    ],
)
def test_palettes_and_transparency_on_white(data, row):
    np.testing.assert_allclose(pixels(data)[0], row, atol=1)


def test_transparent_webp_on_white():
    image = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    assert pixels(encode(image, "WEBP", lossless=True, exact=True)).min() == 255


@pytest.mark.parametrize(("kind", "mode"), [("WEBP", "RGB"), ("PNG", "RGBA")])
def test_animated_gives_its_first_frame(kind, mode):
    frames = [Image.new(mode, (16, 16), colour) for colour in ("red", "blue")]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    assert pixels(data)[4, 4].tolist() == pytest.approx([255, 0, 0], abs=8)


def orientation(value):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = value
    return exif


# Where the stored red half is after each orientation: rows, columns.
UPRIGHT = {
    1: np.s_[:, :10],
    2: np.s_[:, 22:],
    3: np.s_[:, 22:],
    4: np.s_[:, :10],
    5: np.s_[:10, :],
    6: np.s_[:10, :],
    7: np.s_[22:, :],
    8: np.s_[22:, :],
}


@pytest.mark.parametrize("value", UPRIGHT)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation(kind, value):
    upright = pixels(encode(HALVES, kind, exif=orientation(value)))
    assert upright.shape == ((16, 32, 3) if value < 5 else (32, 16, 3))
    red = upright[UPRIGHT[value]].astype(int)
    assert (red[..., 0] - red[..., 2]).min() > 200


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0" + b"\xff" * 50,
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01",
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_corrupt_exif_is_none(kind, exif):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert pixels(encode(HALVES, kind, exif=exif)).shape == (16, 32, 3)


def test_text_chunks_that_inflate_are_bounded():
    bomb = (b"zTXt", b"k\0\0" + zlib.compress(bytes(50_000_000)))
    assert reason(png(1, 1, 8, 0, [b"\0"], bomb)) is R.UNDECODABLE_IMAGE


def test_warnings_of_pillow_are_silent():
    code = "import sys; from pipeline.images import decode; decode(sys.stdin.buffer.read(), 10**9, 10**5)"
    data = encode(HALVES, exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\xff\xff\0\0\xff\xff\xff\x7f")
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, b"")


ROOT = Path(__file__).parents[2]
# Not ru_maxrss: a child inherits its parent's.
PEAK = """
import re, sys
from pipeline.images import decode, ImageError
def high_water():
    with open("/proc/self/status") as status:
        return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", status.read())[1])
data = sys.stdin.buffer.read()
before = high_water()
try:
    decode(data, 9_000_000, 40_000)
except ImageError as error:
    print(error.reason, end=" ")
print(high_water() - before)
"""


def peak(data):
    """What `decode` prints in a process of its own, and by how many bytes its peak memory grew."""
    command = [sys.executable, "-c", PEAK]
    done = subprocess.run(command, input=data, capture_output=True, check=True, cwd=ROOT)
    *said, grown = done.stdout.split()
    return said, int(grown)


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("JPEG", "RGB", {"exif": orientation(6)}),
        ("JPEG", "CMYK", {"progressive": True}),
        ("PNG", "RGBA", {"exif": orientation(6), "compress_level": 1}),
        ("PNG", "I;16", {"compress_level": 1}),
        ("WEBP", "RGBA", {"lossless": True, "quality": 0, "method": 0}),
    ],
)
def test_peak_memory_is_a_small_multiple_of_the_pixels(kind, mode, options):
    _, grown = peak(encode(Image.new(mode, (3000, 3000)), kind, **options))
    assert grown < 8 * 3 * 9_000_000


def test_a_refused_bomb_takes_no_memory():
    webp = bytearray(encode(HALVES, "WEBP", save_all=True, append_images=[HALVES.rotate(180)]))
    webp[24:30] = struct.pack("<I", 12_999)[:3] * 2  # the canvas of its VP8X chunk
    for data in (bytes(webp), png(13_000, 13_000, 8, 2, [bytes(39_000)] * 20)):
        said, grown = peak(data)
        assert said == [b"decompression_bomb"]
        assert grown < 40_000_000


SEEDS = [
    encode(HALVES, "JPEG", exif=orientation(6)),
    encode(HALVES, "JPEG", progressive=True),
    encode(HALVES.convert("CMYK"), "JPEG"),
    encode(HALVES, "MPO", save_all=True, append_images=[HALVES]),
    encode(HALVES, "PNG", exif=orientation(3)),
    encode(HALVES.quantize(3), "PNG", transparency=1),
    encode(HALVES, "PNG", save_all=True, append_images=[HALVES.rotate(180)]),
    encode(HALVES, "WEBP", exif=orientation(5)),
    encode(HALVES.convert("RGBA"), "WEBP", save_all=True, append_images=[HALVES.rotate(180).convert("RGBA")]),
]
CUT = st.tuples(st.integers(0, 3000), st.integers(0, 4), st.binary(max_size=4))


@pytest.mark.filterwarnings("ignore")
@FUZZ
@given(st.sampled_from(SEEDS), st.lists(CUT, min_size=1, max_size=4))
def test_mutated_images_decode_or_are_refused(data, cuts):
    for at, length, junk in cuts:
        at %= len(data) + 1
        data = data[:at] + junk + data[at + length :]
    try:
        image = decode(data, *LIMITS)
    except ImageError as error:
        outcome = error.reason
    else:
        outcome = image.format
        assert image.pixels.shape[2] == 3
        assert image.pixels.shape[0] * image.pixels.shape[1] <= LIMITS[0]
    assert outcome in (R.UNDECODABLE_IMAGE, R.DECOMPRESSION_BOMB, R.ABSURD_SIZE, "JPEG", "PNG", "WEBP")


@pytest.mark.parametrize(("least_side", "reduced"), [(95, (96, 120)), (47, (48, 60)), (23, (24, 30)), (96, None)])
def test_a_jpeg_is_decoded_as_small_as_it_may(least_side, reduced) -> None:
    noise = Image.effect_noise((239, 191), 90).convert("RGB")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for options, turned in (({}, False), ({"exif": exif}, True)):
        data = encode(noise, quality=95, **options)
        found = decode(data, 10**6, 1000, least_side)
        whole = decode(data, 10**6, 1000)
        assert found.size == whole.size == ((239, 191) if turned else (191, 239))
        assert found.pixels.shape[:2] == tuple(reversed(reduced) if turned and reduced else reduced or found.size)


def test_a_reduced_jpeg_is_refused_as_a_whole_one_is() -> None:
    data = encode(Image.effect_noise((640, 480), 90).convert("RGB"))
    for refused, limits in ((data[: len(data) // 2], (10**6, 1000)), (data, (1000, 1000)), (data, (10**6, 500))):
        with pytest.raises(ImageError) as whole:
            decode(refused, *limits)
        with pytest.raises(ImageError) as reduced:
            decode(refused, *limits, 32)
        assert reduced.value.reason == whole.value.reason


def test_other_formats_are_decoded_whole() -> None:
    for kind in ("PNG", "WEBP"):
        found = decode(encode(Image.new("RGB", (640, 480)), kind), 10**6, 1000, 32)
        assert found.pixels.shape[:2] == found.size == (480, 640)
