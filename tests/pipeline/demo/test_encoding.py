import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from pipeline.demo.drawing import Thing, draw_picture
from pipeline.demo.encoding import EXTENSIONS, encode

PIXELS = draw_picture(120, 80, Thing("heart", "red"), (), np.random.default_rng(1)).pixels


@pytest.mark.parametrize("form", EXTENSIONS)
def test_every_form_shows_the_same_picture(form: str) -> None:
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(encode(PIXELS, form))))
    assert image.size == (120, 80)
    error = np.abs(np.asarray(image.convert("RGB"), float) - PIXELS).mean()
    assert error < 12


def test_forms_are_what_they_are_called() -> None:
    opened = {form: Image.open(io.BytesIO(encode(PIXELS, form))) for form in EXTENSIONS}
    assert opened["palette_png"].mode == "P"
    assert opened["alpha_png"].mode == "RGBA"
    assert opened["cmyk_jpeg"].mode == "CMYK"
    assert opened["rotated_jpeg"].size == (80, 120)
    assert opened["misnamed_png"].format == "PNG"
    assert opened["webp"].format == "WEBP"


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(ValueError, match="gif"):
        encode(PIXELS, "gif")
