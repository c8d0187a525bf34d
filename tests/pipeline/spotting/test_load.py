"""The door to the spotters, their settings, and what becomes of an image that fails."""

import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from pipeline.schema import SpotStatus
from pipeline.spotting import Image, Spotting, Word, attempt, load_spotter
from pipeline.spotting.config import CustomConfig, EasyOCRConfig, RapidOCRConfig, SpotterConfig

SETTINGS: TypeAdapter[Any] = TypeAdapter(SpotterConfig)


class Echo:
    def __init__(self, threads: int, device: str, word: str) -> None:
        self._made_with = f"{threads} {device} {word}"

    def fingerprint(self) -> dict[str, Any]:
        return {"made_with": self._made_with}

    def spot(self, images: Sequence[Image]) -> list[Spotting]:
        return [Spotting(SpotStatus.OK, ()) for _ in images]


def test_settings_are_told_apart_by_their_engine():
    assert SETTINGS.validate_python({"engine": "easyocr", "min_size": 5}) == EasyOCRConfig(min_size=5)
    assert SETTINGS.validate_python({"engine": "rapidocr"}) == RapidOCRConfig()


@pytest.mark.parametrize(
    "settings",
    [
        {"engine": "tesserect"},
        {"engine": "rapidocr", "longest_sid": 640},
        {"engine": "custom", "target": "no_class"},
        {"engine": "easyocr", "name": "../elsewhere"},
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any]):
    with pytest.raises(ValidationError):
        SETTINGS.validate_python(settings)


def test_settings_import_no_engine():
    code = (
        "import sys, pipeline.spotting.config;"
        "print([m for m in ('torch', 'openvino', 'rapidocr', 'easyocr', 'cv2') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_a_spotter_of_the_users_own_is_made_from_its_import_path():
    config = CustomConfig(target=f"{__name__}:Echo", settings={"word": "hi"})
    spotter = load_spotter(config, threads=3, device="cuda")
    assert spotter.fingerprint() == {"made_with": "3 cuda hi"}
    assert [spotting.status for spotting in spotter.spot([np.zeros((2, 2, 3), np.uint8)] * 2)] == [SpotStatus.OK] * 2


def test_an_error_is_the_failure_of_its_image():
    def spot(image: Image) -> tuple[Word, ...]:
        raise RuntimeError("out of ideas " + "!" * 1000)

    spotting = attempt(spot, np.zeros((2, 2, 3), np.uint8))
    assert spotting.status is SpotStatus.FAILED
    assert spotting.words == ()
    assert spotting.message is not None
    assert spotting.message.startswith("RuntimeError: out of ideas !!!")
    assert len(spotting.message) == 500


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((5, 5), np.uint8),
        np.zeros((5, 5, 4), np.uint8),
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((5, 5, 3), np.float32),
    ],
)
def test_what_is_no_rgb_image_fails(image: Any):
    spotting = attempt(lambda _: (), image)
    assert spotting.status is SpotStatus.FAILED
    assert "not an RGB image of uint8" in str(spotting.message)
