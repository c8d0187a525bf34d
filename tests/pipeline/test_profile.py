"""Clusters and profiles of a run, from its parts alone."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline import schema
from pipeline.clusters import cluster_fields, fit_clusters, load_clusters
from pipeline.config import Config, parse
from pipeline.datasets import CLUSTER_FACTS, SAMPLES, Dataset, clusters_of, embeddings_of, profiles_of, spotted_of
from pipeline.extract import sample_fields
from pipeline.fingerprint import digest
from pipeline.profile import profile_fields, profile_shard
from pipeline.run import Run, RunError
from pipeline.shards import Shard

CENTRES = np.eye(3, 4, dtype=np.float32)
"""Three far directions in four dimensions: the planted clusters."""


def config(tmp_path: Path, **sections) -> Config:
    cluster = {"k": 3, "pca_dim": 3, "sample_size": 1000, "min_points_per_centroid": 5}
    inputs = {"shards": "x", "metadata": {"note": "string"}}
    return parse({"run": str(tmp_path / "run"), "input": inputs, "cluster": cluster, **sections})


def write(run: Run, settings: Config, shard: str, rows: int, seed: int = 0, dropped: int | None = None) -> None:
    """Parts of a shard whose row i lies near centre i % 3, says "word{i}" and shows "WORD{i}"; row 1 failed."""
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
    with run.part(SAMPLES, shard, columns) as part:
        part.write([row | dictionary | {"caption": f"a word{row['index']}"} for row in identity])
    with run.part(embeddings_of(settings), shard, schema.embeddings(4)) as part:
        flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float16).reshape(-1)), 4)
        table = pa.Table.from_pylist(identity, schema.arrow(schema.IDENTITY))
        table = table.append_column("clip_score", pa.array(np.full(rows, 0.25, np.float32)))
        table = table.append_column("caption_truncated", pa.array([False] * rows))
        part.write(table.append_column("image_embedding", flat).append_column("text_embedding", flat))
    square = [{"x": 0, "y": 0}, {"x": 5, "y": 0}, {"x": 5, "y": 5}, {"x": 0, "y": 5}]
    with run.part(spotted_of(settings), shard, schema.SPOTTED_TEXT) as part:
        for row in identity:
            i = row["index"]
            words = [{"text": f"WORD{i}", "confidence": 0.9, "polygon": square}]
            found = {"spot_status": "ok", "spot_message": None, "spotted": words}
            failed = {"spot_status": "failed", "spot_message": "why", "spotted": None}
            if i != dropped:
                part.write([row | (failed if i == 1 else found)])
    run.claim(embeddings_of(settings), {"model": "m", "samples": digest(sample_fields(settings.input))})
    run.claim(spotted_of(settings), {"engine": "e"})


@pytest.fixture
def run(tmp_path) -> Run:
    run = Run(config(tmp_path).run)
    for number, shard in enumerate("ab"):
        write(run, config(tmp_path), shard, 60, number)
    return run


def profile(run: Run, settings: Config, shard: str = "a") -> pa.Table:
    fields = profile_fields(run, settings)
    profile_shard(run, Shard(shard, "", 1, None), settings, load_clusters(run, settings), fields)
    return run.read_part(profiles_of(settings), shard)


def test_planted_clusters_are_found_and_assigned(run, tmp_path) -> None:
    settings = config(tmp_path)
    said = fit_clusters(run, settings, ["a", "b"], threads=1)
    assert said.startswith("3 clusters fitted to 120 of 120 embeddings, ")
    ids = profile(run, settings)["cluster_id"].to_pylist()
    assert ids == ids[:3] * 20
    assert sorted(ids[:3]) == [0, 1, 2]


def test_the_order_of_the_shards_changes_nothing(run, tmp_path) -> None:
    settings = config(tmp_path)
    fit_clusters(run, settings, ["a", "b"], threads=1)
    first = run.fs.cat_file(run.path(clusters_of(settings), "model.safetensors"))
    facts = run.read_json(clusters_of(settings), CLUSTER_FACTS)
    fit_clusters(run, settings, ["b", "a"], threads=1)
    assert run.fs.cat_file(run.path(clusters_of(settings), "model.safetensors")) == first
    assert run.read_json(clusters_of(settings), CLUSTER_FACTS)["shards_digest"] == facts["shards_digest"]


def test_too_few_embeddings_say_what_is_needed(run, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"100 clusters need 3,900 embeddings, 39 each, and there are 120"):
        fit_clusters(run, config(tmp_path, cluster={"k": 100}), ["a", "b"], threads=1)


def test_too_little_memory_is_told_before_the_sample_is_read(run, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("pipeline.clusters.available_memory", lambda: 1_000)
    monkeypatch.setattr("pipeline.clusters.draw_sample", lambda *_: pytest.fail("it was read"))
    with pytest.raises(MemoryError, match=r"lower cluster\.sample_size"):
        fit_clusters(run, config(tmp_path), ["a", "b"], threads=1)


def test_rows_join_all_datasets_and_leave_the_embeddings_out(run, tmp_path) -> None:
    settings = config(tmp_path)
    fit_clusters(run, settings, ["a", "b"], threads=1)
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


@pytest.mark.parametrize("dropped", [0, 30, 59])
def test_parts_of_different_samples_are_refused(run, tmp_path, dropped) -> None:
    settings = config(tmp_path)
    fit_clusters(run, settings, ["a", "b"], threads=1)
    write(run, settings, "a", 60, dropped=dropped)
    with pytest.raises(RunError, match="Shard a: its parts hold different samples"):
        profile(run, settings)
    assert run.done(profiles_of(settings)) == set()


def test_profile_fields_follow_every_input(run, tmp_path) -> None:
    settings = config(tmp_path)
    fit_clusters(run, settings, ["a", "b"], threads=1)
    before = profile_fields(run, settings)
    assert profile_fields(run, config(tmp_path, resources={"attempts": 1})) == before
    changed = profile_fields(run, config(tmp_path, overlap={"threshold": 0.8}))
    assert digest(changed) != digest(before)
    fit_clusters(run, settings, ["a"], threads=1)
    assert profile_fields(run, settings)["clusters"] != before["clusters"]


def test_what_is_missing_is_named(tmp_path) -> None:
    settings = config(tmp_path)
    run = Run(settings.run)
    with pytest.raises(RunError, match="has no embeddings/main yet: extract first"):
        cluster_fields(run, settings)
    with pytest.raises(RunError, match="has no clusters/main yet: cluster first"):
        load_clusters(run, settings)
    with pytest.raises(RunError, match="has no profiles/main yet"):
        run.dataset(Dataset("profiles", "main"))
