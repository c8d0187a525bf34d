"""Collections: files are found and paired in both formats, and what does not fit is named."""

import os
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from pipeline.config import ImportedEmbeddings
from pipeline.imported import ImportedError
from pipeline.imported.collection import Collection
from tests.pipeline.imported.foreign import DIM, Foreign, npy, npz, parquet, put, vectors


def foreign(n: int = 10, **columns) -> Foreign:
    captions = [f"caption {i}" for i in range(n)]
    return Foreign([f"{i:09}" for i in range(n)], captions, vectors(n), vectors(n, 1), columns)


def settings(folder: object, **changes) -> ImportedEmbeddings:
    return ImportedEmbeddings(**{"format": "clip-retrieval", "folder": str(folder), **changes})


def datacomp(folder: object, **changes) -> ImportedEmbeddings:
    return settings(folder, format="datacomp", **changes)


def keys(collection: Collection) -> list[dict]:
    return [row for f in collection.fragments for batch in collection.read_keys(f) for row in batch.to_pylist()]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"format": "clip-retrieval"}, ("key", "image_path", "caption")),
        ({"format": "clip-retrieval", "join": "uid"}, ("uid", "uid", "caption")),
        ({"format": "datacomp"}, ("uid", "uid", "text")),
        ({"format": "datacomp", "join": "key"}, ("key", "key", "text")),
        ({"format": "datacomp", "caption_column": None, "key_column": "id"}, ("uid", "id", None)),
    ],
)
def test_columns_follow_the_format_unless_they_are_named(given, expected) -> None:
    found = ImportedEmbeddings(folder="x", **given)
    assert (found.join, found.key_column, found.caption_column) == expected
    assert ImportedEmbeddings(**found.model_dump()) == found


def test_a_format_must_be_named() -> None:
    with pytest.raises(ValidationError, match="format"):
        ImportedEmbeddings(folder="x")


@pytest.mark.parametrize("url", ["local", "memory"])
@pytest.mark.parametrize("text", [True, False])
def test_clip_retrieval_files_are_paired_by_number(tmp_path, url, text) -> None:
    folder = f"{tmp_path}/x" if url == "local" else f"memory://{uuid.uuid4().hex}"
    rows = foreign()
    rows.text = rows.text if text else None
    rows.write_clip_retrieval(folder, per_file=4)
    put(f"{folder}/metadata/_SUCCESS", b"")
    collection = Collection(settings(folder))
    assert [f.keys.rpartition("/")[2] for f in collection.fragments] == [f"metadata_0{n}.parquet" for n in range(3)]
    assert all((f.text is not None) == text for f in collection.fragments)
    facts = collection.check()
    assert (facts.rows, facts.dim, facts.captions) == ([4, 4, 2], DIM, True)
    found = keys(collection)
    assert [(row["key"], row["caption"]) for row in found] == list(zip(rows.keys, rows.captions, strict=True))
    assert [row["row"] for row in found] == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert all(row["score"] is None for row in found)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_datacomp_files_are_paired_by_name(tmp_path, dtype) -> None:
    rows = foreign(5, clip_b32_similarity_score=[0.1, None, float("nan"), 0.25, 2.0])
    rows.write_datacomp(str(tmp_path), per_file=3, dtype=dtype)
    collection = Collection(datacomp(tmp_path, score_column="clip_b32_similarity_score"))
    assert collection.check().rows == [3, 2]
    assert [row["key"] for row in keys(collection)] == rows.keys
    assert [row["score"] for row in keys(collection)][::3] == pytest.approx([0.1, 0.25])
    np.testing.assert_array_equal(
        collection.fragments[1].image.read((2, DIM), np.array([1])), rows.image[4:].astype(dtype)
    )


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["a", "b", None]),
        pa.array(["a", "b", None], pa.large_string()),
        pa.array(["a", "b", None]).dictionary_encode(),
        pa.array([b"a", b"b", None]),
    ],
)
def test_keys_may_be_any_kind_of_text(tmp_path, column) -> None:
    put(f"{tmp_path}/a.parquet", parquet(pa.table({"uid": column})))
    put(f"{tmp_path}/a.npz", npz(b32_img=vectors(3)))
    collection = Collection(datacomp(tmp_path, text_array=None))
    assert not collection.check().captions
    assert [row["key"] for row in keys(collection)] == ["a", "b", None]


def test_keys_are_read_in_batches(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("pipeline.imported.collection._KEY_ROWS", 3)
    foreign().write_clip_retrieval(str(tmp_path), per_file=10)
    collection = Collection(settings(tmp_path))
    assert [len(batch) for batch in collection.read_keys(collection.fragments[0])] == [3, 3, 3, 1]
    assert [row["row"] for row in keys(collection)] == list(range(10))


@pytest.mark.parametrize(
    "removed", ["metadata/metadata_01.parquet", "img_emb/img_emb_01.npy", "text_emb/text_emb_01.npy"]
)
def test_a_missing_partner_is_named(tmp_path, removed) -> None:
    foreign().write_clip_retrieval(str(tmp_path), per_file=5)
    os.remove(tmp_path / removed)
    folder = removed.partition("/")[0]
    with pytest.raises(ImportedError, match=rf"_01\.[a-z]+ has no partner in .*/{folder}\."):
        Collection(settings(tmp_path))


@pytest.mark.parametrize(("removed", "other"), [("01ab.npz", "01ab.parquet"), ("01ab.parquet", "01ab.npz")])
def test_a_missing_partner_of_datacomp_is_named(tmp_path, removed, other) -> None:
    foreign().write_datacomp(str(tmp_path), per_file=5)
    os.remove(tmp_path / removed)
    with pytest.raises(ImportedError, match=f"{other} has no {removed} beside it"):
        Collection(datacomp(tmp_path))


@pytest.mark.parametrize("folder", ["", "nowhere", "file"])
def test_a_folder_without_such_files_is_told(tmp_path, folder) -> None:
    (tmp_path / "file").write_bytes(b"")
    for make in (settings, datacomp):
        with pytest.raises(ImportedError, match="holds no files of the format"):
            Collection(make(tmp_path / folder))


def broken(folder: Path, data: bytes, name: str) -> Collection:
    foreign().write_clip_retrieval(str(folder), per_file=5)
    (folder / name).write_bytes(data)
    return Collection(settings(folder, score_column=None))


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("img_emb/img_emb_01.npy", npy(vectors(4)), "img_emb_01.npy has 4 rows, and its parquet file 5"),
        ("text_emb/text_emb_01.npy", npy(vectors(6)), "text_emb_01.npy has 6 rows, and its parquet file 5"),
        ("img_emb/img_emb_01.npy", npy(vectors(5, dim=9)), "img_emb_01.npy has embeddings of 9 dimensions"),
        ("text_emb/text_emb_00.npy", npy(vectors(5, dim=9)), "text_emb_00.npy has embeddings of 9 dimensions"),
        ("img_emb/img_emb_01.npy", npy(np.zeros(40)), r"img_emb_01.npy has the shape \(40,\)"),
        ("img_emb/img_emb_00.npy", npy(np.zeros((5, 0))), r"img_emb_00.npy has the shape \(5, 0\)"),
        ("img_emb/img_emb_01.npy", npy(np.zeros((5, 1, 8))), "not that of rows of embeddings"),
        ("img_emb/img_emb_01.npy", npy(np.array([None] * 5)), "pickled objects"),
        ("img_emb/img_emb_01.npy", npy(np.asfortranarray(vectors(5))), "stored by columns .* np.ascontiguousarray"),
        ("img_emb/img_emb_01.npy", b"", "img_emb_01.npy cannot be imported"),
        ("metadata/metadata_01.parquet", b"", "metadata_01.parquet cannot be imported"),
        ("metadata/metadata_01.parquet", b"PAR1" * 9, "metadata_01.parquet cannot be imported"),
        ("metadata/metadata_01.parquet", parquet(pa.table({"url": ["a"] * 5})), "no column 'image_path', only url"),
        ("metadata/metadata_01.parquet", parquet(pa.table({"image_path": ["a"] * 5})), "no column 'caption', and"),
    ],
)  # fmt: skip
def test_files_that_do_not_fit_are_named(tmp_path, name, data, told) -> None:
    with pytest.raises(ImportedError, match=told) as error:
        broken(tmp_path, data, name).check()
    assert name in str(error.value)


@pytest.mark.parametrize(("array", "told"), [("l14_img", "no such array, only b32_img, b32_txt"), ("b32_img", "")])
def test_an_array_that_is_not_in_the_archive_is_told_with_those_that_are(tmp_path, array, told) -> None:
    foreign().write_datacomp(str(tmp_path), per_file=5)
    collection = Collection(datacomp(tmp_path, image_array=array))
    if told:
        with pytest.raises(ImportedError, match=told):
            collection.check()
    else:
        assert collection.check().dim == DIM


def test_keys_that_are_no_text_are_told(tmp_path) -> None:
    table = pa.table({"image_path": [["a"]] * 5, "caption": ["a"] * 5})
    collection = broken(tmp_path, parquet(table), "metadata/metadata_00.parquet")
    with pytest.raises(ImportedError, match=r"metadata_00\.parquet cannot be imported"):
        keys(collection)


def test_another_content_is_another_import_and_another_place_is_not(tmp_path) -> None:
    foreign().write_clip_retrieval(f"{tmp_path}/a", per_file=5)
    before = Collection(settings(tmp_path / "a")).fields()
    os.rename(tmp_path / "a", tmp_path / "b")
    assert Collection(settings(tmp_path / "b")).fields() == before
    assert Collection(settings(tmp_path / "b", caption_column=None)).fields() != before
    os.utime(tmp_path / "b/img_emb/img_emb_01.npy", (1, 1))
    assert Collection(settings(tmp_path / "b")).fields()["files"] != before["files"]
