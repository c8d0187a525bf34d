"""EasyOCR's plumbing, on checkpoints of its architectures written here."""

import hashlib
import json
import shutil
import subprocess
import sys
import urllib.error
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import easyocr.utils
import numpy as np
import pytest
import torch
from easyocr.craft import CRAFT
from easyocr.model.vgg_model import Model

from pipeline.schema import SpotStatus
from pipeline.spotting import easyocr_batches
from pipeline.spotting.config import EasyOCRConfig
from pipeline.spotting.easyocr import EasyOCRSpotter, fetch
from pipeline.spotting.easyocr_batches import CANVAS_STEP, Line, Reading
from tests.pipeline.spotting.easyocr_weights import CLASSES, ENGLISH, FILES, save_weights


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
    recogniser = Model(1, 256, 256, CLASSES)
    torch.nn.init.zeros_(recogniser.Prediction.weight)
    torch.nn.init.zeros_(recogniser.Prediction.bias)
    recogniser.Prediction.bias.data[1 + ENGLISH["characters"].index("Q")] = 30
    with pytest.MonkeyPatch.context() as patch:
        save_weights(directory, detector, recogniser, patch)
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
    monkeypatch.setattr(spotter._reader._easyocr, "detector", FindsRed())
    (word,) = spotter.spot([image])[0].words
    # EasyOCR grows a box, by its shape and by a margin of a tenth of its height.
    assert np.abs(word.polygon - [[47, 17], [153, 17], [153, 43], [47, 43]]).max() <= 4
    ((line,),) = spotter._reader.detect([image])
    assert line.strip[32, line.strip.shape[1] // 2] == 76  # 0.299 of 255: red's share of luma


def test_lines_of_both_kinds_become_words(spotter: EasyOCRSpotter, monkeypatch: pytest.MonkeyPatch):
    upright = np.array([[10, 20], [100, 20], [100, 40], [10, 40]], np.float64)
    slanted = np.array([[20, 50], [60, 90], [50, 100], [10, 60]], np.float64)
    read = [Reading(upright, " ab cdefg", 0.75), Reading(slanted, "hi", 1.0000001), Reading(upright, "  ", 0.2)]
    lines = [Line(reading.quad, np.zeros((64, 64), np.uint8), 64) for reading in read]
    monkeypatch.setattr(spotter._reader, "detect", lambda images: [lines, []])
    monkeypatch.setattr(spotter._reader, "recognise", lambda queue: read)
    spotting, empty = spotter.spot([np.zeros((120, 100, 3), np.uint8)] * 2)
    assert (empty.status, empty.words) == (SpotStatus.OK, ())
    assert [(word.text, word.confidence) for word in spotting.words] == [
        ("ab", 0.75),
        ("cdefg", 0.75),
        ("hi", 1),
    ]
    # Nine characters over 90 pixels; the image has 100 columns.
    assert spotting.words[0].polygon.tolist() == [[20, 20], [40, 20], [40, 40], [20, 40]]
    assert spotting.words[1].polygon.tolist() == [[50, 20], [99, 20], [99, 40], [50, 40]]
    assert spotting.words[2].polygon.tolist() == slanted.tolist()


def test_boxes_are_cut_to_the_image_and_those_without_area_left_out(
    spotter: EasyOCRSpotter, monkeypatch: pytest.MonkeyPatch
):
    upright = [[-5, 130, -3, 30], [120, 140, 5, 20], [0, 100, 7, 7]]
    slanted = [[[20, 50], [60, 90], [50, 100], [10, 60]], [[0, 0], [50, 50], [50, 50], [0, 0]]]
    monkeypatch.setattr(easyocr_batches, "group_text_box", lambda quads, **_: (upright, slanted))
    image = np.zeros((60, 100, 3), np.uint8)
    (lines,) = spotter._reader.detect([image])
    assert [line.quad.tolist() for line in lines] == [[[0, 0], [100, 0], [100, 30], [0, 30]], slanted[0]]
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


FETCHING = """
import sys
from easyocr.config import detection_models, recognition_models
from pipeline.spotting.config import EasyOCRConfig
from pipeline.spotting.easyocr import EasyOCRSpotter

folder, url, *sums = sys.argv[1:]
for entry, name, md5 in zip(
    (detection_models["craft"], recognition_models["gen2"]["english_g2"]), ("craft.zip", "english.zip"), sums
):
    entry.update(url=f"{url}/{name}", md5sum=md5)
EasyOCRSpotter(EasyOCRConfig(model_directory=folder, download=True), "cpu")
"""


def test_processes_that_start_together_download_once(weights: Path, tmp_path: Path):
    asked = []

    class Release(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            super().do_GET()

    for archive, name in zip(("craft.zip", "english.zip"), FILES, strict=True):
        with zipfile.ZipFile(tmp_path / archive, "w") as file:
            file.write(weights / name, name)
    sums = [hashlib.md5((weights / name).read_bytes()).hexdigest() for name in FILES]  # noqa: S324
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Release, directory=tmp_path)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        command = [sys.executable, "-c", FETCHING, tmp_path / "models", f"http://127.0.0.1:{server.server_port}", *sums]
        processes = [subprocess.Popen(command) for _ in range(3)]
        assert [process.wait(120) for process in processes] == [0, 0, 0]
        server.shutdown()
    assert asked == ["/craft.zip", "/english.zip"]


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
    elsewhere = EasyOCRConfig(model_directory=tmp_path, gate="gate.json", min_size=5, batch_pixels=70_000)
    there = EasyOCRSpotter(elsewhere, "cpu").fingerprint()
    assert json.loads(json.dumps(here)) == here
    assert here["languages"] == "en"
    assert here["precision"] == "fp32"
    assert here["canvas_step"] == CANVAS_STEP
    assert here["detector"] == hashlib.sha256((weights / FILES[0]).read_bytes()).hexdigest()
    assert {**there, "min_size": 6} == here
