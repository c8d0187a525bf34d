"""Every figure of a plain run, a run of one image and an empty one: readable, complete, the same every time."""

import io
from itertools import combinations
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from pipeline.figures.clusters import draw_figure3a, draw_scores
from pipeline.figures.figure4 import draw_figure4a, draw_figure4b, draw_figure4c
from pipeline.figures.style import COLORS, DPI, HEIGHT, RC, WIDTH, footer_line, rendered, shortened
from pipeline.schema import TextClass
from pipeline.tables.clusters import cluster_tables
from pipeline.tables.figure4 import MOST_WORDS, figure4
from pipeline.tables.merging import figure3a
from pipeline.tables.published import LAION_2B
from pipeline.tables.table1 import table1
from tests.benchmarks.query import draw_profiles
from tests.pipeline.tables.rows import failed, profile, table

FOOTER = footer_line("runs/test", 1_234, "rapidocr", published=True)


def figures(profiles, footer: str = FOOTER, centroids=None) -> dict[str, Figure]:
    tables = cluster_tables(profiles)
    words, areas, word_areas, quantiles = (result.table for result in figure4(profiles))
    groups = figure3a(tables.clusters.table, centroids).table
    scores = (tables.histogram.table, tables.classes.table, tables.cluster_classes.table)
    return {
        "3a": draw_figure3a(groups, table1(profiles), centroids is not None, footer),
        "scores": draw_scores(*scores, footer),
        "4a": draw_figure4a(words, footer),
        "4b": draw_figure4b(areas, footer),
        "4c": draw_figure4c(word_areas, quantiles, footer),
    }


LARGE = draw_profiles(20, 500)
CENTROIDS = np.random.default_rng(0).normal(size=(4_000, 4)).astype(np.float32)
CASES = {
    "as LAION": lambda: figures(LARGE, centroids=CENTROIDS),
    "few": lambda: figures(table(profile(4, 2), profile(4, 0, cluster_id=1), profile(50, 40), failed())),
    "one image": lambda: figures(table(profile(4, 1, co_emb_area=1.5))),
    "no text": lambda: figures(table(profile(4, 0, text=False))),
    "all failed": lambda: figures(table(failed(clip_score=None, cluster_id=None, cluster_distance=None))),
    "empty": lambda: figures(table()),
    "long name": lambda: figures(table(profile()), footer_line("s3://" + "x" * 500, 2 * 10**9, "a.b:C", True)),
}


def texts(figure: Figure) -> list[tuple[str, Bbox]]:
    """Every text that is seen, with its box in pixels."""
    with rc_context(RC):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        unseen = set()
        for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
            low, high = sorted(axis.get_view_interval())
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if not low <= tick.get_loc() <= high:
                    unseen |= {tick.label1, tick.label2}
        seen = [text for text in figure.findobj(Text) if text.get_visible() and text not in unseen]
        boxes = [(text.get_text(), text.get_window_extent(canvas.get_renderer())) for text in seen]
        return [(text, box) for text, box in boxes if text and box.width]


@pytest.mark.parametrize("case", CASES)
def test_nothing_written_is_cut_off_or_overwritten(case) -> None:
    for name, figure in CASES[case]().items():
        shown = list(texts(figure))
        assert len(shown) > 5
        for text, box in shown:
            assert box.x0 >= 0 <= box.y0, (name, text)
            assert box.x1 <= WIDTH * DPI, (name, text)
            assert box.y1 <= HEIGHT * DPI, (name, text)
        for (one, first), (other, second) in combinations(shown, 2):
            assert not first.padded(-2).overlaps(second.padded(-2)), (name, one, other)


def test_files_are_of_one_size_and_not_blank() -> None:
    for figure in figures(table(profile(4, 2), profile(4, 0))).values():
        image = Image.open(io.BytesIO(rendered(figure, "png")))
        assert image.size == (WIDTH * DPI, HEIGHT * DPI)
        assert len(image.convert("RGB").getcolors(10**6)) > 20
        assert ElementTree.fromstring(rendered(figure, "svg")).tag.endswith("svg")  # noqa: S314 - our own


def test_a_hostile_name_stays_text() -> None:
    hostile = footer_line("--><script>alert(1)</script>$\\frac{$日\x1b[31m", 1, "<b>", published=False)
    svg = rendered(draw_figure4a(figure4(table(profile()))[0].table, hostile), "svg")
    tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(svg).iter()}  # noqa: S314 - our own
    assert "script" not in tags
    assert b"\x1b" not in svg


def test_the_footer_tells_where_values_are_from_and_cuts_long_names() -> None:
    assert FOOTER == "run: runs/test  ·  1,234 images  ·  spotter: rapidocr  ·  published values: arXiv 2312.14232 v3"
    long = footer_line("s3://bucket/" + "x" * 100 + "/end", 1, "s", published=False)
    assert "s3://bucket/xxx" in long
    assert "xxx/end  ·  1 images" in long
    assert "…" in long
    assert len(long) < 110


def test_bars_are_as_high_as_the_counts() -> None:
    rows = [profile(4, 1)] * 3 + [profile(4, 0)] * 2 + [profile(4, 0, text=False)] * 5
    bars, shares = figures(table(*rows))["3a"].axes
    heights = {bar.get_facecolor()[:3]: bar.get_height() for bar in bars.patches}
    assert [heights[_rgb(kind)] for kind in (TextClass.CO_EMB, TextClass.TEXT, TextClass.NONE)] == [3, 2, 5]
    assert [text.get_text() for text in shares.texts] == ["30.0%", "20.0%", "50.0%", "33.4%", "21.2%", "45.4%"]
    assert shares.patches[-1].get_height() == pytest.approx(LAION_2B.without_text_share)


def test_the_heat_map_holds_every_image_where_it_belongs() -> None:
    rows = [profile(4, 2)] * 3 + [profile(9, 0)] * 2 + [profile(99, 60)]
    axes = figures(table(*rows))["4a"].axes[0]
    counts = axes.collections[0].get_array()
    assert counts.sum() == 6
    assert (counts[2, 4], counts[0, 9], counts[MOST_WORDS, MOST_WORDS]) == (3, 2, 1)


def test_the_mean_line_is_the_mean_over_all_scores_of_an_area() -> None:
    rows = [profile(4, 1, co_emb_area=0.05, clip_score=score) for score in (0.2, 0.2, 0.5)]
    axes = figures(table(*rows, profile(4, 1, co_emb_area=0.31, clip_score=0.1)))["4b"].axes[0]
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[0.05, 0.3], [0.31, 0.1]], atol=1e-6)


def test_counts_are_shortened() -> None:
    assert [shortened(n) for n in (0, 500, 1_500, 2e7, 2e9)] == ["0", "500", "1.5 k", "20 M", "2 G"]


def _rgb(kind: TextClass) -> tuple[float, ...]:
    return tuple(int(COLORS[kind][place : place + 2], 16) / 255 for place in (1, 3, 5))
