"""Clusters and profiles of a run, from its parts alone."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline import schema
from pipeline.claims import claim
from pipeline.clustering import fit_memory
from pipeline.clusters import cluster_fields, fit_clusters, import_clusters, load_clusters
from pipeline.config import Config
from pipeline.config_file import parse
from pipeline.datasets import CLUSTER_FACTS, SAMPLES, Dataset, clusters_of, embeddings_of, profiles_of, spotted_of
from pipeline.extract import sample_fields
from pipeline.fingerprint import FingerprintError, digest
from pipeline.imported import ImportedError
from pipeline.profile import profile_fields, profile_shard
from pipeline.run import Run, RunError
from pipeline.shards import Shard
from pipeline.vectors import to_column

CENTRES = np.eye(3, 4, dtype=np.float32)
"""Three far directions in four dimensions: the planted clusters."""


def config(tmp_path: Path, **sections) -> Config:
    cluster = {"k": 3, "pca_dim": 3, "sample_size": 1000, "min_points_per_centroid": 5}
    inputs = {"shards": "x", "metadata": {"note": "string"}}
    return parse({"run": str(tmp_path / "run"), "input": inputs, "cluster": cluster, **sections})


def made_with(settings: Config) -> dict[Dataset, dict]:
    samples = sample_fields(settings.input)
    return {
        SAMPLES: samples,
        embeddings_of(settings): {"model": settings.clip.name, "samples": digest(samples)},
        spotted_of(settings): {"engine": "e", "samples": digest(samples)},
    }


def write(
    run: Run, settings: Config, shard: str, rows: int, seed: int = 0, dropped: int | None = None, missing: int = 0
) -> None:
    """Parts of a shard whose row i lies near centre i % 3, says "word{i}" and shows "WORD{i}"; row 1 failed.

    The first `missing` rows have no embedding.
    """
    rng = np.random.default_rng(seed)
    vectors = CENTRES[np.arange(rows) % 3] + rng.normal(0, 0.02, (rows, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    identity = [{"shard": shard, "index": i, "key": f"k{i}", "uid": f"{seed:016x}{i:016x}"} for i in range(rows)]
    dictionary = {
        "url": None,
        "width": 10,
        "height": 10,
        "image_format": "PNG",
        "image_offset": 0,
        "image_size": 1,
        "metadata_status": "ok",
        "note": "kept",
    }
    columns = (*schema.SAMPLES, *schema.metadata_columns(settings.input.metadata))
    footers = {dataset: {"fingerprint": digest(fields)} for dataset, fields in made_with(settings).items()}
    with run.part(SAMPLES, shard, columns) as part:
        part.describe(footers[SAMPLES])
        part.write([row | dictionary | {"caption": f"a word{row['index']}"} for row in identity])
    stored_as, present = settings.clip.stored_as, np.arange(rows) >= missing
    with run.part(embeddings_of(settings), shard, schema.embeddings(4, stored_as)) as part:
        part.describe(footers[embeddings_of(settings)])
        column = to_column(vectors, stored_as, present)
        table = pa.Table.from_pylist(identity, schema.arrow(schema.IDENTITY))
        for name, values in {
            "clip_status": ["ok" if there else "missing" for there in present],
            "clip_score": pa.array(np.full(rows, 0.25, np.float32), mask=~present),
            "caption_truncated": pa.array([False] * rows),
            "image_embedding": column,
            "text_embedding": column,
        }.items():
            table = table.append_column(name, pa.array(values))
        part.write(table)
    square = [{"x": 0, "y": 0}, {"x": 5, "y": 0}, {"x": 5, "y": 5}, {"x": 0, "y": 5}]
    with run.part(spotted_of(settings), shard, schema.SPOTTED_TEXT) as part:
        part.describe(footers[spotted_of(settings)])
        for row in identity:
            i = row["index"]
            words = [{"text": f"WORD{i}", "confidence": 0.9, "polygon": square}]
            found = {"spot_status": "ok", "spot_message": None, "spotted": words}
            failed = {"spot_status": "failed", "spot_message": "why", "spotted": None}
            if i != dropped:
                part.write([row | (failed if i == 1 else found)])
    for dataset, fields in made_with(settings).items():
        claim(run, settings, dataset, fields)


@pytest.fixture
def run(tmp_path) -> Run:
    run = Run(config(tmp_path).run)
    for number, shard in enumerate("ab"):
        write(run, config(tmp_path), shard, 60, number)
    return run


def fit(run: Run, settings: Config, shards: list[str]) -> str:
    claim(run, settings, clusters_of(settings), cluster_fields(run, settings))
    return fit_clusters(run, settings, shards, threads=1)


def profile(run: Run, settings: Config, shard: str = "a") -> pa.Table:
    fields = profile_fields(run, settings)
    profile_shard(run, Shard(shard, "", 1, None), settings, load_clusters(run, settings), fields)
    return run.read_part(profiles_of(settings), shard)


def test_planted_clusters_are_found_and_assigned(run, tmp_path) -> None:
    settings = config(tmp_path)
    said = fit(run, settings, ["a", "b"])
    assert said.startswith("3 clusters fitted to 120 of 120 embeddings, ")
    ids = profile(run, settings)["cluster_id"].to_pylist()
    assert ids == ids[:3] * 20
    assert sorted(ids[:3]) == [0, 1, 2]


def test_the_order_of_the_shards_changes_nothing(run, tmp_path) -> None:
    settings = config(tmp_path)
    fit(run, settings, ["a", "b"])
    first = run.fs.cat_file(run.path(clusters_of(settings), "model.safetensors"))
    facts = run.read_json(clusters_of(settings), CLUSTER_FACTS)
    fit(run, settings, ["b", "a"])
    assert run.fs.cat_file(run.path(clusters_of(settings), "model.safetensors")) == first
    assert run.read_json(clusters_of(settings), CLUSTER_FACTS)["shards_digest"] == facts["shards_digest"]


def test_too_few_embeddings_say_what_is_needed(run, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"100 clusters need 3,900 embeddings, 39 each, and there are 120"):
        fit(run, config(tmp_path, cluster={"k": 100}), ["a", "b"])


def test_too_little_memory_is_told_before_the_sample_is_read(run, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("pipeline.clusters.available_memory", lambda: 1_000)
    monkeypatch.setattr("pipeline.clusters.draw_sample", lambda *_: pytest.fail("it was read"))
    with pytest.raises(MemoryError, match=r"lower cluster\.sample_size"):
        fit(run, config(tmp_path), ["a", "b"])


def test_embeddings_of_float32_need_twice_the_memory(tmp_path, monkeypatch) -> None:
    enough = 2 * 60 * 4 * 2 + fit_memory(60, 4, 3, 3)
    monkeypatch.setattr("pipeline.clusters.available_memory", lambda: enough)
    for stored_as in schema.VECTOR_TYPES:
        settings = config(tmp_path / stored_as, clip={"stored_as": stored_as})
        run = Run(settings.run)
        write(run, settings, "a", 60)
        if stored_as == "float16":
            fit(run, settings, ["a"])
        else:
            with pytest.raises(MemoryError, match=r"lower cluster\.sample_size"):
                fit(run, settings, ["a"])


def test_rows_join_all_datasets_and_leave_the_embeddings_out(run, tmp_path) -> None:
    settings = config(tmp_path)
    fit(run, settings, ["a", "b"])
    table = profile(run, settings)
    assert table.column_names == [*(column.name for column in schema.PROFILES), "note"]
    row = table.to_pylist()[2]
    assert (row["caption"], row["note"], row["clip_score"]) == ("a word2", "kept", 0.25)
    assert (row["text_class"], row["co_emb_words"], row["cotr"]) == ("co_emb", ["word2"], 0.5)
    assert row["text_area"] == row["co_emb_area"] == 0.25
    failed = table.to_pylist()[1]
    assert (failed["spot_status"], failed["spotted"], failed["text_class"], failed["cotr"]) == (
        "failed",
        None,
        None,
        None,
    )
    assert failed["cluster_id"] is not None
    assert run.footer(profiles_of(settings), "a")["counts"] == {"rows": 60, "spot_failed": 1}


@pytest.mark.parametrize("stored_as", ["float16", "float32"])
def test_samples_without_an_embedding_have_no_cluster_and_keep_their_text(tmp_path, stored_as) -> None:
    settings = config(tmp_path, clip={"stored_as": stored_as})
    run = Run(settings.run)
    write(run, settings, "a", 60, 0, missing=7)
    write(run, settings, "b", 60, 1)
    assert "fitted to 113 of 113 embeddings" in fit(run, settings, ["a", "b"])
    rows = profile(run, settings).to_pylist()
    for i, row in enumerate(rows):
        there = i >= 7
        assert row["clip_status"] == ("ok" if there else "missing")
        assert row["cluster_id"] == (rows[7 + (i - 7) % 3]["cluster_id"] if there else None)
        assert (row["cluster_distance"] is not None) == (row["clip_score"] is not None) == there
        assert row["co_emb_words"] == (None if i == 1 else [f"word{i}"])
    assert sorted(row["cluster_id"] for row in rows[7:10]) == [0, 1, 2]


def test_a_shard_without_any_embedding_is_profiled(run, tmp_path) -> None:
    settings = config(tmp_path)
    write(run, settings, "c", 5, 2, missing=5)
    fit(run, settings, ["a", "b", "c"])
    assert profile(run, settings, "c")["cluster_id"].to_pylist() == [None] * 5


def export(run: Run, settings: Config, folder: Path) -> dict:
    """The fitted clusters as others publish theirs."""
    model = load_clusters(run, settings)
    np.save(folder / "centroids.npy", model.centroids)
    np.savez(folder / "pca.npz", mean=model.pca_mean, components=model.pca_components)
    return {"centroids": str(folder / "centroids.npy"), "pca": str(folder / "pca.npz"), "model": "ViT-B-32-quickgelu"}


def imported(tmp_path: Path, files: dict, **cluster) -> Config:
    return config(tmp_path, cluster={"name": "theirs", "imported": files, **cluster}, profile={"name": "theirs"})


def bring(run: Run, settings: Config) -> str:
    claim(run, settings, clusters_of(settings), cluster_fields(run, settings), anew=True)
    return import_clusters(run, settings)


def test_imported_clusters_assign_as_those_they_were_saved_from(run, tmp_path) -> None:
    fit(run, config(tmp_path), ["a", "b"])
    ours = profile(run, config(tmp_path))
    settings = imported(tmp_path, export(run, config(tmp_path), tmp_path))
    assert bring(run, settings) == "3 clusters in 3 dimensions are imported"
    theirs = profile(run, settings)
    for column in ("cluster_id", "cluster_distance"):
        assert theirs[column].equals(ours[column])
    facts = run.read_json(clusters_of(settings), CLUSTER_FACTS)
    assert set(facts) == {"k", "dim", "pca_dim", "imported", "digest"}


def test_settings_of_a_fit_decide_nothing_of_an_import(run, tmp_path) -> None:
    fit(run, config(tmp_path), ["a", "b"])
    files = export(run, config(tmp_path), tmp_path)
    bring(run, imported(tmp_path, files))
    fields = profile_fields(run, imported(tmp_path, files))
    other = imported(tmp_path, files, k=77, seed=1, niter=2)
    assert bring(run, other) == "3 clusters in 3 dimensions are imported; cluster.k = 77 is not used"
    assert profile_fields(run, other) == fields


def test_other_files_under_the_same_name_are_refused(run, tmp_path) -> None:
    fit(run, config(tmp_path), ["a", "b"])
    files = export(run, config(tmp_path), tmp_path)
    bring(run, imported(tmp_path, files))
    np.save(tmp_path / "centroids.npy", np.load(tmp_path / "centroids.npy")[::-1])
    with pytest.raises(FingerprintError, match=r"clusters/theirs were imported from other files than .*centroids\.npy"):
        bring(run, imported(tmp_path, files))
    with pytest.raises(FingerprintError, match=r"clusters/main was made with imported = "):
        bring(run, config(tmp_path, cluster={"imported": files}))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"model": "ViT-L-14"},
            r"centroids of ViT-L-14 \(pretrained openai\), and embeddings/main are of ViT-B-32-quick",
        ),
        (
            {"pretrained": "laion2b_s34b_b79k"},
            r"ViT-B-32-quickgelu \(pretrained laion2b_s34b_b79k\), and embeddings/main",
        ),
        ({"pca": None}, r"not that of centroids in embeddings of 4 dimensions"),
    ],
)
def test_clusters_of_another_model_or_dimension_are_refused(run, tmp_path, change, told) -> None:
    fit(run, config(tmp_path), ["a", "b"])
    settings = imported(tmp_path, export(run, config(tmp_path), tmp_path) | change)
    with pytest.raises(ImportedError, match=told):
        bring(run, settings)
    assert run.read_json(clusters_of(settings), CLUSTER_FACTS) is None


@pytest.mark.parametrize("dropped", [0, 30, 59])
def test_parts_of_different_samples_are_refused(run, tmp_path, dropped) -> None:
    settings = config(tmp_path)
    fit(run, settings, ["a", "b"])
    write(run, settings, "a", 60, dropped=dropped)
    with pytest.raises(RunError, match="Shard a: its parts hold different samples"):
        profile(run, settings)
    assert run.done(profiles_of(settings)) == set()


def test_profile_fields_follow_every_input(run, tmp_path) -> None:
    settings = config(tmp_path)
    fit(run, settings, ["a", "b"])
    before = profile_fields(run, settings)
    assert profile_fields(run, config(tmp_path, resources={"attempts": 1})) == before
    changed = profile_fields(run, config(tmp_path, overlap={"threshold": 0.8}))
    assert digest(changed) != digest(before)
    fit(run, settings, ["a"])
    assert profile_fields(run, settings)["clusters"] != before["clusters"]


def test_inputs_made_by_another_configuration_are_refused(run, tmp_path) -> None:
    """A profile must not say it came of a model that never made its embeddings."""
    fit(run, config(tmp_path), ["a", "b"])
    for sections, field in (
        ({"clip": {"model": "ViT-L-14"}}, "embeddings/main was made with model = 'ViT-B-32-quickgelu'"),
        ({"spotting": {"longest_side": 640}}, "spotted/main was made with longest_side = 1280"),
        ({"input": {"shards": "x", "metadata": {}}}, "samples was made with metadata.note = 'string'"),
        ({"cluster": {"k": 2}}, "clusters/main was made with"),
    ):
        with pytest.raises(FingerprintError, match=re.escape(field)):
            profile_fields(run, config(tmp_path, **sections))


def test_clusters_of_other_embeddings_are_refused(run, tmp_path) -> None:
    """Centroids fitted to one model's embeddings mean nothing for another's, even of equal dimension."""
    fit(run, config(tmp_path), ["a", "b"])
    other = config(tmp_path, clip={"name": "other"})
    write(run, other, "a", 60)
    with pytest.raises(FingerprintError, match="clusters/main was made with embeddings = "):
        profile_fields(run, other)


def test_a_part_made_under_other_settings_is_refused(run, tmp_path) -> None:
    """Two drivers that began a dataset in the same moment leave parts of two kinds."""
    settings = config(tmp_path)
    fit(run, settings, ["a", "b"])
    fields = profile_fields(run, settings)
    with pytest.raises(RunError, match=r"spotted/main/a\.parquet was made under other settings"):
        profile_shard(
            run, Shard("a", "", 1, None), settings, load_clusters(run, settings), {**fields, "spotted": "other"}
        )


def test_no_usable_sample_is_told_with_what_to_look_at(tmp_path) -> None:
    settings = config(tmp_path)
    run = Run(settings.run)
    write(run, settings, "a", 0)
    with pytest.raises(RunError, match="has no embedding in 1 shards; see `parrotscope status"):
        fit(run, settings, ["a"])


def test_what_is_missing_is_named(tmp_path) -> None:
    settings = config(tmp_path)
    run = Run(settings.run)
    with pytest.raises(RunError, match="has no embeddings/main yet: extract first"):
        cluster_fields(run, settings)
    with pytest.raises(RunError, match="has no clusters/main yet: cluster first"):
        load_clusters(run, settings)
    with pytest.raises(RunError, match="has no profiles/main yet"):
        run.dataset(Dataset("profiles", "main"))
