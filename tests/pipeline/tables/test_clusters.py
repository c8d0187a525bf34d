import statistics

import numpy as np
import pyarrow as pa
import pytest

from pipeline.tables.cluster_intervals import BETWEEN, INDEPENDENT
from pipeline.tables.clusters import cluster_tables
from tests.pipeline.tables.rows import failed, profile, table

ROWS = (
    profile(4, 2, cluster_id=7, clip_score=0.31, cluster_distance=0.2),
    profile(4, 1, cluster_id=7, clip_score=0.25, cluster_distance=0.4),
    profile(4, 0, cluster_id=7, clip_score=None, cluster_distance=0.6),
    failed(cluster_id=7, clip_score=0.9, cluster_distance=0.8),
    profile(4, 0, text=False, cluster_id=3, clip_score=-0.1),
    failed(cluster_id=5, clip_score=float("nan")),
    profile(4, 4, cluster_id=None, cluster_distance=None, clip_score=0.5),
)


def test_clusters_by_hand():
    tables = cluster_tables(table(*ROWS))
    seven, three, five = tables.clusters.table.to_pylist()
    counts = ("cluster_id", "images", "spot_failed", "none", "text", "co_emb", "without_score")
    assert [seven[name] for name in counts] == [7, 4, 1, 0, 1, 2, 1]
    assert [three[name] for name in counts] == [3, 1, 0, 1, 0, 0, 0]
    assert [five[name] for name in counts] == [5, 1, 1, 0, 0, 0, 1]
    assert (seven["text_share"], seven["co_emb_share"]) == (1, pytest.approx(2 / 3))
    assert seven["mean_cotr"] == pytest.approx(0.25)
    assert seven["sd_cotr"] == pytest.approx(statistics.pstdev([0.5, 0.25, 0]))
    assert seven["mean_distance"] == pytest.approx(0.5)
    assert seven["mean_clip_score"] == pytest.approx((0.31 + 0.25 + 0.9) / 3)
    assert seven["sd_clip_score"] == pytest.approx(statistics.pstdev([0.31, 0.25, 0.9]))
    assert (seven["co_emb_share_low_95"], seven["co_emb_share_high_95"]) == pytest.approx((0.2077, 0.9385), abs=1e-4)
    assert five["text_share"] is five["text_share_low_95"] is five["mean_cotr"] is five["mean_clip_score"] is None
    assert "Of 7 images 1 have no cluster, 2 could not be spotted, 2 have no CLIP score" in tables.clusters.notes[0]


def test_scores_by_class_and_cluster_by_hand():
    tables = cluster_tables(table(*ROWS))
    classes = {row["text_class"]: row for row in tables.classes.table.to_pylist()}
    assert {name: (row["images"], row["without_score"]) for name, row in classes.items()} == {
        "co_emb": (3, 0), "none": (1, 0), "text": (1, 1), "failed": (2, 1)}  # fmt: skip
    assert classes["co_emb"]["mean_clip_score"] == pytest.approx((0.31 + 0.25 + 0.5) / 3)
    assert classes["text"]["mean_clip_score"] is classes["text"]["clip_score_q50"] is None
    pairs = [(row["cluster_id"], row["text_class"], row["images"]) for row in tables.cluster_classes.table.to_pylist()]
    assert pairs == [(3, "none", 1), (5, "failed", 1), (7, "co_emb", 2), (7, "failed", 1), (7, "text", 1)]
    assert tables.histogram.table.to_pylist() == [
        {"text_class": "co_emb", "score_from": 0.25, "images": 1},
        {"text_class": "co_emb", "score_from": 0.31, "images": 1},
        {"text_class": "co_emb", "score_from": 0.5, "images": 1},
        {"text_class": "none", "score_from": -0.11, "images": 1},  # the float32 is below -0.1
    ]


def test_quantiles_are_those_of_the_scores_to_a_thousandth():
    scores = np.random.default_rng(0).normal(0.3, 0.05, 2_000).astype(np.float32)
    (row,) = cluster_tables(table(*(profile(clip_score=score) for score in scores))).clusters.table.to_pylist()
    found = [row[f"clip_score_q{q:02d}"] for q in (5, 25, 50, 75, 95)]
    exact = np.quantile(scores, [0.05, 0.25, 0.5, 0.75, 0.95], method="inverted_cdf")
    np.testing.assert_allclose(found, exact, atol=1e-3)
    assert row["mean_clip_score"] == pytest.approx(scores.mean(dtype=float))


def test_one_score_is_its_own_quantile():
    (row,) = cluster_tables(table(profile(clip_score=-0.0305))).clusters.table.to_pylist()
    assert all(abs(row[f"clip_score_q{q:02d}"] + 0.0305) <= 1e-3 for q in (5, 25, 50, 75, 95))


def test_no_rows_and_no_clusters_give_empty_tables():
    assert all(result.table.num_rows == 0 for result in cluster_tables(table()))
    tables = cluster_tables(table(profile(cluster_id=None, cluster_distance=None, clip_score=None)))
    assert tables.clusters.table.num_rows == tables.cluster_classes.table.num_rows == 0
    assert tables.classes.table.num_rows == 1


def many(shards: int, rates: np.ndarray, images: int = 40) -> pa.Table:
    """Cluster 0, where of the images of a shard a share of its own holds a word of the caption in text."""
    generator = np.random.default_rng(4)
    names = np.repeat([f"{number:05d}" for number in range(shards)], images)
    hit = generator.random(len(names)) < np.repeat(rates, images)
    kinds = table(profile(4, 0, text=False), profile(4, 2)).drop_columns("shard")
    return kinds.take(hit.astype(int)).append_column("shard", pa.array(names))


def interval(profiles: pa.Table, rate: str) -> tuple[float, float]:
    (row,) = cluster_tables(profiles).clusters.table.to_pylist()
    assert row[f"{rate}_low_95"] < row[rate] < row[f"{rate}_high_95"]
    return row[f"{rate}_low_95"], row[f"{rate}_high_95"]


@pytest.mark.parametrize("rate", ["text_share", "co_emb_share", "mean_cotr"])
def test_intervals_of_clusters_tell_how_shards_differ(rate):
    shares = np.random.default_rng(5).beta(2, 2, 1_000)
    low, high = interval(many(1_000, shares), rate)
    unit = 0.5 if rate == "mean_cotr" else 1
    expected = 2 * 1.96 * unit * np.sqrt((shares.var() + np.mean(shares * (1 - shares)) / 40) / 1_000)
    # 50 batches tell a standard error to a tenth; independent images would give 0.37 of this.
    assert high - low == pytest.approx(expected, rel=0.3)


def test_intervals_of_clusters_are_never_narrower_than_of_independent_images():
    low, high = interval(many(200, np.full(200, 0.5)), "text_share")
    assert high - low >= 2 * 1.96 * np.sqrt(0.25 / 8_000) * 0.99
    few = cluster_tables(many(19, np.full(19, 0.5)))
    enough = cluster_tables(many(20, np.full(20, 0.5)))
    assert INDEPENDENT in few.clusters.notes
    assert BETWEEN in enough.clusters.notes


def test_a_mean_cotr_of_images_that_are_all_alike_has_no_interval():
    rows = [profile(4, 1, shard=f"{number}") for number in range(30)]
    (row,) = cluster_tables(table(*rows)).clusters.table.to_pylist()
    assert row["mean_cotr"] == 0.25
    assert row["mean_cotr_low_95"] is row["mean_cotr_high_95"] is None
    assert row["text_share_low_95"] == pytest.approx(0.8865, abs=1e-4)  # Wilson, 30 of 30
    assert row["text_share_high_95"] == 1


def test_batches_of_shards_cover_the_true_share_of_a_cluster_where_shards_differ():
    generator, covered, rounds = np.random.default_rng(6), 0, 100
    kinds = table(profile(4, 0, text=False), profile(4, 2)).drop_columns(["shard", "cluster_id"])
    shards = np.repeat(np.arange(100), 20)
    # Every round is a cluster: its shards have shares of their own.
    hits, names, ids = [], [], []
    for number in range(rounds):
        hits.append(generator.random(2_000) < np.repeat(generator.beta(3, 3, 100), 20))
        names.append(shards)
        ids.append(np.full(2_000, number, np.int32))
    profiles = kinds.take(np.concatenate(hits).astype(int))
    profiles = profiles.append_column("shard", pa.array(np.concatenate(names).astype(str)))
    profiles = profiles.append_column("cluster_id", pa.array(np.concatenate(ids)))
    for row in cluster_tables(profiles).clusters.table.to_pylist():
        covered += row["text_share_low_95"] <= 0.5 <= row["text_share_high_95"]
    # 95 of 100; three standard deviations are 6.5.
    assert 88 <= covered <= 100
