"""What the explorer finds, and that nothing a person types is SQL."""

import pytest

from pipeline import open_run
from pipeline.query.open_run import OpenRun
from pipeline.report.search import CLASSES, ORDERS, Search, count, find
from tests.pipeline.runs import FAILED, profile, word, write_run

SALE = {"spotted": [word("50%"), word("SALE!")], "spotted_area": [0.1, 0.2], "spotted_co_emb": [False, True]}
ROWS = [
    profile("a", 0, caption="A big Sale", cluster_id=3, clip_score=0.3, cotr=0.5, text_class="co_emb", **SALE),
    profile("a", 1, caption="50% of it", cluster_id=4, clip_score=0.1, text_class="text", **SALE),
    profile("a", 10, caption="it's ä fish", cluster_id=4, clip_score=0.2),
    profile("b", 0, caption="a_b", cluster_id=None, clip_score=None, **FAILED),
]


@pytest.fixture
def run(tmp_path) -> OpenRun:
    return open_run(write_run(str(tmp_path / "run"), ROWS).url)


def found(run: OpenRun, left_out: str | None = None, **asked) -> list[str]:
    search = Search(**asked)
    names = find(run, search, left_out, 0, 100)
    assert count(run, search, left_out) == len(names)
    return names


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({}, ["a/0", "a/10", "a/1", "b/0"]),
        ({"caption": "sale"}, ["a/0"]),
        ({"caption": "Ä FISH"}, ["a/10"]),
        ({"caption": "%"}, ["a/1"]),
        ({"caption": "_"}, ["b/0"]),
        ({"caption": "it'"}, ["a/10"]),
        ({"caption": "' OR true --"}, []),
        ({"word": "sale"}, ["a/0", "a/1"]),
        ({"word": "sale 50"}, []),
        ({"word": "') > 0 OR (true"}, []),
        ({"cluster": 4}, ["a/10", "a/1"]),
        ({"classes": ["none", "co_emb"]}, ["a/0", "a/10"]),
        ({"classes": ["failed"]}, ["b/0"]),
        ({"scores": (0.1, 0.2)}, ["a/10", "a/1"]),
        ({"scores": (None, 0.1)}, ["a/1"]),
        ({"scores": (0.3, None)}, ["a/0"]),
        ({"cotr": (0.5, None)}, ["a/0"]),
        ({"cotr": (None, 0.4)}, ["a/10", "a/1"]),
        ({"left_out": "clip_score > 0.15", "cluster": 4}, ["a/1"]),
        ({"word": "SALE", "caption": "of", "cluster": 4, "classes": ["text"], "scores": (0, 1)}, ["a/1"]),
    ],
)
def test_every_field_narrows(run, asked, names) -> None:
    assert found(run, **asked) == names


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ("highest CLIP score", ["a/0", "a/10", "a/1", "b/0"]),
        ("lowest CLIP score", ["a/1", "a/10", "a/0", "b/0"]),
        ("highest CoTR", ["a/0", "a/1", "a/10", "b/0"]),
        ("as in the shards", ["a/0", "a/1", "a/10", "b/0"]),
    ],
)
def test_orders(run, order, names) -> None:
    assert found(run, order=order) == names


def test_pages_hold_every_sample_once(run) -> None:
    for order in ORDERS:
        pages = [find(run, Search(order=order), None, skip, 3) for skip in (0, 3, 6)]
        assert [len(page) for page in pages] == [3, 1, 0]
        assert len({name for page in pages for name in page}) == 4
    assert set(CLASSES) == {"none", "text", "co_emb", "failed"}
