import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import openvino
import pytest
from PIL import Image as Pictures
from PIL import ImageDraw, ImageFont

from pipeline.schema import SpotStatus
from pipeline.spotting import Image, Word, rapidocr
from pipeline.spotting.config import RapidOCRConfig
from pipeline.spotting.lines import Line
from pipeline.spotting.openvino_models import Colours, read_model, resolve_precision
from pipeline.spotting.rapidocr import RapidOCRSpotter
from pipeline.spotting.recogniser import Reading

Bounds = tuple[float, float, float, float]


def draw(words: list[tuple[str, int, int]], size: tuple[int, int], height: int = 40) -> tuple[Image, list[Bounds]]:
    """Black words at their left top corners on white, and the boxes x0, y0, x1, y1 of their ink."""
    picture = Pictures.new("RGB", size, "white")
    canvas, font = ImageDraw.Draw(picture), ImageFont.load_default(height)
    for text, x, y in words:
        canvas.text((x, y), text, "black", font)
    return np.asarray(picture), [canvas.textbbox((x, y), text, font) for text, x, y in words]


def iou(word: Word, box: Bounds) -> float:
    """Intersection over union of an upright polygon and a box."""
    (x0, y0), (x1, y1) = word.polygon.min(axis=0).tolist(), word.polygon.max(axis=0).tolist()
    overlap = max(0, min(x1, box[2]) - max(x0, box[0])) * max(0, min(y1, box[3]) - max(y0, box[1]))
    return overlap / ((x1 - x0) * (y1 - y0) + (box[2] - box[0]) * (box[3] - box[1]) - overlap)


def texts(words: tuple[Word, ...]) -> list[str]:
    return [word.text for word in words]


@pytest.fixture(scope="module")
def spotter() -> RapidOCRSpotter:
    return RapidOCRSpotter(RapidOCRConfig(), threads=2)


# One line of two words, and one of its own.
SCENE = [("Parrot", 60, 50), ("CAPTIONS", 215, 50), ("teach", 150, 200)]


def test_words_and_where_they_stand(spotter: RapidOCRSpotter):
    image, boxes = draw(SCENE, (480, 300))
    (spotting,) = spotter.spot([image])
    assert spotting.status is SpotStatus.OK
    assert texts(spotting.words) == ["Parrot", "CAPTIONS", "teach"]
    for word, box in zip(spotting.words, boxes, strict=True):
        assert iou(word, box) > 0.7
        assert 0.8 < word.confidence <= 1
        assert word.polygon.shape == (4, 2)
        assert word.polygon.dtype == np.int16


def test_polygons_are_in_pixels_of_the_image_given_however_large(spotter: RapidOCRSpotter):
    large = [(text, 10 * x, 10 * y) for text, x, y in SCENE]
    image, boxes = draw(large, (4800, 3000), height=400)
    (spotting,) = spotter.spot([image])
    assert texts(spotting.words) == ["Parrot", "CAPTIONS", "teach"]
    assert all(iou(word, box) > 0.7 for word, box in zip(spotting.words, boxes, strict=True))


@pytest.mark.parametrize("turns", [-1, 1], ids=["downwards", "upwards"])
def test_a_line_that_runs_downwards_or_upwards(spotter: RapidOCRSpotter, turns: int):
    image, boxes = draw([("Proper", 60, 60), ("Motion", 280, 60)], (540, 160))
    (spotting,) = spotter.spot([np.rot90(image, turns)])
    assert sorted(texts(spotting.words)) == ["Motion", "Proper"]
    for word in spotting.words:
        x0, y0, x1, y1 = boxes[word.text == "Motion"]
        assert iou(word, (160 - y1, x0, 160 - y0, x1) if turns < 0 else (y0, 540 - x1, y1, 540 - x0)) > 0.7


@pytest.mark.parametrize(
    "shape", [(1, 1), (2, 2), (1, 3000), (3000, 1), (30_000, 1), (33, 3000), (3000, 33), (9500, 9500)]
)
def test_any_size_of_image_has_an_outcome(spotter: RapidOCRSpotter, shape: tuple[int, int]):
    (spotting,) = spotter.spot([np.full((*shape, 3), 200, np.uint8)])
    assert (spotting.status, spotting.words) == (SpotStatus.OK, ())


@pytest.mark.parametrize(
    ("side", "near"), [(480, 480), (500, 480), (450, 480), (720, 640), (400, 400), (140, 160), (139, 139), (1, 1)]
)
def test_a_side_is_stretched_to_one_that_has_kernels_where_that_is_little(side: int, near: int):
    assert rapidocr._near(side) == near


def test_images_up_to_the_longest_side_come_in_few_shapes():
    assert {rapidocr._up(rapidocr._near(side)) for side in range(1, 1281)} == set(range(160, 1281, 160))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The longest sides at which the detector has seen images."""
    sides: list[int] = []
    canvas = RapidOCRSpotter.canvas

    def noted(self: RapidOCRSpotter, image: Image, longest_side: int) -> Any:
        sides.append(longest_side)
        return canvas(self, image, longest_side)

    monkeypatch.setattr(RapidOCRSpotter, "canvas", noted)
    return sides


@pytest.mark.parametrize(
    ("size", "height", "sides"),
    [((1200, 900), 80, [800]), ((1200, 900), 18, [800, 1280]), ((900, 675), 16, [800])],
    ids=["high text", "low text", "hardly larger"],
)
def test_a_large_image_whose_text_is_low_is_seen_again(
    seen: list[int], size: tuple[int, int], height: int, sides: list[int]
):
    image, _ = draw([("teach", 60, 50), ("CAPTIONS", 60, 250)], size, height)
    (spotting,) = RapidOCRSpotter(RapidOCRConfig(low_line=20), threads=2).spot([image])
    assert texts(spotting.words) == ["teach", "CAPTIONS"]
    assert seen == sides


def test_words_at_every_precision_of_this_machine(spotter: RapidOCRSpotter):
    image, _ = draw(SCENE, (480, 300))
    (expected,) = spotter.spot([image])
    for precision in {"fp32", resolve_precision("auto", openvino.Core())}:
        other = RapidOCRSpotter(RapidOCRConfig.model_validate({"precision": precision}), threads=2)
        (spotting,) = other.spot([image])
        assert texts(spotting.words) == texts(expected.words)
        assert other.fingerprint() == spotter.fingerprint() | {"precision": precision}


@pytest.mark.parametrize("stage", ["find", "recognise"])
def test_an_error_in_a_stage_fails_its_image_only(
    spotter: RapidOCRSpotter, monkeypatch: pytest.MonkeyPatch, stage: str
):
    good, _ = draw([("sound", 60, 50)], (300, 160))
    bad, _ = draw([("a longer line of text", 20, 50)], (600, 160))
    sound = getattr(RapidOCRSpotter, stage)

    def broken(self: RapidOCRSpotter, given: Any) -> Any:
        widths = [line.strip.shape[1] for line in given] if stage == "recognise" else [given.shape[1]]
        if max(widths) > 300:
            raise RuntimeError("the engine gave up")
        return sound(self, given)

    monkeypatch.setattr(RapidOCRSpotter, stage, broken)
    first, failed, last = spotter.spot([good, bad, good])
    assert texts(first.words) == texts(last.words) == ["sound"]
    assert (failed.status, failed.words) == (SpotStatus.FAILED, ())
    assert failed.message == "RuntimeError: the engine gave up"


def test_what_is_no_image_fails_by_itself(spotter: RapidOCRSpotter):
    good, _ = draw([("sound", 60, 50)], (300, 160))
    first, failed = spotter.spot([good, np.zeros((8, 8), np.uint8)])
    assert texts(first.words) == ["sound"]
    assert (failed.status, failed.message) == (
        SpotStatus.FAILED, "ValueError: not an RGB image of uint8: shape (8, 8), uint8"
    )  # fmt: skip


def test_lines_of_many_images_are_recognised_together_up_to_so_many_bytes(
    spotter: RapidOCRSpotter, monkeypatch: pytest.MonkeyPatch
):
    images = [draw([(text, 60, 50)], (300, 160))[0] for text in ("teach", "clip", "spot", "text")]
    blank = np.full((160, 300, 3), 255, np.uint8)
    counts: list[int] = []
    recognise = RapidOCRSpotter.recognise

    def counted(self: RapidOCRSpotter, lines: Sequence[Line]) -> Any:
        counts.append(len(lines))
        return recognise(self, lines)

    monkeypatch.setattr(RapidOCRSpotter, "recognise", counted)
    together = spotter.spot([*images, blank])
    monkeypatch.setattr(rapidocr, "_MOST_WAITING", 0)
    bounded = spotter.spot([*images, blank])
    for spottings in (together, bounded):
        assert [texts(spotting.words) for spotting in spottings] == [["teach"], ["clip"], ["spot"], ["text"], []]
    assert counts == [4, 1, 1, 1, 1, 0]


def test_words_do_not_depend_on_the_number_of_threads(spotter: RapidOCRSpotter):
    image, _ = draw(SCENE, (480, 300))
    single = RapidOCRSpotter(RapidOCRConfig(), threads=1)
    (one,), (two,) = single.spot([image]), spotter.spot([image])
    assert texts(one.words) == texts(two.words)
    for a, b in zip(one.words, two.words, strict=True):
        assert a.polygon.tolist() == b.polygon.tolist()
    assert single.fingerprint() == spotter.fingerprint()


def test_an_image_has_the_same_words_whatever_is_spotted_beside_it(spotter: RapidOCRSpotter):
    image, _ = draw(SCENE, (480, 300))
    wide, _ = draw([("a much longer line of text than any other", 60, 20)], (1000, 100))
    before, other, after = spotter.spot([image, wide, image])
    (alone,) = spotter.spot([image])
    assert texts(other.words) == "a much longer line of text than any other".split()
    for spotting in (before, after):
        assert texts(spotting.words) == texts(alone.words)
        for word, same in zip(spotting.words, alone.words, strict=True):
            assert word.confidence == same.confidence
            assert word.polygon.tolist() == same.polygon.tolist()


def test_the_prepared_model_takes_rgb_where_the_bare_one_takes_normalised_bgr():
    core = openvino.Core()
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), np.uint8)
    precise = {"INFERENCE_PRECISION_HINT": "f32"}
    path = rapidocr.DETECTOR
    colours = Colours((100, 110, 120), (50, 60, 70))
    bare = core.compile_model(core.read_model(path), "CPU", precise)
    prepared = core.compile_model(read_model(core, path, colours), "CPU", precise)
    bgr = (image[..., ::-1] - np.array(colours.mean)) / np.array(colours.scale)
    expected = bare(bgr.transpose(0, 3, 1, 2).astype(np.float32))[0]
    np.testing.assert_allclose(prepared(image)[0], expected, atol=1e-4)


@dataclass
class Reader:
    """Stands for a recogniser: reads its name in every line, as surely as it is told, and notes which lines it got."""

    name: str
    sure: dict[int, float]
    got: list[int] = field(default_factory=list)

    def __call__(self, lines: Sequence[Line]) -> list[Reading]:
        widths = [line.strip.shape[1] for line in lines]
        self.got += widths
        sure = [np.full(len(self.name), self.sure[width], np.float32) for width in widths]
        return [Reading(self.name, each, np.linspace(0, 1, len(self.name) + 1)) for each in sure]


def strips(*widths: int) -> list[Line]:
    """Lines that run downwards, but for the even ones."""
    across, down = np.array([[0, 0], [9, 0], [9, 1], [0, 1]]), np.array([[1, 0], [1, 9], [0, 9], [0, 0]])
    return [
        Line((down if width % 2 else across).astype(np.float32), np.zeros((48, width, 3), np.uint8)) for width in widths
    ]


def test_only_lines_of_which_the_first_recogniser_is_unsure_are_read_again(monkeypatch: pytest.MonkeyPatch):
    spotter = RapidOCRSpotter(RapidOCRConfig(read_again_from=0.5, read_again_below=0.9), threads=1)
    first, second = Reader("first", {2: 0.95, 4: 0.6, 6: 0.3, 8: 0.89, 10: 0.91}), Reader("second", {4: 0.2, 8: 0.99})
    monkeypatch.setattr(spotter, "_first", first)
    monkeypatch.setattr(spotter, "_second", second)
    lines = strips(2, 4, 6, 8, 10)
    read = spotter.recognise(lines)
    assert (first.got, second.got) == ([2, 4, 6, 8, 10], [4, 8])
    assert all(line is given for (line, _), given in zip(read, lines, strict=True))
    assert [reading.text for _, reading in read] == ["first", "second", "first", "second", "first"]
    assert [round(reading.confidence, 2) for _, reading in read] == [0.95, 0.2, 0.3, 0.99, 0.91]


def test_lines_that_run_downwards_are_read_both_ways_and_the_surer_reading_is_kept(monkeypatch: pytest.MonkeyPatch):
    class Both(Reader):
        def __call__(self, lines: Sequence[Line]) -> list[Reading]:
            texts = [f"{line.strip.shape[1]} {'down' if line.quad[1, 1] == 9 else 'up'}" for line in lines]
            self.got += [line.strip.shape[1] for line in lines]
            return [
                Reading(text, np.full(len(text), sure[text], np.float32), np.linspace(0, 1, len(text) + 1))
                for text in texts
            ]

    sure = {"1 down": 0.8, "1 up": 0.6, "2 up": 0.7, "3 down": 0.3, "3 up": 0.99}
    spotter = RapidOCRSpotter(RapidOCRConfig(read_again_below=0.0), threads=1)
    reader = Both("both", {})
    monkeypatch.setattr(spotter, "_first", reader)
    lines = strips(1, 2, 3)
    read = spotter.recognise(lines)
    assert reader.got == [1, 2, 3, 1, 3]
    assert [reading.text for _, reading in read] == ["1 down", "2 up", "3 up"]
    assert [line.quad.tolist() for line, _ in read] == [
        lines[0].quad.tolist(), lines[1].quad.tolist(), lines[2].turned().quad.tolist()
    ]  # fmt: skip


def test_a_missing_model_is_named_and_not_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Any):
    monkeypatch.setattr(rapidocr, "SECOND_RECOGNISER", tmp_path / rapidocr.SECOND_RECOGNISER.name)
    with pytest.raises(FileNotFoundError, match=r"has no model .*PP-OCRv6_rec_small\.onnx; the wheel of"):
        RapidOCRSpotter(RapidOCRConfig(), threads=1)
    assert list(tmp_path.iterdir()) == []


def test_the_fingerprint_holds_what_decides_the_words(spotter: RapidOCRSpotter):
    fields = spotter.fingerprint()
    assert json.loads(json.dumps(fields)) == fields
    assert fields["precision"] in ("bf16", "fp32")
    assert (fields["first_side"], fields["longest_side"]) == (800, 1280)
    assert fields["revision"] == 5
    models = {fields[model] for model in ("detector", "recogniser", "second_recogniser")}
    assert [len(model) for model in models] == [64] * 3
    assert "name" not in fields
    assert "gate" not in fields
    assert "threads" not in fields


class Machine:
    """Stands for OpenVINO's core on a CPU with these capabilities."""

    def __init__(self, *capabilities: str) -> None:
        self.capabilities = capabilities

    def get_property(self, device: str, name: str) -> tuple[str, ...]:
        return self.capabilities


def test_precision_is_resolved_by_the_machine():
    assert resolve_precision("auto", Machine("FP32", "BF16")) == "bf16"
    assert resolve_precision("bf16", Machine("FP32", "BF16")) == "bf16"
    assert resolve_precision("auto", Machine("FP32")) == "fp32"
    assert resolve_precision("fp32", Machine("FP32", "BF16")) == "fp32"
    with pytest.raises(ValueError, match="is bf16, and this machine's CPU has no bf16 instructions"):
        resolve_precision("bf16", Machine("FP32"))
