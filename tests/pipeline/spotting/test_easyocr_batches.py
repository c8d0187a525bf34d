"""EasyOCR over batches: what an image says there is what it says alone, and what EasyOCR itself reads in it.

On checkpoints that are written here and, where they are, on EasyOCR's own ($EASYOCR_MODULE_PATH or ~/.EasyOCR).
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image as Pictures
from PIL import ImageDraw, ImageFont

from pipeline.schema import SpotStatus
from pipeline.spotting import Image, Spotting, easyocr_batches
from pipeline.spotting.config import EasyOCRConfig
from pipeline.spotting.easyocr import EasyOCRSpotter, weight_files
from tests.pipeline.spotting.easyocr_weights import light_detector, random_recogniser, save_weights

VOCABULARY = "parrot captions teach clip to spot text sale open 2024 free coffee museum river".split()
SETTINGS = EasyOCRConfig(mag_ratio=1, batch_pixels=1_000_000)


def draw(width: int, height: int, rng: random.Random) -> Image:
    """Lines of light words on black."""
    picture = Pictures.new("L", (width, height))
    canvas, y = ImageDraw.Draw(picture), rng.randrange(2, 6)
    while y < height - 20:
        size, text = rng.randrange(12, 18), " ".join(rng.sample(VOCABULARY, rng.randint(1, 2)))
        canvas.text((rng.randrange(2, 9), y), text, rng.randrange(150, 256), ImageFont.load_default(size))
        y += 10 + size
    return np.asarray(picture.convert("RGB"))


def label(text: str, angle: float) -> Image:
    """A light label with dark words, turned by some degrees."""
    picture = Pictures.new("L", (150, 34), 200)
    ImageDraw.Draw(picture).text((6, 6), text, 0, ImageFont.load_default(20))
    return np.asarray(picture.rotate(angle, Pictures.Resampling.BICUBIC, expand=True).convert("RGB"))


@pytest.fixture(scope="module")
def images() -> list[Image]:
    """Of many sizes; in two the text is slanted, in one there is none."""
    rng = random.Random(5)
    drawn = [draw(rng.randrange(60, 200), rng.randrange(70, 124), rng) for _ in range(9)]
    return [*drawn, label("river museum", 25), np.zeros((50, 90, 3), np.uint8), label("free coffee", -20)]


@pytest.fixture(scope="module")
def fabricated(tmp_path_factory: pytest.TempPathFactory) -> EasyOCRSpotter:
    directory = tmp_path_factory.mktemp("easyocr")
    with pytest.MonkeyPatch.context() as patch:
        save_weights(directory, light_detector(), random_recogniser(), patch)
        return EasyOCRSpotter(SETTINGS.model_copy(update={"model_directory": directory}), "cpu")


@pytest.fixture(scope="module", params=["fabricated", "real"])
def spotter(request: pytest.FixtureRequest) -> EasyOCRSpotter:
    if request.param == "fabricated":
        return request.getfixturevalue("fabricated")
    if missing := [str(file) for file in weight_files(SETTINGS) if not file.is_file()]:
        pytest.skip(f"EasyOCR's own weights are not here: no {' and no '.join(missing)}")
    return EasyOCRSpotter(SETTINGS, "cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(scope="module")
def together(fabricated: EasyOCRSpotter, images: list[Image]) -> list[Spotting]:
    return fabricated.spot(images)


Shapes = list[tuple[int, ...]]


@contextmanager
def watch(spotter: EasyOCRSpotter) -> Iterator[tuple[Shapes, Shapes]]:
    """The shapes of the inputs of detector and recogniser, in the order of the calls."""
    networks = spotter._reader._easyocr.detector, spotter._reader._easyocr.recognizer
    seen: tuple[Shapes, Shapes] = [], []
    hooks = [
        network.register_forward_pre_hook(lambda _, inputs, shapes=shapes: shapes.append(tuple(inputs[0].shape)))
        for network, shapes in zip(networks, seen, strict=True)
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def broken(network: torch.nn.Module, on: Callable[[torch.Tensor], bool], error: Exception) -> Iterator[None]:
    """A network that raises on some inputs."""

    def check(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if on(inputs[0]):
            raise error

    hook = network.register_forward_pre_hook(check)
    try:
        yield
    finally:
        hook.remove()


def texts(spottings: Sequence[Spotting]) -> list[list[str]]:
    return [[word.text for word in spotting.words] for spotting in spottings]


def assert_alike(some: Sequence[Spotting], others: Sequence[Spotting]) -> None:
    """Equal but for rounding: of a GPU's networks it can be a pixel of a polygon."""
    assert {spotting.status for spotting in [*some, *others]} == {SpotStatus.OK}
    assert texts(some) == texts(others)
    pixels = 1 if torch.cuda.is_available() else 0
    for one, other in zip(some, others, strict=True):
        for a, b in zip(one.words, other.words, strict=True):
            np.testing.assert_allclose(a.polygon, b.polygon, atol=pixels)
            assert a.confidence == pytest.approx(b.confidence, abs=1e-4 + 1e-2 * pixels)


def test_a_batch_reads_as_its_images_do_alone(spotter: EasyOCRSpotter, images: list[Image]):
    with watch(spotter) as (canvases, strips):
        together = spotter.spot(images)
    assert len(canvases) < len(images) / 2
    words = [word for spotting in together for word in spotting.words]
    assert len(strips) < len(words) > 30
    assert len({word.text for word in words}) > 10
    assert any(len(set(word.polygon[:, 1].tolist())) == 4 for word in words)  # a slanted one
    assert_alike(together, [spotter.spot([image])[0] for image in images])


def test_neighbours_and_their_order_decide_no_word(
    fabricated: EasyOCRSpotter, images: list[Image], together: list[Spotting]
):
    assert_alike(together[::-1], fabricated.spot(images[::-1]))
    assert_alike(together[1::3], fabricated.spot(images[1::3]))


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true")
def test_a_batch_reads_as_easyocrs_own_readtext(spotter: EasyOCRSpotter, images: list[Image]):
    ours, own = Counter[str](), Counter[str]()
    for image, spotting in zip(images, texts(spotter.spot(images)), strict=True):
        ours.update(spotting)
        settings = SETTINGS.model_dump(include={"min_size", "mag_ratio", "canvas_size"})
        own.update(word for _, line, _ in spotter._reader._easyocr.readtext(image, **settings) for word in line.split())
    agreement = 2 * (ours & own).total() / (ours.total() + own.total())
    print(f"\nagreement with readtext on {own.total()} words: {agreement:.3f}")
    assert agreement > 0.9


def test_calls_are_of_one_shape_and_lines_go_by_width(fabricated: EasyOCRSpotter, images: list[Image]):
    with watch(fabricated) as (canvases, strips):
        fabricated.spot(images[:6])
    assert {side % 128 for canvas in canvases for side in canvas[2:]} == {0}
    assert len({canvas[2:] for canvas in canvases}) == len(canvases)
    assert {(strip[2], strip[3] % 64) for strip in strips} == {(64, 0)}
    widths = [strip[3] for strip in strips]
    assert widths == sorted(widths)


def test_the_number_of_images_at_once_decides_no_word(
    fabricated: EasyOCRSpotter, images: list[Image], together: list[Spotting], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fabricated._reader, "_pixels", 70_000)
    with watch(fabricated) as (canvases, strips):
        assert_alike(together, fabricated.spot(images))
    sizes = [(shape[0], shape[0] * shape[2] * shape[3]) for shape in [*canvases, *strips]]
    assert all(number == 1 or pixels <= 70_000 for number, pixels in sizes)
    assert max(number for number, _ in sizes) > 1


def test_weak_lines_are_read_again_with_more_contrast(fabricated: EasyOCRSpotter, images: list[Image]):
    lines = [line for found in fabricated._reader.detect(images[:6]) for line in found]
    with watch(fabricated) as (_, strips):
        fabricated._reader.recognise(lines)
    assert len(lines) < sum(strip[0] for strip in strips) < 2 * len(lines)


def test_nothing_is_recognised_where_nothing_is_found(fabricated: EasyOCRSpotter):
    with watch(fabricated) as (canvases, strips):
        (spotting,) = fabricated.spot([np.zeros((50, 90, 3), np.uint8)])
        assert fabricated.spot([]) == []
    assert (spotting.status, spotting.words) == (SpotStatus.OK, ())
    assert (len(canvases), len(strips)) == (1, 0)


@pytest.mark.filterwarnings("ignore:EasyOCR failed on")
@pytest.mark.parametrize("network", ["detector", "recognizer"])
def test_an_image_that_fails_leaves_its_neighbours_alone(
    fabricated: EasyOCRSpotter, images: list[Image], together: list[Spotting], network: str
):
    culprit = np.full((124, 250, 3), 255, np.uint8)  # nothing else is as light
    batch = [*images[:3], culprit, *images[3:6]]
    error = RuntimeError("the engine gave up")
    module = getattr(fabricated._reader._easyocr, network)
    with broken(module, lambda x: bool((x.flatten(1).mean(1) > 0.5).any()), error):
        spottings = fabricated.spot(batch)
    failed = spottings.pop(3)
    assert (failed.status, failed.words) == (SpotStatus.FAILED, ())
    assert failed.message == "RuntimeError: the engine gave up"
    assert_alike(spottings, together[:6])


def test_what_is_no_image_leaves_its_neighbours_alone(fabricated: EasyOCRSpotter, images: list[Image]):
    first, failed, last = fabricated.spot([images[0], np.zeros((0, 5, 3), np.uint8), images[0]])
    assert_alike([first], [last])
    assert failed.status is SpotStatus.FAILED


def test_what_memory_does_not_hold_together_goes_one_by_one(
    fabricated: EasyOCRSpotter, images: list[Image], together: list[Spotting]
):
    error = torch.OutOfMemoryError("CUDA out of memory")
    with (
        broken(fabricated._reader._easyocr.detector, lambda x: len(x) > 1, error),
        pytest.warns(UserWarning, match=r"CUDA out of memory.*lower spotting\.batch_pixels"),
    ):
        spottings = fabricated.spot(images[:6])
    assert_alike(spottings, together[:6])


def test_a_lost_device_is_no_failure_of_an_image(fabricated: EasyOCRSpotter, images: list[Image]):
    error = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    with (
        broken(fabricated._reader._easyocr.detector, lambda x: True, error),
        pytest.raises(torch.AcceleratorError, match="illegal memory access"),
    ):
        fabricated.spot(images)


def test_specks_without_number_are_cut_off(
    fabricated: EasyOCRSpotter, images: list[Image], monkeypatch: pytest.MonkeyPatch
):
    (all_lines,) = fabricated._reader.detect([images[0]])
    monkeypatch.setattr(easyocr_batches, "_MAX_LINES", 1)
    (first,) = fabricated._reader.detect([images[0]])
    assert len(first) == 1 < len(all_lines)
    assert first[0].quad.tolist() == all_lines[0].quad.tolist()


def test_arabic_is_turned_to_its_reading_order(fabricated: EasyOCRSpotter, images: list[Image]):
    lines = [line for found in fabricated._reader.detect(images[:1]) for line in found]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(easyocr_batches, "recognizer_predict", lambda *_, **__: [("ةرهاقلا", 0.9) for _ in lines[:1]])
        patch.setattr(fabricated._reader._easyocr, "model_lang", "arabic")
        (reading,) = fabricated._reader.recognise(lines[:1])
    assert reading.text == "القاهرة"
