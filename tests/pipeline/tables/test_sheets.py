import numpy as np
import pyarrow as pa
import pytest

from pipeline.tables.clusters import cluster_tables
from pipeline.tables.sheets import (
    HEADING,
    MARGIN,
    MISSING,
    TILE,
    contact_sheet,
    random_clusters,
    text_clusters,
    top_images,
)
from tests.pipeline.tables.rows import failed, profile, table


def test_clusters_of_text_are_those_above_four_fifths():
    rows = [profile(cluster_id=1), *[profile(cluster_id=2)] * 4, profile(cluster_id=2, text=False),
            *[profile(cluster_id=3)] * 9, profile(cluster_id=3, text=False), failed(cluster_id=4)]  # fmt: skip
    clusters = cluster_tables(table(*rows)).clusters.table
    assert text_clusters(clusters) == [3, 1]
    assert text_clusters(clusters, most=1) == [3]


def test_random_clusters_depend_on_the_seed_alone():
    clusters = pa.table({"cluster_id": pa.array(np.random.default_rng(0).permutation(500), pa.int32())})
    one, same, other = (random_clusters(each, seed=seed) for each, seed in
                        ((clusters, 0), (clusters.sort_by("cluster_id"), 0), (clusters, 1)))  # fmt: skip
    assert one == same == sorted(set(one)) != other
    assert len(one) == 50
    assert random_clusters(clusters.slice(0, 3)) == sorted(clusters["cluster_id"].to_pylist()[:3])
    assert random_clusters(clusters.slice(0, 0)) == []


ROWS = (
    profile(cluster_id=1, clip_score=0.2, shard="b", index=1),
    profile(cluster_id=1, clip_score=0.4, shard="b", index=2, image_offset=99, image_size=7),
    profile(cluster_id=1, clip_score=0.4, shard="a", index=9),
    profile(cluster_id=1, clip_score=None, shard="a", index=1),
    profile(cluster_id=1, clip_score=0.9, NSFW="NSFW"),
    profile(cluster_id=1, clip_score=0.9, NSFW="unsure"),
    profile(cluster_id=1, clip_score=0.9, NSFW="UNLIKELY", punsafe=0.3),
    profile(cluster_id=1, clip_score=0.9, punsafe=float("nan")),
    failed(cluster_id=2, clip_score=0.1, NSFW="UNLIKELY", punsafe=0.01),
    profile(cluster_id=3, clip_score=0.9),
)


def chosen(profiles: pa.Table, clusters: list[int], rows: int = 10) -> list[tuple]:
    found = top_images("sheet", "A sheet", profiles, clusters, rows).table
    return [(row["cluster_id"], row["rank"], row["shard"], row["index"]) for row in found.to_pylist()]


def test_the_best_scores_of_the_clusters_are_chosen_in_order_and_unsafe_images_are_not():
    expected = [(2, 1, "00000", 0), (1, 1, "a", 9), (1, 2, "b", 2), (1, 3, "b", 1)]
    assert chosen(table(*ROWS), [2, 1]) == expected
    assert chosen(table(*ROWS), [2, 1], rows=2) == expected[:-1]
    assert chosen(table(*ROWS), []) == []
    second = top_images("sheet", "A sheet", table(*ROWS), [1]).table.to_pylist()[1]
    assert (second["image_offset"], second["image_size"]) == (99, 7)
    assert second["clip_score"] == pytest.approx(0.4)


def test_profiles_without_such_metadata_are_taken_and_it_is_said():
    profiles = table(*ROWS).drop_columns(["NSFW", "punsafe"])
    assert len(chosen(profiles, [1])) == 7
    assert "no NSFW metadata" in top_images("s", "", profiles, [1]).notes[0]
    assert "NSFW" in top_images("s", "", table(*ROWS).drop_columns(["punsafe"]), [1]).notes[0]


def test_images_are_laid_out_by_cluster_and_rank():
    selection = pa.table({"cluster_id": [5, 5, 2, 2], "rank": [1, 2, 1, 2]})
    red = np.zeros((300, 300, 3), np.uint8)
    red[..., 0] = 255
    wide = np.full((10, 400, 3), (0, 0, 255), np.uint8)
    sheet = contact_sheet(selection, iter([red, None, wide, np.zeros((1, 30_000, 3), np.uint8)]))
    assert sheet.size == (2 * (TILE + MARGIN) + MARGIN, HEADING + 2 * (TILE + MARGIN) + MARGIN)

    def centre(column: int, row: int) -> tuple:
        step = TILE + MARGIN
        return sheet.getpixel((column * step + MARGIN + TILE // 2, HEADING + row * step + MARGIN + TILE // 2))

    assert centre(0, 0) == (255, 0, 0)
    assert centre(0, 1) == MISSING
    assert centre(1, 0) == (0, 0, 255)
    assert sheet.getpixel((TILE + 2 * MARGIN + 50, HEADING + MARGIN + 2)) == (255, 255, 255)  # a wide image is not cut
    heading = np.asarray(sheet)[:HEADING]
    assert (heading < 128).any()


def test_an_empty_sheet_and_a_wrong_number_of_images():
    empty = pa.table({"cluster_id": pa.array([], pa.int32()), "rank": pa.array([], pa.int32())})
    assert contact_sheet(empty, []).size[0] > 0
    with pytest.raises(ValueError, match="shorter"):
        contact_sheet(pa.table({"cluster_id": [1], "rank": [1]}), [])
