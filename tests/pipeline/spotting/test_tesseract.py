import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.schema import SpotStatus
from pipeline.spotting import load_spotter
from pipeline.spotting.config import TesseractConfig
from pipeline.spotting.tesseract import TesseractSpotter
from tests.pipeline.spotting.test_rapidocr import SCENE, draw, iou, texts

COLUMNS = "level page_num block_num par_num line_num word_num left top width height conf text"


@pytest.fixture(scope="module")
def tesseract() -> str:
    """The program."""
    program = shutil.which("tesseract")
    if program is None:
        pytest.skip("Tesseract is not installed (Debian, Ubuntu: tesseract-ocr)")
    return program


@pytest.fixture(scope="module")
def spotter(tesseract: str) -> TesseractSpotter:
    return TesseractSpotter(TesseractConfig(), threads=2)


@pytest.fixture
def models(spotter: TesseractSpotter, tmp_path: Path) -> Path:
    """A folder with the English model, under that name and as xyz."""
    for language in ("eng", "xyz"):
        shutil.copy(spotter._models["eng"], tmp_path / f"{language}.traineddata")
    return tmp_path


def replace(folder: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Put a shell script in Tesseract's place that does `program` with an image, and answers as Tesseract does."""
    script = folder / "tesseract"
    script.write_text(f'#!/bin/sh\n[ "$1" = stdin ] || exec {shutil.which("tesseract")} "$@"\n{program}\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def test_words_and_where_they_stand(spotter: TesseractSpotter):
    image, boxes = draw(SCENE, (480, 300))
    (spotting,) = spotter.spot([image])
    assert spotting.status is SpotStatus.OK
    assert texts(spotting.words) == ["Parrot", "CAPTIONS", "teach"]
    for word, box in zip(spotting.words, boxes, strict=True):
        assert iou(word, box) > 0.8
        assert 0.8 < word.confidence <= 1
        assert word.polygon.shape == (4, 2)
        assert word.polygon.dtype == np.int16


def test_polygons_are_in_pixels_of_the_image_given_however_large(spotter: TesseractSpotter):
    large = [(text, 10 * x, 10 * y) for text, x, y in SCENE]
    image, boxes = draw(large, (4800, 3000), height=400)
    (spotting,) = spotter.spot([image])
    assert texts(spotting.words) == ["Parrot", "CAPTIONS", "teach"]
    assert all(iou(word, box) > 0.8 for word, box in zip(spotting.words, boxes, strict=True))


def test_small_print_is_magnified(spotter: TesseractSpotter):
    image, _ = draw([("small", 20, 20), ("print", 60, 20)], (120, 60), height=9)
    (magnified,), (bare,) = (
        each.spot([image]) for each in (spotter, TesseractSpotter(TesseractConfig(magnification=1), threads=1))
    )
    assert texts(magnified.words) == ["small", "print"]
    assert texts(bare.words) != ["small", "print"]


@pytest.mark.parametrize("shape", [(300, 200), (1, 1), (2, 2), (1, 3000), (3000, 1), (20, 3000), (3000, 20)])
def test_a_blank_picture_of_any_size_has_no_words(spotter: TesseractSpotter, shape: tuple[int, int]):
    (spotting,) = spotter.spot([np.full((*shape, 3), 200, np.uint8)])
    assert (spotting.status, spotting.words) == (SpotStatus.OK, ())


def test_words_do_not_depend_on_the_number_of_threads(spotter: TesseractSpotter):
    images = [draw([(text, 40, 40)], (300, 120))[0] for text in ("first", "second", "third")]
    single = TesseractSpotter(TesseractConfig(), threads=1)
    one, two = single.spot(images), spotter.spot(images)
    assert [texts(spotting.words) for spotting in one] == [["first"], ["second"], ["third"]]
    for a, b in zip(one, two, strict=True):
        assert a.words[0].confidence == b.words[0].confidence
        assert a.words[0].polygon.tolist() == b.words[0].polygon.tolist()
    assert single.fingerprint() == spotter.fingerprint()


def test_what_becomes_of_a_row(tesseract: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows = [
        "4 1 1 1 1 0 0 0 400 200 -1 ",
        '5 1 1 1 1 1 20 40 60 20 96.5 "quoted',
        "5 1 1 1 1 2 360 160 90 80 80 beyond",
        "5 1 1 1 1 3 0 0 400 200 95  ",
        "5 1 1 1 1 4 20 40 60 20 79.9 unsure",
    ]
    table = "\n".join("\t".join(row.split(" ", 11)) for row in [COLUMNS, *rows])
    (tmp_path / "table").write_text(table + "\n")
    replace(tmp_path, monkeypatch, f"exec cat {tmp_path / 'table'}")
    spotter = TesseractSpotter(TesseractConfig(magnification=2, min_confidence=0.8), threads=1)
    (spotting,) = spotter.spot([np.zeros((100, 200, 3), np.uint8)])
    assert [(word.text, word.confidence, word.polygon.tolist()) for word in spotting.words] == [
        ('"quoted', 0.965, [[10, 20], [40, 20], [40, 30], [10, 30]]),
        ("beyond", 0.8, [[180, 80], [199, 80], [199, 99], [180, 99]]),
    ]


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ("echo no memory >&2; exit 1", "RuntimeError: Tesseract ended with status 1: no memory"),
        ("kill -SEGV $$", "RuntimeError: Tesseract ended with status -11: "),
    ],
)
def test_a_failure_fails_its_image_only(
    tesseract: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, message: str
):
    good, _ = draw([("sound", 60, 50)], (300, 160))
    program = f'cat > {tmp_path}/$$\nhead -c 9 {tmp_path}/$$ | grep -q "^P5 64 64" && {{ {end}; }}\n'
    replace(tmp_path, monkeypatch, f'{program}exec {tesseract} "$@" < {tmp_path}/$$')
    spotter = TesseractSpotter(TesseractConfig(magnification=1), threads=2)
    first, failed, last = spotter.spot([good, np.zeros((64, 64, 3), np.uint8), good])
    assert texts(first.words) == texts(last.words) == ["sound"]
    assert (failed.status, failed.words, failed.message) == (SpotStatus.FAILED, (), message)


def test_an_image_that_takes_too_long_fails(tesseract: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    replace(tmp_path, monkeypatch, "exec sleep 600")
    (spotting,) = TesseractSpotter(TesseractConfig(time_limit=0.5), threads=1).spot([np.zeros((64, 64, 3), np.uint8)])
    assert (spotting.status, spotting.words) == (SpotStatus.FAILED, ())
    assert spotting.message == "TimeoutError: Tesseract took longer than 0.5 seconds (spotting.time_limit)"


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FileNotFoundError, match=r"^Tesseract is not on PATH: install it .*tesseract-ocr"):
        load_spotter(TesseractConfig(), threads=1, device="cpu")


def test_a_missing_model_is_named(spotter: TesseractSpotter, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"no model of 'aze_cyrl': .*aze_cyrl\.traineddata; .*-ocr-aze-cyrl\)"):
        TesseractSpotter(TesseractConfig(languages=("eng", "aze_cyrl")), threads=1)
    with pytest.raises(FileNotFoundError, match=rf"no model of 'eng': there is no {tmp_path}/eng\.traineddata"):
        TesseractSpotter(TesseractConfig(model_directory=tmp_path), threads=1)


def test_orientation_needs_a_model_of_its_own(models: Path):
    with pytest.raises(FileNotFoundError, match="no model of 'osd'"):
        TesseractSpotter(TesseractConfig(page_segmentation=12, model_directory=models), threads=1)


@pytest.mark.parametrize(
    "settings", [{"languages": ()}, {"languages": ("../eng",)}, {"languages": ("eng+deu",)}, {"page_segmentation": 0}]
)
def test_wrong_settings_are_refused(settings: dict[str, object]):
    with pytest.raises(ValidationError):
        TesseractConfig.model_validate(settings)


def test_the_fingerprint_holds_what_decides_the_words(spotter: TesseractSpotter, models: Path):
    here = spotter.fingerprint()
    assert json.loads(json.dumps(here)) == here
    assert here["eng.traineddata"] == hashlib.sha256((models / "eng.traineddata").read_bytes()).hexdigest()
    assert here["version"][0].isdigit()
    config = TesseractConfig(name="other", gate="gate.json", model_directory=models, time_limit=1)
    assert TesseractSpotter(config, threads=1).fingerprint() == here
    both = config.model_copy(update={"languages": ("eng", "xyz"), "page_segmentation": 6})
    there = TesseractSpotter(both, threads=1).fingerprint()
    changed = {"languages": "eng+xyz", "page_segmentation": 6, "xyz.traineddata": here["eng.traineddata"]}
    assert there == here | changed
