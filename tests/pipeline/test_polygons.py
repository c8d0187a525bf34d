import time

import numpy as np
import pytest
import shapely

from pipeline import polygons
from pipeline.polygons import sum_area, union_area

SQUARE = [(0, 0), (10, 0), (10, 10), (0, 10)]
HALF_OVER = [(5, 0), (15, 0), (15, 10), (5, 10)]
BOW_TIE = [(0, 0), (10, 10), (10, 0), (0, 10)]  # two triangles of 25


def _areas(*images: list[list[tuple[int, int]]]) -> tuple[list[float], list[float]]:
    """Sums and unions of images of polygons."""
    outlines = [np.array(outline, dtype=float).reshape(-1, 2) for image in images for outline in image]
    offsets = np.cumsum([0, *map(len, outlines)])
    geometries = polygons.polygons(np.concatenate([np.empty((0, 2)), *outlines]), offsets)
    owner = np.repeat(np.arange(len(images)), [len(image) for image in images])
    sums, unions = (area(geometries, owner, len(images)) for area in (sum_area, union_area))
    return sums.tolist(), unions.tolist()


@pytest.mark.parametrize(
    ("image", "total", "union"),
    [
        ([], 0, 0),
        ([SQUARE], 100, 100),
        ([SQUARE[::-1]], 100, 100),
        ([SQUARE, HALF_OVER], 200, 150),
        ([SQUARE, SQUARE], 200, 100),
        ([SQUARE, [(x + 10, y) for x, y in SQUARE]], 200, 200),  # only touching
        ([SQUARE, [(2, 2), (4, 2), (4, 4), (2, 4)]], 104, 100),
        ([SQUARE, [(20, 0), (30, 0), (25, 5)]], 125, 125),
        ([BOW_TIE], 50, 50),
        ([BOW_TIE, SQUARE], 150, 100),
        ([[(0, 0)], [(0, 0), (5, 5)], []], 0, 0),
        ([[(0, 0), (10, 0), (5, 0)], SQUARE], 100, 100),  # on a line
        ([[(3, 3)] * 4, SQUARE], 100, 100),  # in a point
    ],
)
def test_areas_of_one_image(image, total, union):
    assert _areas(image) == ([pytest.approx(total)], [pytest.approx(union)])


def test_images_do_not_mix():
    sums, unions = _areas([SQUARE, HALF_OVER], [], [SQUARE], [[(0, 0)]], [BOW_TIE, BOW_TIE])
    assert sums == [200, 0, 100, 0, 100]
    assert unions == [150, 0, 100, 0, 50]


def test_unions_equal_shapely_image_by_image():
    rng = np.random.default_rng(0)
    images = [[rng.integers(0, 100, (rng.integers(3, 8), 2)).tolist() for _ in range(n)] for n in range(12)]
    expected = [shapely.union_all([shapely.make_valid(shapely.Polygon(o)) for o in image]).area for image in images]
    assert _areas(*images)[1] == pytest.approx(expected)


def _lattice(n: int) -> list[list[tuple[int, int]]]:
    """n bars across and n bars down: n² crossings, three quarters of a square of side 2 n covered."""
    across = [[(0, 2 * i), (2 * n, 2 * i), (2 * n, 2 * i + 1), (0, 2 * i + 1)] for i in range(n)]
    return across + [[(y, x) for x, y in bar] for bar in across]


def test_a_lattice_is_exact_up_to_the_limit_and_bounded_from_above_beyond():
    assert _areas(_lattice(20))[1] == [pytest.approx(0.75 * 40**2)]
    started = time.process_time()
    union = _areas(_lattice(1500), [SQUARE, HALF_OVER])[1]  # exactly, it takes all memory
    assert time.process_time() - started < 10
    assert 0.75 * 3000**2 <= union[0] <= 3000**2
    assert union[1] == 150


def test_an_image_of_very_many_words_is_bounded_and_exact():
    words = [[(x, y), (x + 9, y), (x + 9, y + 4), (x, y + 4)] for x in range(0, 1000, 10) for y in range(0, 500, 5)]
    started = time.process_time()
    assert _areas(words)[1] == [pytest.approx(len(words) * 36)]
    assert time.process_time() - started < 10


def test_a_hostile_outline_is_taken_as_its_convex_hull():
    # 20,000 points that cross each other some 10⁸ times.
    star = np.random.default_rng(0).integers(0, 1000, (20_000, 2)).tolist()
    started = time.process_time()
    assert _areas([star, SQUARE])[1] == [pytest.approx(1e6, rel=0.01)]
    assert time.process_time() - started < 10
