"""Image files of every form that a sound shard may hold."""

import io

import numpy as np
from PIL import Image

from pipeline.demo.drawing import Pixels

ROTATED = 6
"""The EXIF orientation of a picture that is stored turned by 90 degrees counter-clockwise."""

EXTENSIONS = {
    "jpeg": "jpg",
    "png": "png",
    "webp": "webp",
    "palette_png": "png",
    "alpha_png": "png",
    "cmyk_jpeg": "jpg",
    "rotated_jpeg": "jpg",
    "misnamed_png": "jpg",
}
"""Form → the extension its member has in the shard."""


def encode(pixels: Pixels, form: str) -> bytes:
    """Write a picture, (height, width, 3) uint8 RGB, as a file of a form of EXTENSIONS.

    The JPEG marked `rotated_jpeg` shows the picture upright only to a reader that heeds its EXIF orientation.
    """
    image, file = Image.fromarray(pixels), io.BytesIO()
    match form:
        case "jpeg":
            image.save(file, "JPEG", quality=92)
        case "cmyk_jpeg":
            image.convert("CMYK").save(file, "JPEG", quality=92)
        case "rotated_jpeg":
            exif = Image.Exif()
            exif[0x0112] = ROTATED
            Image.fromarray(np.rot90(pixels)).save(file, "JPEG", quality=92, exif=exif)
        case "png" | "misnamed_png":
            image.save(file, "PNG", compress_level=3)
        case "palette_png":
            image.quantize(256).save(file, "PNG", compress_level=3)
        case "alpha_png":
            image.putalpha(Image.new("L", image.size, 255))
            image.save(file, "PNG", compress_level=3)
        case "webp":
            image.save(file, "WEBP", quality=92, method=2)
        case _:
            raise ValueError(f"no such form: {form}")
    return file.getvalue()
