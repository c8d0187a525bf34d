"""Imported embeddings: every sample keeps its row, with its embedding or with the reason why it has none."""

import os
import random
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline import schema
from pipeline.claims import claim
from pipeline.config import Config
from pipeline.config_file import parse
from pipeline.datasets import SAMPLES, embeddings_of
from pipeline.extract import sample_fields
from pipeline.fingerprint import FingerprintError, digest
from pipeline.imported import ImportedError, arrays, embeddings
from pipeline.imported.embeddings import Importer, import_fields, prepare_import, told_counts
from pipeline.run import Run, RunError
from pipeline.shards import Shard
from tests.pipeline.imported.foreign import DIM, Foreign, npy, put, vectors
from tests.pipeline.imported.test_collection import foreign


def config(run: Run, folder: object, stored_as: str = "float32", model: str = "ViT-B-32", **imported) -> Config:
    imported = {"format": "clip-retrieval", "folder": str(folder), **imported}
    clip = {"model": model, "stored_as": stored_as, "imported": imported}
    return parse({"run": run.url, "input": {"shards": "x"}, "clip": clip})


def write_samples(run: Run, settings: Config, shard: str, keys: list[str], captions: list[str]) -> None:
    """The samples part of a shard; a uid is the key in hexadecimal."""
    fields = sample_fields(settings.input)
    columns = (*schema.SAMPLES, *schema.metadata_columns(settings.input.metadata))
    rest = {"url": None, "width": 1, "height": 1, "image_format": "PNG", "image_offset": 0, "image_size": 1}
    rest |= {"metadata_status": "ok", **dict.fromkeys(settings.input.metadata)}
    with run.part(SAMPLES, shard, columns) as part:
        part.describe({"fingerprint": digest(fields)})
        for index, (key, caption) in enumerate(zip(keys, captions, strict=True)):
            uid = key.encode().hex().rjust(32, "0")
            part.write([{"shard": shard, "index": index, "key": key, "uid": uid, "caption": caption, **rest}])
    claim(run, settings, SAMPLES, fields)


def import_all(run: Run, settings: Config, *shards: str) -> tuple[list[dict], dict[str, int]]:
    """Rows and counts of the shards' embeddings parts."""
    prepare_import(run, settings, shards, threads=1)
    importer = Importer(run, settings)
    claim(run, settings, embeddings_of(settings), importer.fields)
    told: list[int] = []
    counts = [importer.import_shard(Shard(shard, "", 1, None), told.append) for shard in shards]
    rows = [row for shard in shards for row in run.read_part(embeddings_of(settings), shard).to_pylist()]
    assert sum(told) == len(rows)
    return rows, {name: sum(count[name] for count in counts) for name in counts[0]}


@pytest.fixture(params=["local", "memory"])
def run(request, tmp_path, monkeypatch) -> Run:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return Run(str(tmp_path / "run") if request.param == "local" else f"memory://{uuid.uuid4().hex}/run")


@pytest.mark.parametrize("stored_as", ["float16", "float32"])
@pytest.mark.parametrize("place", ["local", "memory"])
@pytest.mark.parametrize("kind", ["clip-retrieval", "datacomp"])
def test_shuffled_rows_find_their_samples(run, tmp_path, monkeypatch, stored_as, place, kind) -> None:
    """Over several batches and files, with lengths that are not 1."""
    monkeypatch.setattr(embeddings, "BATCH_ROWS", 70)
    monkeypatch.setattr(arrays, "GAP_BYTES", 64)
    folder = f"{tmp_path}/x" if place == "local" else f"memory://{uuid.uuid4().hex}"
    rows = foreign(200)
    order = random.Random(0).sample(range(200), 200)
    lengthened = Foreign(rows.keys, rows.captions, rows.image * 7, rows.text * 0.1)
    if kind == "datacomp":
        lengthened.keys = [key.encode().hex().rjust(32, "0") for key in rows.keys]
    write = lengthened.take(order).write_datacomp if kind == "datacomp" else lengthened.take(order).write_clip_retrieval
    write(folder, per_file=33, dtype="float32")
    settings = config(run, folder, stored_as, format=kind)
    write_samples(run, settings, "a", rows.keys[:150], rows.captions[:150])
    write_samples(run, settings, "b", rows.keys[150:], rows.captions[150:])
    found, counts = import_all(run, settings, "a", "b")
    assert (counts["rows"], counts["clip_ok"], counts["unscored"]) == (200, 200, 0)
    assert {row["clip_status"] for row in found} == {"ok"}
    assert [row["key"] for row in found] == rows.keys
    exact = {"float16": 1e-3, "float32": 1e-6}[stored_as]
    np.testing.assert_allclose([row["image_embedding"] for row in found], rows.image, atol=exact)
    np.testing.assert_allclose([row["text_embedding"] for row in found], rows.text, atol=exact)
    np.testing.assert_allclose([row["clip_score"] for row in found], (rows.image * rows.text).sum(1), atol=1e-6)
    assert {row["caption_truncated"] for row in found} == {None}
    kinds = run.part_schema(embeddings_of(settings), "a")
    assert (
        kinds.field("image_embedding").type.value_type == {"float16": pa.float16(), "float32": pa.float32()}[stored_as]
    )


@pytest.mark.filterwarnings("error")
def test_every_status_has_its_row_and_its_count(run, tmp_path) -> None:
    rows = foreign(8)
    rows.keys[7] = rows.keys[6]
    rows.captions[1] = "another"
    rows.image[2] = 0
    rows.image[3, 4] = np.nan
    rows.image[4, 0] = -np.inf
    rows.text[5] = 0
    rows.write_clip_retrieval(f"{tmp_path}/x", per_file=3)
    settings = config(run, tmp_path / "x")
    write_samples(run, settings, "a", [*rows.keys[:7], "other"], [*(f"caption {i}" for i in range(7)), "other"])
    found, counts = import_all(run, settings, "a")
    told = ["ok", "mismatch", "invalid", "invalid", "invalid", "ok", "ambiguous", "missing"]
    assert [row["clip_status"] for row in found] == told
    for row in found:
        assert (row["image_embedding"] is None) == (row["clip_status"] != "ok")
        assert (row["text_embedding"] is None) == (row["clip_score"] is None) == (row["index"] != 0)
    assert counts == {
        "rows": 8, "unscored": 1, "clip_ok": 2, "clip_mismatch": 1, "clip_invalid": 3, "clip_ambiguous": 1,
        "clip_missing": 1,
    }  # fmt: skip
    assert run.footer(embeddings_of(settings), "a")["counts"] == counts
    assert told_counts(counts, 8) == (
        "embeddings imported for 2 of 8 samples; 1 missing, 1 ambiguous, 1 mismatch, 3 invalid, 1 without a score; "
        "at least 6 of the import's 8 rows were not used"
    )


def test_huge_and_tiny_vectors_have_a_direction_or_are_invalid(run, tmp_path) -> None:
    rows = foreign(3)
    rows.text = None
    image = rows.image.astype(np.float64) * np.array([[1e-30], [1e300], [1e18]])
    Foreign(rows.keys, rows.captions, image).write_clip_retrieval(f"{tmp_path}/x", per_file=3, dtype="float64")
    settings = config(run, tmp_path / "x")
    write_samples(run, settings, "a", rows.keys, rows.captions)
    found, _ = import_all(run, settings, "a")
    assert [row["clip_status"] for row in found] == ["ok", "invalid", "ok"]
    np.testing.assert_allclose([row["image_embedding"] for row in found[::2]], rows.image[::2], atol=1e-6)


def test_scores_come_from_their_column_where_it_is_named(run, tmp_path) -> None:
    rows = foreign(4, similarity=[0.5, None, 1.01, -0.25])
    rows.image[3] = 0
    rows.write_clip_retrieval(f"{tmp_path}/x", per_file=4)
    settings = config(run, tmp_path / "x", score_column="similarity")
    write_samples(run, settings, "a", rows.keys, rows.captions)
    found, counts = import_all(run, settings, "a")
    assert [row["clip_score"] for row in found] == [0.5, None, None, None]
    assert (counts["unscored"], counts["clip_invalid"]) == (2, 1)


def test_without_texts_there_is_no_score(run, tmp_path) -> None:
    rows = foreign(4)
    rows.text = None
    rows.write_clip_retrieval(f"{tmp_path}/x", per_file=4)
    settings = config(run, tmp_path / "x")
    write_samples(run, settings, "a", rows.keys, rows.captions)
    found, counts = import_all(run, settings, "a")
    assert {(row["clip_status"], row["clip_score"], row["text_embedding"]) for row in found} == {("ok", None, None)}
    assert counts["unscored"] == 4


@pytest.mark.parametrize("kind", ["clip-retrieval", "datacomp"])
def test_keys_and_uids_join_either_format(run, tmp_path, kind) -> None:
    rows = foreign(6)
    uids = [key.encode().hex().rjust(32, "0") for key in rows.keys]
    if kind == "datacomp":
        Foreign(uids, rows.captions, rows.image, rows.text, {"key": rows.keys}).write_datacomp(f"{tmp_path}/x", 4)
        settings = config(run, tmp_path / "x", format=kind, join="key")
    else:
        rows.columns = {"uid": uids}
        Foreign(["-"] * 6, rows.captions, rows.image, rows.text, rows.columns).write_clip_retrieval(f"{tmp_path}/x", 4)
        settings = config(run, tmp_path / "x", join="uid")
    write_samples(run, settings, "a", rows.keys, rows.captions)
    _, counts = import_all(run, settings, "a")
    assert counts["clip_ok"] == 6


def test_a_shard_without_samples_has_an_empty_part(run, tmp_path) -> None:
    foreign(3).write_clip_retrieval(f"{tmp_path}/x", per_file=3)
    settings = config(run, tmp_path / "x")
    write_samples(run, settings, "a", [], [])
    rows, counts = import_all(run, settings, "a")
    assert rows == []
    assert set(counts.values()) == {0}


def test_a_wrong_join_is_refused_before_a_part_is_written(run, tmp_path) -> None:
    rows = foreign(5)
    rows.take([0, 1, 2, 2]).write_clip_retrieval(f"{tmp_path}/x", per_file=5)
    settings = config(run, tmp_path / "x")
    write_samples(run, settings, "a", ["x/0", "000000002"], ["caption 0", "caption 2"])
    write_samples(run, settings, "b", ["000000001"], ["not its caption"])
    message = (
        r"No sample has embeddings in .*: 1 missing, 1 ambiguous, 1 mismatch\. The key of a sample is '000000001', "
        r"the image_path of the import's first row '000000000'"
    )
    with pytest.raises(ImportedError, match=message):
        prepare_import(run, settings, ["a", "b"], threads=1)
    write_samples(run, settings, "c", ["000000001"], ["caption 1"])
    assert prepare_import(run, settings, ["a", "b", "c"], threads=1) == "4 rows of 8 dimensions in 1 files are indexed"


def test_later_shards_may_all_be_missing(run, tmp_path) -> None:
    foreign(3).write_clip_retrieval(f"{tmp_path}/x", per_file=3)
    settings = config(run, tmp_path / "x")
    write_samples(run, settings, "a", ["000000001"], ["caption 1"])
    import_all(run, settings, "a")
    write_samples(run, settings, "b", ["other"], ["other"])
    rows, counts = import_all(run, settings, "b")
    assert (rows[0]["clip_status"], counts["clip_missing"]) == ("missing", 1)


def test_keys_that_shards_share_need_captions_to_be_told_apart(run, tmp_path) -> None:
    rows = foreign(3)
    rows.write_clip_retrieval(f"{tmp_path}/x", per_file=3)
    settings, blind = (config(run, tmp_path / "x", **options) for options in ({}, {"caption_column": None}))
    for shard in "ab":
        write_samples(run, settings, shard, rows.keys, [f"{caption} of {shard}" for caption in rows.captions])
    write_samples(run, settings, "c", rows.keys, rows.captions)
    assert prepare_import(run, settings, ["a", "b", "c"], threads=1).startswith("3 rows")
    with pytest.raises(ImportedError, match=r"Shards a and b both have a sample of key '000000000'.*join by uid"):
        prepare_import(run, blind, ["a", "b"], threads=1)


def test_an_import_that_changes_under_a_run_is_refused(run, tmp_path) -> None:
    rows = foreign(6)
    rows.write_clip_retrieval(f"{tmp_path}/x", per_file=3)
    settings = config(run, tmp_path / "x")
    write_samples(run, settings, "a", rows.keys, rows.captions)
    import_all(run, settings, "a")
    importer = Importer(run, settings)
    put(f"{tmp_path}/x/img_emb/img_emb_01.npy", npy(vectors(2)))
    with pytest.raises(ImportedError, match=r"img_emb_01\.npy .* has the shape \(2, 8\), and \(3, 8\) was expected"):
        importer.import_shard(Shard("a", "", 1, None), lambda rows: None)
    with pytest.raises(FingerprintError, match=r"embeddings/main was made with imported\.files = "):
        claim(run, settings, embeddings_of(settings), import_fields(run, settings))
    with pytest.raises(RunError, match="holds no index of"):
        Importer(run, settings)


def test_fields_say_what_decides_an_embedding_and_not_where_it_lies(run, tmp_path) -> None:
    foreign(3).write_clip_retrieval(f"{tmp_path}/x", per_file=3)
    settings = config(run, tmp_path / "x")
    write_samples(run, settings, "a", [], [])
    before = import_fields(run, settings)
    assert before["dim"] == DIM
    os.rename(tmp_path / "x", tmp_path / "y")
    assert import_fields(run, config(run, tmp_path / "y")) == before
    for changed in (
        config(run, tmp_path / "y", "float16"),
        config(run, tmp_path / "y", caption_column=None),
        config(run, tmp_path / "y", model="ViT-L-14"),
    ):
        assert import_fields(run, changed) != before


def test_a_samples_part_of_other_settings_is_refused(run, tmp_path) -> None:
    rows = foreign(3)
    rows.write_clip_retrieval(f"{tmp_path}/x", per_file=3)
    settings = config(run, tmp_path / "x")
    write_samples(run, settings, "a", rows.keys, rows.captions)
    prepare_import(run, settings, ["a"], threads=1)
    importer = Importer(run, settings)
    importer.fields = {**importer.fields, "samples": "other"}
    with pytest.raises(RunError, match=r"samples/a\.parquet was made under other settings"):
        importer.import_shard(Shard("a", "", 1, None), lambda rows: None)
    assert run.done(embeddings_of(settings)) == set()


def test_neither_a_pass_without_clip_nor_an_import_loads_torch() -> None:
    code = "import sys, pipeline.extract, pipeline.imported.embeddings; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
