import numpy as np
import pytest

from pipeline.tables.clusters import cluster_tables
from pipeline.tables.merging import figure3a, merge
from tests.pipeline.tables.rows import failed, profile, table


def test_near_centroids_are_merged_and_far_ones_are_not():
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 100, 400)
    truth[:100] = np.arange(100)
    places = 100 * np.eye(100)
    groups = merge((places[truth] + generator.normal(0, 0.1, (400, 100))).astype(np.float32))
    assert len(set(zip(truth, groups, strict=True))) == len(set(groups)) == 100


def test_a_hundred_clusters_are_left_as_they_are():
    assert merge(np.zeros((100, 2), np.float32)).tolist() == list(range(100))


def clusters(*rows: dict):
    return cluster_tables(table(*rows)).clusters.table


def test_images_are_counted_by_group_and_class_the_largest_first():
    # Clusters 0 to 99 far apart, 100 beside 3.
    centroids = np.vstack([100 * np.eye(100), 100 * np.eye(100)[3] + 1]).astype(np.float32)
    rows = [profile(cluster_id=3, text=False), profile(4, 1, cluster_id=100), profile(cluster_id=100),
            profile(cluster_id=50), failed(cluster_id=3), failed(cluster_id=60)]  # fmt: skip
    result = figure3a(clusters(*rows), centroids)
    assert result.table.to_pylist() == [
        {"group": 0, "clusters": 2, "measured": 3, "none": 1, "text": 1, "co_emb": 1,
         "text_share": pytest.approx(2 / 3), "co_emb_share": pytest.approx(1 / 3)},
        {"group": 1, "clusters": 1, "measured": 1, "none": 0, "text": 1, "co_emb": 0,
         "text_share": 1, "co_emb_share": 0},
    ]  # fmt: skip
    assert "Ward" in result.notes[0]
    assert result.notes[1].startswith("2 images")


def test_few_clusters_are_not_merged_with_centroids_or_without():
    rows = [profile(cluster_id=2), profile(cluster_id=0), profile(cluster_id=2)]
    for centroids in (None, np.eye(3, dtype=np.float32)):
        result = figure3a(clusters(*rows), centroids)
        assert result.table["measured"].to_pylist() == [2, 1]
        assert result.notes[0] == "Clusters are not merged."


def test_no_images_and_no_clusters_give_an_empty_table():
    assert figure3a(clusters(), None).table.num_rows == 0
    assert figure3a(clusters(failed()), np.eye(2, dtype=np.float32)).table.num_rows == 0


def test_centroids_of_another_clustering_are_refused():
    with pytest.raises(ValueError, match="cluster 2 is none of 2 centroids"):
        figure3a(clusters(profile(cluster_id=2)), np.eye(2, dtype=np.float32))
