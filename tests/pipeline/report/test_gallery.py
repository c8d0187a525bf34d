"""The gallery: which clusters and images are in it, what is covered, and what stands for a missing image."""

import gzip
import io

import numpy as np
import pytest
from PIL import Image

from pipeline import open_run, schema
from pipeline.report.gallery import GallerySettings, choose, make_gallery
from pipeline.run import Run
from pipeline.shards import list_shards
from pipeline.tables.clusters import cluster_tables
from tests.pipeline.runs import PROFILES, profile, word, write_run
from tests.pipeline.shard_factory import encode, offsets, tar

COLUMNS = (*schema.PROFILES, *schema.metadata_columns({"NSFW": "string", "punsafe": "float64"}))
PARROT = {
    "text_class": "co_emb",
    "spotted": [word("SALE", 1, 2)],
    "spotted_area": [0.25],
    "spotted_co_emb": [True],
    "co_emb_words": ["sale"],
    "caption": "Sale!",
}
CHANGES = [
    {"cluster_id": 4, "clip_score": 0.1},
    {"cluster_id": 4, "clip_score": 0.3, **PARROT},
    {"cluster_id": 4, "clip_score": 0.4, "NSFW": "NSFW"},
    {"cluster_id": 4, "clip_score": 0.2, "punsafe": 0.05},
    {"cluster_id": 9, "clip_score": None},
    {"cluster_id": None, "clip_score": 0.9, "punsafe": 0.5},
    {"cluster_id": 7, "clip_score": -0.1, **PARROT},
]


def write(folder, columns=COLUMNS, packed: bool = False) -> Run:
    """A run of CHANGES over two shards."""
    stripes = np.zeros((60, 80), np.uint8)
    stripes[:, ::2] = 255
    picture = encode(Image.fromarray(stripes), "PNG")
    archive = tar([(f"{index}.png", picture) for index in range(len(CHANGES))])
    for name in "ab":
        path = folder / f"{name}.tar{'.gz' * packed}"
        path.write_bytes(gzip.compress(archive) if packed else archive)
    shards = list_shards([f"{folder}/*.tar*"])
    images = offsets(archive)
    rows = []
    for index, changes in enumerate(CHANGES):
        image = images[f"{index}.png"]
        row = profile(shards[index % 2].id, index, image_offset=image.offset_data, image_size=image.size)
        row |= {"width": 80, "height": 60, "image_format": "PNG"}
        rows.append(row | {"cluster_distance": 0.1 if changes["cluster_id"] is not None else None} | changes)
    names = [column.name for column in columns]
    kept = [{name: row.get(name) for name in names} for row in rows]
    return write_run(str(folder / "run"), kept, shards=shards, columns=columns)


def gallery(run: Run, **settings):
    profiles = run.dataset(PROFILES)
    return make_gallery(
        open_run(run.url), profiles, cluster_tables(profiles).clusters.table, GallerySettings(**settings)
    )


def shown(found) -> dict[int, list[tuple[int, bool]]]:
    """Cluster → index and whether it is flagged, of each card."""
    return {
        cluster.facts["cluster_id"]: [(card.row["index"], card.flagged) for card in cluster.cards]
        for clusters in found.sections.values()
        for cluster in clusters
    }


@pytest.mark.parametrize("packed", [False, True])
def test_the_best_scores_of_each_cluster_with_their_pictures_and_marks(tmp_path, packed) -> None:
    found = gallery(write(tmp_path, packed=packed), images=2)
    assert shown(found) == {7: [(6, False)], 4: [(1, False), (3, False)], 9: []}
    assert found.flagged == 2
    (parrot, _) = next(iter(found.sections.values()))[1].cards
    assert parrot.caption == [("Sale", True), ("!", False)]
    assert (parrot.thumbnail.width, parrot.thumbnail.height) == (80, 60)
    assert parrot.outlines == [("SALE", True, "1.0,2.0 5.0,2.0 5.0,5.0 1.0,5.0")]


def test_flagged_images_are_left_out_or_blurred(tmp_path) -> None:
    run = write(tmp_path)
    assert detail(gallery(run)) == {1: True, 3: True, 0: True, 6: True}
    found = gallery(run, show_flagged=True)
    assert shown(found)[4] == [(2, True), (1, False), (3, False), (0, False)]
    assert detail(found) == {1: True, 3: True, 0: True, 6: True, 2: False}
    assert detail(gallery(run, blur=True)) == {1: False, 3: False, 0: False, 6: False}


def test_without_metadata_nothing_is_left_out_and_the_number_is_unknown(tmp_path) -> None:
    found = gallery(write(tmp_path, schema.PROFILES))
    assert found.flagged is None
    assert shown(found)[4] == [(2, False), (1, False), (3, False), (0, False)]
    assert detail(gallery(write(tmp_path, schema.PROFILES), show_flagged=True))[2]


def detail(found) -> dict[int, bool]:
    """Index of each card → whether its picture still has stripes."""
    cards = [card for clusters in found.sections.values() for cluster in clusters for card in cluster.cards]
    pictures = {card.row["index"]: Image.open(io.BytesIO(card.thumbnail.jpeg)).convert("L") for card in cards}
    return {index: np.abs(np.diff(np.asarray(picture, int))).max() > 100 for index, picture in pictures.items()}


def test_shards_that_are_gone_leave_a_reason(tmp_path) -> None:
    run = write(tmp_path)
    (tmp_path / "a.tar").unlink()
    cards = [card for clusters in gallery(run).sections.values() for cluster in clusters for card in cluster.cards]
    reasons = {card.row["shard"]: card.reason for card in cards}
    assert "is not there any more" in reasons["a"]
    assert reasons["b"] is None
    assert all((card.thumbnail is None) == (card.row["shard"] == "a") for card in cards)
    assert all(not card.outlines for card in cards if card.thumbnail is None)


def test_a_run_without_clusters_or_rows_has_an_empty_gallery(tmp_path) -> None:
    run = write_run(str(tmp_path / "run"), [profile("a", 0, cluster_id=None)])
    assert shown(gallery(run)) == {}
    assert shown(gallery(write(tmp_path), clusters=0)) == {}


def test_no_cluster_is_chosen_twice_and_small_ones_parrot_by_chance() -> None:
    bounds = enumerate([0.1, 0.9, 0.2, 0.0, 0.5, 0.95, None])
    rows = [{"cluster_id": number, "co_emb": int(bool(low)), "co_emb_share_low_95": low} for number, low in bounds]

    def chosen(most: int) -> list[list[int]]:
        return [[row["cluster_id"] for row in section] for section in choose(rows, most).values()]

    assert chosen(5) == [[0, 1, 2], [5, 4]]
    assert chosen(6) == [[0, 1, 2], [5, 4]]  # the others parrot not at all
    assert chosen(7) == [[5, 1, 4, 2, 0, 3, 6]]
    assert chosen(1) == [[0], []]
