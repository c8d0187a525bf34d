"""EasyOCR's plumbing, on checkpoints of its architectures written here: its own weights are a download."""

import hashlib
import json
import shutil
import urllib.error
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import easyocr.utils
import numpy as np
import pytest
import torch
from easyocr.config import detection_models, recognition_models
from easyocr.craft import CRAFT
from easyocr.model.vgg_model import Model

from pipeline.schema import SpotStatus
from pipeline.spotting.config import EasyOCRConfig
from pipeline.spotting.easyocr import EasyOCRSpotter, fetch

FILES = ("craft_mlt_25k.pth", "english_g2.pth")
ENGLISH = recognition_models["gen2"]["english_g2"]


class FindsRed(torch.nn.Module):
    """Stands for CRAFT: text is where the normalised image is redder than blue."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        text = torch.nn.functional.max_pool2d((x[:, :1] > x[:, 2:] + 1).float(), 2)
        return torch.cat([text, torch.zeros_like(text)], dim=1).permute(0, 2, 3, 1), None


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A CRAFT that takes the whole image for text, a recogniser that reads `Q` in anything."""
    directory = tmp_path_factory.mktemp("easyocr")
    detector = CRAFT()
    torch.nn.init.zeros_(detector.conv_cls[-1].weight)
    detector.conv_cls[-1].bias.data = torch.tensor([1.0, 0.0])
    recogniser = Model(1, 256, 256, len(ENGLISH["characters"]) + 1)
    torch.nn.init.zeros_(recogniser.Prediction.weight)
    torch.nn.init.zeros_(recogniser.Prediction.bias)
    recogniser.Prediction.bias.data[1 + ENGLISH["characters"].index("Q")] = 30
    with pytest.MonkeyPatch.context() as patch:
        for network, name, entry in zip(
            (detector, recogniser), FILES, (detection_models["craft"], ENGLISH), strict=True
        ):
            # Checkpoints of several GPUs, as the released ones are: every name begins with "module.".
            state = {f"module.{key}": value for key, value in network.state_dict().items()}
            torch.save(state, directory / name)
            patch.setitem(entry, "md5sum", hashlib.md5((directory / name).read_bytes()).hexdigest())  # noqa: S324
        yield directory


@pytest.fixture(scope="module")
def spotter(weights: Path) -> EasyOCRSpotter:
    return EasyOCRSpotter(EasyOCRConfig(model_directory=weights), "cpu")


def test_an_image_passes_both_networks(spotter: EasyOCRSpotter):
    (spotting,) = spotter.spot([np.full((90, 120, 3), 128, np.uint8)])
    assert spotting.status is SpotStatus.OK
    (word,) = spotting.words
    assert word.text == "Q"
    assert word.confidence == pytest.approx(1)
    assert word.polygon.dtype == np.int16
    assert word.polygon.tolist() == [[0, 0], [119, 0], [119, 89], [0, 89]]


def test_detection_sees_rgb_and_recognition_its_grey(spotter: EasyOCRSpotter, monkeypatch: pytest.MonkeyPatch):
    image = np.zeros((100, 200, 3), np.uint8)
    image[20:40, 50:150] = (255, 0, 0)
    image[60:80, 50:150] = (0, 0, 255)
    monkeypatch.setattr(spotter._reader, "detector", FindsRed())
    seen: list[np.ndarray] = []
    read = spotter._reader.recognize

    def recognize(grey: np.ndarray, *args: Any, **settings: Any) -> Any:
        seen.append(grey)
        return read(grey, *args, **settings)

    monkeypatch.setattr(spotter._reader, "recognize", recognize)
    (word,) = spotter.spot([image])[0].words
    # EasyOCR grows a box, by its shape and by a margin of a tenth of its height.
    assert np.abs(word.polygon - [[47, 17], [153, 17], [153, 43], [47, 43]]).max() <= 4
    assert seen[0][30, 100] == 76  # 0.299 of 255: red's share of luma
    assert seen[0][70, 100] == 29


def test_lines_of_both_kinds_become_words(spotter: EasyOCRSpotter, monkeypatch: pytest.MonkeyPatch):
    upright, slanted = [10, 110, 20, 40], [[20, 50], [60, 90], [50, 100], [10, 60]]
    monkeypatch.setattr(spotter._reader, "detect", lambda image, **_: ([[upright]], [[slanted]]))

    def recognize(grey: np.ndarray, horizontal: Any, free: Any, **settings: Any) -> Any:
        (x0, x1, y0, y1), quad = horizontal[0], free[0]
        box = [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]
        return [(box, " ab cdefg", 0.75), (quad, "hi", 1.0000001), (box, "  ", 0.2)]

    monkeypatch.setattr(spotter._reader, "recognize", recognize)
    (spotting,) = spotter.spot([np.zeros((120, 100, 3), np.uint8)])
    assert [(word.text, word.confidence) for word in spotting.words] == [
        ("ab", 0.75),
        ("cdefg", 0.75),
        ("hi", 1),
    ]
    # The line is cut to the image's 100 columns: nine characters over 90 pixels.
    assert spotting.words[0].polygon.tolist() == [[20, 20], [40, 20], [40, 40], [20, 40]]
    assert spotting.words[1].polygon.tolist() == [[50, 20], [99, 20], [99, 40], [50, 40]]
    assert spotting.words[2].polygon.tolist() == slanted


def test_boxes_are_cut_to_the_image_and_those_without_area_left_out(
    spotter: EasyOCRSpotter, monkeypatch: pytest.MonkeyPatch
):
    upright = [[-5, 130, -3, 30], [120, 140, 5, 20], [0, 100, 7, 7]]
    slanted = [[[20, 50], [60, 90], [50, 100], [10, 60]], [[0, 0], [50, 50], [50, 50], [0, 0]]]
    monkeypatch.setattr(spotter._reader, "detect", lambda image, **_: ([upright], [slanted]))
    image = np.zeros((60, 100, 3), np.uint8)
    boxes, quads = spotter.detect(image)
    assert boxes == [[0, 100, 0, 30]]
    assert [quad.tolist() for quad in quads] == [slanted[0]]
    assert [word.text for word in spotter.spot([image])[0].words] == ["Q", "Q"]


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (30_000, 1), (20, 3000)])
def test_any_size_of_image_has_an_outcome(spotter: EasyOCRSpotter, shape: tuple[int, int]):
    assert spotter.spot([np.zeros((*shape, 3), np.uint8)])[0].status is SpotStatus.OK


def test_missing_weights_are_named_with_the_way_out(weights: Path, tmp_path: Path):
    with pytest.raises(FileNotFoundError) as raised:
        EasyOCRSpotter(EasyOCRConfig(model_directory=tmp_path / "models"), "cpu")
    for part in (*FILES, str(tmp_path / "models"), "spotting.download", "spotting.model_directory"):
        assert part in str(raised.value)
    assert not (tmp_path / "models").exists()


def test_weights_that_are_not_easyocrs_are_refused(weights: Path, tmp_path: Path):
    for name in FILES:
        (tmp_path / name).write_bytes(b"other weights")
    with pytest.raises(FileNotFoundError, match=r"MD5 mismatch for .*craft_mlt_25k\.pth"):
        EasyOCRSpotter(EasyOCRConfig(model_directory=tmp_path), "cpu")


def test_weights_are_downloaded_where_that_is_set(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []

    def release(url: str, path: str, reporthook: Any = None) -> None:
        asked.append(url.rsplit("/", 1)[-1])
        with zipfile.ZipFile(path, "w") as archive:
            for name in FILES:
                archive.write(weights / name, name)

    monkeypatch.setattr(easyocr.utils, "urlretrieve", release)
    config = EasyOCRConfig(model_directory=tmp_path / "models", download=True)
    spotter = EasyOCRSpotter(config, "cpu")
    assert asked == ["craft_mlt_25k.zip", "english_g2.zip"]
    assert spotter.fingerprint() == EasyOCRSpotter(EasyOCRConfig(model_directory=weights), "cpu").fingerprint()
    fetch(config)
    assert len(asked) == 2


def test_a_failed_download_says_what_to_do(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def offline(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(easyocr.utils, "urlretrieve", offline)
    with pytest.raises(ConnectionError, match=r"Name or service not known.*spotting\.model_directory"):
        EasyOCRSpotter(EasyOCRConfig(model_directory=tmp_path, download=True), "cpu")


def test_languages_without_a_common_model_are_refused(weights: Path):
    with pytest.raises(ValueError, match="only compatible with English"):
        EasyOCRSpotter(EasyOCRConfig(languages=("ch_sim", "fr"), model_directory=weights), "cpu")


def test_the_fingerprint_holds_what_decides_the_words(weights: Path, tmp_path: Path):
    for name in FILES:
        shutil.copy(weights / name, tmp_path)
    here = EasyOCRSpotter(EasyOCRConfig(model_directory=weights), "cpu").fingerprint()
    there = EasyOCRSpotter(EasyOCRConfig(model_directory=tmp_path, min_size=5), "cpu").fingerprint()
    assert json.loads(json.dumps(here)) == here
    assert here["languages"] == "en"
    assert here["precision"] == "fp32"
    assert here["detector"] == hashlib.sha256((weights / FILES[0]).read_bytes()).hexdigest()
    assert {**there, "min_size": 6} == here
