"""`parrotscope tables` over the demo's run with the truth for a spotter: every table equals the truth."""

from collections import Counter, defaultdict

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.folder import Folder
from pipeline.overlap import tokenize
from pipeline.tables.sheets import HEADING, MARGIN, TILE
from tests.e2e.command import parrotscope


@pytest.fixture(scope="module")
def tables(chain) -> Folder:
    parrotscope("tables", chain.run.url, folder=chain.config.parent)
    return Folder(chain.run.path("tables"))


@pytest.fixture(scope="module")
def truth(chain) -> list[dict]:
    return pq.read_table(chain.demo / "truth.parquet").to_pylist()


def rows(tables: Folder, name: str) -> list[dict]:
    return pq.read_table(tables.path(f"{name}.parquet")).to_pylist()


def test_table_1_equals_the_truth(tables, truth) -> None:
    found = {row["name"]: row["this_run"] for row in rows(tables, "table1")}
    text = [row for row in truth if row["text_class"] != "none"]
    assert found["images"] == len(truth)
    assert found["text_share"] == pytest.approx(len(text) / len(truth))
    for rate in ("cotr", "fuzzy"):
        column = "cotr" if rate == "cotr" else "fuzzy_cotr"
        assert found[f"{rate}_macro"] == pytest.approx(np.mean([row[column] for row in truth]))
        assert found[f"{rate}_macro_in_text"] == pytest.approx(np.mean([row[column] for row in text]))
    assert found["literal_macro"] == pytest.approx(np.mean([row["cotr_literal"] for row in truth]))
    shared, words = (sum(len(row[name]) for row in truth) for name in ("co_emb_words", "caption_words"))
    assert found["cotr_micro"] == pytest.approx(shared / words)


def test_classes_of_clusters_add_up_to_the_truth(tables, truth) -> None:
    expected = Counter(row["text_class"] for row in truth)
    for name in ("clusters", "figure_3a"):
        assert {kind: sum(row[kind] for row in rows(tables, name)) for kind in expected} == expected
    assert {row["text_class"]: row["images"] for row in rows(tables, "clip_score_by_class")} == expected


def test_the_heat_map_equals_the_truth(tables, truth) -> None:
    expected = Counter((len(row["caption_words"]), len(row["co_emb_words"])) for row in truth)
    found = {(row["caption_words"], row["co_emb_words"]): row["images"] for row in rows(tables, "figure_4a")}
    assert found == expected


def test_areas_of_words_equal_those_drawn(tables, truth) -> None:
    areas = defaultdict(list)
    for row in truth:
        for word in row["words"]:
            x, y = ([point[axis] for point in word["polygon"]] for axis in "xy")
            twice = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
            copied = bool(set(tokenize(word["text"])) & set(row["caption_words"]))
            areas[copied].append(twice / 2 / row["width"] / row["height"])
    for row in rows(tables, "figure_4c_quantiles"):
        drawn = areas[row["co_emb"]]
        assert row["words"] == len(drawn)
        assert row["mean_area"] == pytest.approx(np.mean(drawn), rel=1e-5)
        assert row["area_q50"] == pytest.approx(np.quantile(drawn, 0.5, method="inverted_cdf"), abs=1e-4)


def test_vocabularies_equal_the_truth(tables, truth) -> None:
    captions = Counter(word for row in truth for word in tokenize(row["caption"]))
    assert {row["gram"]: row["count"] for row in rows(tables, "caption_1grams")} == captions
    copied = Counter(word for row in truth for word in row["co_emb_words"])
    assert {row["gram"]: row["count"] for row in rows(tables, "co_emb_1grams")} == copied


def test_contact_sheets_show_every_image_and_name_where_it_is(tables, chain) -> None:
    found = rows(tables, "figure_16_images")
    assert len({row["cluster_id"] for row in found}) == 4
    sources = {shard.id: shard.url.removeprefix("file://") for shard in chain.run.shards()}
    for row in found:
        with open(sources[row["shard"]], "rb") as tar:
            tar.seek(row["image_offset"])
            start = tar.read(4)
        assert start[:3] in (b"\xff\xd8\xff", b"\x89PN") or start == b"RIFF"
    assert b"could not be had" not in tables.fs.cat_file(tables.path("index.md"))
    with tables.fs.open(tables.path("figure_16.png"), "rb") as file:
        assert Image.open(file).size == (4 * (TILE + MARGIN) + MARGIN, HEADING + 10 * (TILE + MARGIN) + MARGIN)
