"""One decode of an image from the open web: bounded in pixels, upright, RGB on white."""

import contextlib
import io
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError

from pipeline.schema import RejectReason

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_SCANS = 64
"""Scans of a progressive JPEG of the most pixels allowed; a smaller one may have as many more.

A scan may cost a few bytes and touch every pixel, so scans are bounded as pixels are.
"""

# A process filter, since warnings.catch_warnings is not safe in threads. What Pillow has to say of a single
# picture is in its reject, or (corrupt EXIF, odd transparency) dealt with below.
warnings.filterwarnings("ignore", module=r"PIL\.")

_START_OF_SCAN = b"\xff\xda"
# Pillow leaves a PNG's transparent colour in the depth of the file while it scales the pixels to 8 bits.
_TURNED = range(5, 9)
"""EXIF orientations that make width of height."""
_GREY_SCALE = {"L;2": 85, "L;4": 17}


class ImageError(Exception):
    """The image cannot be used; `reason` is UNDECODABLE_IMAGE, DECOMPRESSION_BOMB or ABSURD_SIZE."""

    def __init__(self, reason: RejectReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class DecodedImage:
    """`pixels`: uint8 (height, width, 3), RGB, contiguous. `format`: JPEG, PNG or WEBP, by the bytes.

    `reduced_from`: (height, width) of the image where the pixels are of a reduced copy.
    """

    pixels: np.ndarray
    format: str
    reduced_from: tuple[int, int] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image."""
        return self.reduced_from or self.pixels.shape[:2]


def decode(data: bytes, max_pixels: int, max_side: int, least_side: int | None = None) -> DecodedImage:
    """Decode a JPEG, PNG or WebP (the first frame of an animated one).

    The EXIF orientation is applied, a corrupt one counts as none; transparency is composited on white; of
    16-bit samples the high byte is taken; CMYK follows Adobe's inverted convention. Truncated data are not
    filled up. The size is checked before a pixel is decoded; then memory peaks at 10 bytes per pixel for most
    pictures and 23 for a WebP with alpha (measured).

    With `least_side` a JPEG is decoded at a half, a quarter or an eighth of its size, in the DCT, as far as no side
    falls below it.

    Raises ImageError for whatever cannot be decoded.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image, data, max_pixels, max_side)
            whole = _reduce(image, least_side) if least_side else None
            return DecodedImage(_pixels(image), "JPEG" if image.format == "MPO" else str(image.format), whole)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(RejectReason.DECOMPRESSION_BOMB, str(error)) from error
    except UnidentifiedImageError as error:  # its own message holds a memory address
        raise ImageError(RejectReason.UNDECODABLE_IMAGE, "not a JPEG, PNG or WebP") from error
    except Exception as error:  # Pillow's plugins raise almost any kind on hostile bytes
        message = f"{type(error).__name__}: {error}".encode("ascii", "backslashreplace").decode()
        raise ImageError(RejectReason.UNDECODABLE_IMAGE, message[:300]) from error


def pixel_count(data: bytes) -> int:
    """Pixels by the header alone; 0 where it cannot be read, and `decode` says why."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return image.width * image.height
    except Exception:  # noqa: BLE001 (as in `decode`)
        return 0


def _check_size(image: ImageFile.ImageFile, data: bytes, max_pixels: int, max_side: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(RejectReason.DECOMPRESSION_BOMB, f"{width} x {height} pixels")
    if max(width, height) > max_side:
        raise ImageError(RejectReason.ABSURD_SIZE, f"{width} x {height} pixels")
    if image.info.get("progressive"):
        scans = data.count(_START_OF_SCAN)
        if scans * width * height > MAX_SCANS * max_pixels:
            raise ImageError(RejectReason.DECOMPRESSION_BOMB, f"{scans} scans of {width} x {height} pixels")


def _reduce(image: ImageFile.ImageFile, least_side: int) -> tuple[int, int] | None:
    """Let a JPEG be decoded smaller; returns the (height, width) that it would have, upright, or None: it stays."""
    width, height = image.size
    if image.draft(None, (least_side, least_side)) is None or image.size == (width, height):
        return None
    orientation = None
    with contextlib.suppress(Exception):  # as in `_pixels`
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    return (width, height) if orientation in _TURNED else (height, width)


def _pixels(opened: ImageFile.ImageFile) -> np.ndarray:
    """(height, width, 3) of an opened image."""
    _scale_transparent_colour(opened)
    opened.load()
    image: Image.Image = opened
    with contextlib.suppress(Exception):  # a corrupt EXIF block says nothing of the orientation
        ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):
        return _from_16_bit(image)
    if image.has_transparency_data:
        rgba = _as_mode(image, "RGBA")
        image = Image.new("RGB", rgba.size, "white")
        image.paste(rgba, mask=rgba)
    return np.array(_as_mode(image, "RGB"))


def _as_mode(image: Image.Image, mode: str) -> Image.Image:
    """Pillow's convert, which would copy an image that has the mode already."""
    return image if image.mode == mode else image.convert(mode)


def _scale_transparent_colour(image: ImageFile.ImageFile) -> None:
    transparent = image.info.get("transparency")
    if image.format != "PNG" or transparent is None:
        return
    stored = image.tile[0].args
    if stored in _GREY_SCALE:
        image.info["transparency"] = transparent * _GREY_SCALE[stored]
    elif stored == "RGB;16B":
        image.info["transparency"] = tuple(level >> 8 for level in transparent)


def _from_16_bit(image: Image.Image) -> np.ndarray:
    """(height, width, 3) of a grey image of 16 bits, which Pillow itself would clip to 255."""
    levels = np.asarray(image)
    grey = (levels >> 8).astype(np.uint8)
    transparent = image.info.get("transparency")
    if transparent is not None:
        grey[levels == transparent] = 255
    return np.repeat(grey[:, :, np.newaxis], 3, axis=2)
