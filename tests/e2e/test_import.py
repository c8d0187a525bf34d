"""What one run computed, imported into others in the formats of others: the same values, and every miss counted."""

import random
import tempfile
import uuid
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline.clusters import load_clusters
from pipeline.datasets import SAMPLES, Dataset
from pipeline.run import Run
from pipeline.tables.table1 import check_identities, table1
from tests.e2e.command import parrotscope, truth_spotter, write_config
from tests.e2e.test_object_storage import on_s3, server, shards  # noqa: F401 - fixtures
from tests.pipeline.imported.foreign import Foreign

EMBEDDINGS, PROFILES = Dataset("embeddings", "main"), Dataset("profiles", "main")
CLIP = {"model": "embedded", "stored_as": "float32"}
LEFT_OUT, REPEATED, MISNAMED, BLANKED, STRANGE = range(30), range(30, 50), range(50, 55), range(55, 59), 40
"""Rows of the first run: not in the import, twice in it, of another caption, without a direction; and others' rows."""


@pytest.fixture(scope="module")
def first(demo, tmp_path_factory) -> Run:
    """The demo by CLIP."""
    folder = tmp_path_factory.mktemp("first")
    config = write_config(folder, f"{demo}/*.tar", truth_spotter(demo), clip=CLIP)
    parrotscope("profile", str(config), folder=folder)
    return Run(str(folder / "run"))


@pytest.fixture(scope="module")
def rows(first) -> list[dict]:
    """Samples and embeddings of the first run, in one order that is not the shards'."""
    parts = zip(*(first.dataset(dataset).to_table().to_pylist() for dataset in (SAMPLES, EMBEDDINGS)), strict=True)
    joined = [sample | embedded for sample, embedded in parts]
    return random.Random(0).sample(joined, len(joined))


def foreign(rows: list[dict], join: str) -> Foreign:
    """The first run's embeddings as others would publish them, with what goes wrong in such files."""
    image, text = (np.array([row[f"{name}_embedding"] for row in rows], np.float32) for name in ("image", "text"))
    image[BLANKED] = 0
    captions = [row["caption"] for row in rows]
    captions[MISNAMED.start : MISNAMED.stop] = ["of another picture"] * len(MISNAMED)
    whole = Foreign([row[join] for row in rows], captions, image, text, {"score": [row["clip_score"] for row in rows]})
    there = [i for i in range(len(rows)) if i not in LEFT_OUT] + [*REPEATED]
    kept = whole.take(random.Random(1).sample(there, len(there)))
    strange = whole.take(random.Random(2).sample(range(len(rows)), STRANGE))
    return Foreign(
        kept.keys + [f"strange {i}" for i in range(STRANGE)],
        kept.captions + strange.captions,
        np.concatenate([kept.image, strange.image]),
        np.concatenate([kept.text, strange.text]),
        {"score": kept.columns["score"] + strange.columns["score"]},
    )


def expected_status(number: int) -> str:
    ranges = {"missing": LEFT_OUT, "ambiguous": REPEATED, "mismatch": MISNAMED, "invalid": BLANKED}
    return next((status for status, numbers in ranges.items() if number in numbers), "ok")


def export_clusters(run: Run, folder: Path) -> dict:
    """The first run's PCA and centroids as files of numpy."""
    model = load_clusters(run, run.config())
    np.save(folder / "centroids.npy", model.centroids)
    np.savez(folder / "pca.npz", mean=model.pca_mean, components=model.pca_components)
    return {"centroids": str(folder / "centroids.npy"), "pca": str(folder / "pca.npz"), "model": "embedded"}


@pytest.fixture(scope="module", params=["clip-retrieval", "datacomp"])
def second(request, first, rows, demo, tmp_path_factory) -> tuple[Run, Path, str]:
    """The demo again, by an import and the first run's clusters: run, config and what was said."""
    folder = tmp_path_factory.mktemp(request.param)
    imported = {"format": request.param, "folder": str(folder / "import")}
    if request.param == "datacomp":
        foreign(rows, "uid").write_datacomp(imported["folder"], per_file=120, dtype="float32")
        imported["score_column"] = "score"
    else:
        foreign(rows, "key").write_clip_retrieval(imported["folder"], per_file=120, dtype="float32")
    config = write_config(
        folder, f"{demo}/*.tar", truth_spotter(demo), clip={**CLIP, "imported": imported},
        cluster={"imported": export_clusters(first, folder)},
    )  # fmt: skip
    output = parrotscope("profile", str(config), folder=folder)
    return Run(str(folder / "run")), config, output


ONE_FORMAT = pytest.mark.parametrize("second", ["datacomp"], indirect=True)


def test_imported_embeddings_and_scores_are_those_that_were_computed(second, rows) -> None:
    run, *_ = second
    found = {row["uid"]: row for row in run.dataset(EMBEDDINGS).to_table().to_pylist()}
    assert len(found) == len(rows)
    for number, row in enumerate(rows):
        here = found[row["uid"]]
        assert here["clip_status"] == expected_status(number)
        if here["clip_status"] != "ok":
            assert (here["clip_score"], here["image_embedding"], here["text_embedding"]) == (None, None, None)
            continue
        assert here["clip_score"] == pytest.approx(row["clip_score"], abs=1e-6)
        for name in ("image_embedding", "text_embedding"):
            np.testing.assert_allclose(here[name], row[name], atol=1e-6)


def test_every_miss_is_counted_and_told(second, rows) -> None:
    run, config, output = second
    expected = Counter(expected_status(number) for number in range(len(rows)))
    footers = [run.footer(EMBEDDINGS, shard.id)["counts"] for shard in run.shards()]
    for status, count in expected.items():
        assert sum(footer[f"clip_{status}"] for footer in footers) == count
    there = len(rows) - len(LEFT_OUT) + len(REPEATED) + STRANGE
    told = (
        f"embeddings imported for {expected['ok']} of {len(rows)} samples; 30 missing, 20 ambiguous, 5 mismatch, "
        f"4 invalid; at least {there - expected['ok']} of the import's {there} rows were not used"
    )
    assert f"import: {told}" in output
    assert f"embeddings/main: {told}" in parrotscope("status", run.url, folder=config.parent)


def test_clusters_are_those_of_the_first_run_and_null_without_an_embedding(second, first, rows) -> None:
    run, _, output = second
    assert "cluster: 4 clusters in 16 dimensions are imported" in output
    found = {row["uid"]: row for row in run.dataset(PROFILES).to_table().to_pylist()}
    assert len(found) == len(rows)
    before = {row["uid"]: row for row in first.dataset(PROFILES).to_table().to_pylist()}
    for number, row in enumerate(rows):
        here, there = found[row["uid"]], before[row["uid"]]
        assert here["cotr"] == there["cotr"]
        assert here["caption_truncated"] is None
        if expected_status(number) == "ok":
            assert here["cluster_id"] == there["cluster_id"]
            assert here["cluster_distance"] == pytest.approx(there["cluster_distance"], abs=1e-5)
        else:
            assert here["cluster_id"] is here["cluster_distance"] is here["clip_score"] is None


def test_table1_does_not_depend_on_embeddings(second, first) -> None:
    run, *_ = second
    table = table1(run.dataset(PROFILES))
    check_identities(table)
    assert table == table1(first.dataset(PROFILES))


@ONE_FORMAT
def test_again_nothing_is_done_even_when_the_import_is_gone(second) -> None:
    run, config, _ = second
    folder = Path(run.config().clip.imported.folder)
    moved = folder.rename(folder.with_name("moved"))
    try:
        again = parrotscope("profile", str(config), folder=config.parent)
    finally:
        moved.rename(folder)
    assert "extract: 4 shards, 0 to do" in again
    assert "import: 4 shards, 0 to do" in again


@ONE_FORMAT
def test_a_fit_to_imported_embeddings_leaves_out_what_is_missing(second, rows) -> None:
    _, config, _ = second
    override = ["--set", "cluster={k: 4, pca_dim: 16, sample_size: 1000, name: own}"]
    said = parrotscope("cluster", str(config), *override, folder=config.parent)
    embedded = sum(expected_status(number) == "ok" for number in range(len(rows)))
    assert f"4 clusters fitted to {embedded} of {embedded} embeddings" in said


@ONE_FORMAT
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("model: ViT-L-14", "centroids of ViT-L-14 (pretrained openai), and embeddings/main are of embedded"),
        ("pca: null", "not that of centroids in embeddings of 128 dimensions"),
    ],
)
def test_clusters_of_another_model_or_dimension_are_refused(second, change, told) -> None:
    run, config, _ = second
    files = yaml.safe_load(config.read_text())["cluster"]["imported"] | yaml.safe_load(change)
    override = ["--set", f"cluster.imported={yaml.safe_dump(files, default_flow_style=True)}"]
    said = parrotscope("cluster", str(config), "--set", "cluster.name=x", *override, folder=config.parent, status=1)
    assert told in said
    assert run.fs.exists(run.path("clusters/x/facts.json")) is False


@ONE_FORMAT
def test_a_wrong_join_writes_no_part(second, rows) -> None:
    run, config, _ = second
    override = ["--set", "clip.imported.join=key", "--set", "clip.imported.key_column=uid"]
    said = parrotscope("extract", str(config), "--set", "clip.name=x", *override, folder=config.parent, status=1)
    assert f"No sample has embeddings in {run.config().clip.imported.folder}: {len(rows)} missing" in said
    assert run.done(Dataset("embeddings", "x")) == set()


@pytest.fixture(scope="module")
def on_storage(server, tmp_path_factory) -> Run:  # noqa: F811
    """A run on S3 by CLIP, whose keys two of the shards share."""
    config, run = on_s3(tmp_path_factory.mktemp("storage"))
    parrotscope("extract", config, "--only", "clip", folder=Path(config).parent)
    return run


@pytest.mark.parametrize("kind", ["clip-retrieval", "datacomp"])
def test_import_and_run_may_be_on_s3(on_storage, tmp_path, monkeypatch, kind) -> None:
    table = on_storage.dataset(EMBEDDINGS).to_table()
    captions = on_storage.dataset(SAMPLES).to_table(["caption"])["caption"].to_pylist()
    vectors = (np.array(table[f"{name}_embedding"].to_pylist(), np.float32) for name in ("image", "text"))
    uids = table["uid"].to_pylist()
    theirs = Foreign(uids, captions, *vectors, {"uid": uids} if kind == "clip-retrieval" else {})
    theirs = theirs.take(random.Random(0).sample(range(len(uids)), len(uids)))
    folder = f"s3://bucket/imports/{uuid.uuid4().hex}"
    write = theirs.write_clip_retrieval if kind == "clip-retrieval" else theirs.write_datacomp
    write(folder, per_file=20)
    config, run = on_s3(tmp_path)
    imported = {"format": kind, "folder": folder, "join": "uid"}
    with tempfile.TemporaryDirectory() as node:  # a short name: Ray keeps sockets there
        monkeypatch.setenv("TMPDIR", node)
        override = ["--set", f"clip.imported={yaml.safe_dump(imported, default_flow_style=True)}"]
        said = parrotscope("extract", config, "--only", "clip", *override, folder=tmp_path)
        assert list(Path(node).glob("parrotscope-*/*/00000.npy"))
    assert f"embeddings imported for {len(uids)} of {len(uids)} samples" in said
    assert "extract: no model is held" in said
    found = run.dataset(EMBEDDINGS).to_table()
    assert found["uid"].equals(table["uid"])
    np.testing.assert_allclose(found["clip_score"], table["clip_score"], atol=2e-3)
    for name in ("image_embedding", "text_embedding"):
        np.testing.assert_allclose(found[name].to_pylist(), table[name].to_pylist(), atol=2e-3)
