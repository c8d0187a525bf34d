import numpy as np
import pytest

from pipeline.spotting.lines import Line, batches, cut, input_width


def quad(width: float, height: float) -> np.ndarray:
    return np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)


@pytest.mark.parametrize(
    ("length", "width"), [(1, 32), (32, 32), (33, 64), (256, 256), (257, 320), (320, 320), (3840, 3840)]
)
def test_widths_of_input_are_few(length: int, width: int):
    assert input_width(length) == width


@pytest.mark.parametrize("width", [33, 70, 100, 127, 300, 1000])
def test_a_line_fills_its_input_or_keeps_its_length(width: int):
    strip = cut(np.zeros((48, width, 3), np.uint8), quad(width, 48)).strip
    assert strip.shape[0] == 48
    assert 0.8 * width <= strip.shape[1] <= width
    assert strip.shape[1] in (width, input_width(strip.shape[1]))


def test_a_squeezed_line_holds_all_of_it():
    image = np.zeros((48, 75, 3), np.uint8)
    image[:, :15], image[:, 60:] = 255, 255
    strip = cut(image, quad(75, 48)).strip
    assert strip.shape == (48, 64, 3)
    assert np.flatnonzero(strip[24, :, 0] < 128).tolist() == list(range(13, 51))


def test_a_line_too_long_is_squeezed_into_the_widest_input():
    assert cut(np.zeros((3, 3000, 3), np.uint8), quad(3000, 3)).strip.shape == (48, 3072, 3)


@pytest.mark.parametrize("lengths", [[], [1], [64, 65, 63, 64, 64, 900, 5], [300] * 9])
def test_every_line_is_in_one_call_of_a_width_that_holds_it(lengths: list[int]):
    lines = [Line(quad(n, 48), np.zeros((48, n, 3), np.uint8)) for n in lengths]
    calls = list(batches(lines))
    assert sorted(index for _, batch in calls for index in batch) == list(range(len(lengths)))
    assert all(0 <= width - lengths[index] < 64 for width, batch in calls for index in batch)
    assert {len(batch) for _, batch in calls} <= {8, 4, 2, 1}
    assert all(len(batch) == 1 or len(batch) * width <= 1024 for width, batch in calls)


def test_lines_of_a_width_share_calls_as_far_as_these_stay_small():
    lines = [Line(quad(n, 48), np.zeros((48, n, 3), np.uint8)) for n in [128] * 11 + [512] * 3 + [640] * 2]
    shared = sorted((width, len(batch)) for width, batch in batches(lines))
    assert shared == [(128, 1), (128, 2), (128, 8), (512, 1), (512, 2), (640, 1), (640, 1)]


def test_a_line_that_runs_downwards_is_turned_to_run_upwards():
    image = np.zeros((100, 20, 3), np.uint8)
    image[:50] = 255
    line = cut(image, np.array([[0, 0], [20, 0], [20, 100], [0, 100]], np.float32))
    assert line.runs_downwards()
    assert line.quad.tolist() == [[20, 0], [20, 100], [0, 100], [0, 0]]
    assert line.strip[24, :, 0].tolist() == sorted(line.strip[24, :, 0], reverse=True)
    turned = line.turned()
    assert turned.quad.tolist() == [[0, 100], [0, 0], [20, 0], [20, 100]]
    assert turned.strip.tolist() == np.rot90(line.strip, 2).tolist()
    assert not cut(image, np.array([[0, 0], [20, 0], [20, 18], [0, 18]], np.float32)).runs_downwards()
