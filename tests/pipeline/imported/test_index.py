"""The index of an import: every key is found where it lies, whatever the order, the chunks and the storage."""

import hashlib
import itertools
import os
import random
import tempfile
import uuid
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from pipeline.datasets import Dataset
from pipeline.imported import index as module
from pipeline.imported.collection import Collection
from pipeline.imported.index import Index, build_index, has_index
from pipeline.run import Run, RunError
from tests.pipeline.imported.foreign import Foreign, npy, parquet, put, vectors
from tests.pipeline.imported.test_collection import datacomp, foreign, settings

INDEX = Dataset("imports", "main")


@pytest.fixture(params=["local", "memory"])
def run(request, tmp_path, monkeypatch) -> Run:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return Run(str(tmp_path / "run") if request.param == "local" else f"memory://{uuid.uuid4().hex}/run")


def indexed(run: Run, collection: Collection) -> Index:
    build_index(run, INDEX, collection, threads=2)
    return Index(run, INDEX, collection)


def find(index: Index, keys: list[str], captions: list[str] | None = None):
    return index.find(pa.chunked_array([keys]), pa.chunked_array([captions or [""] * len(keys)], pa.string()))


def shuffled(rows: Foreign, seed: int = 0) -> Foreign:
    return rows.take(random.Random(seed).sample(range(len(rows.keys)), len(rows.keys)))


@pytest.mark.parametrize("chunk_rows", [500, 1 << 22])
def test_every_row_is_found_in_whatever_order(run, tmp_path, monkeypatch, chunk_rows) -> None:
    monkeypatch.setattr(module, "CHUNK_ROWS", chunk_rows)
    # DuckDB sorts rows in vectors of 2,048.
    rows = shuffled(foreign(5000))
    rows.write_clip_retrieval(f"{tmp_path}/x", per_file=700)
    index = indexed(run, Collection(settings(tmp_path / "x")))
    assert (index.rows, index.dim, index.captions) == (5000, 8, True)
    order = random.Random(1).sample(range(5000), 3000)
    found = find(index, [rows.keys[i] for i in order], [rows.captions[i] for i in order])
    assert set(found.status) == {"ok"}
    assert (found.file * 700 + found.row).tolist() == order
    assert np.isnan(found.score).all()
    strange = find(index, ["", "ä", "000005000", "0"])
    assert strange.status.tolist() == ["missing"] * 4


@pytest.mark.parametrize("rows", [1, 2, 5, 100])
def test_no_hash_is_in_two_chunks_and_two_entries_of_it_are_enough(monkeypatch, rows) -> None:
    monkeypatch.setattr(module, "CHUNK_ROWS", 4)
    hashes = pa.array(np.repeat(np.arange(30, dtype=np.uint64), [1, 9, 2] * 10))
    batches = [pa.record_batch({"hash": hashes[at : at + rows]}) for at in range(0, len(hashes), rows)]
    chunks = [chunk["hash"].to_pylist() for chunk in module._chunks(batches)]
    assert all(set(one).isdisjoint(other) for one, other in itertools.pairwise(chunks))
    counts = Counter(itertools.chain.from_iterable(chunks))
    assert all(counts[hash] > 1 if hash % 3 else counts[hash] == 1 for hash in range(30))


def test_keys_that_come_often_are_ambiguous_and_the_others_are_found(run, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "CHUNK_ROWS", 3)
    rows = foreign(20)
    rows.take([i for i in range(20) for _ in range(5 if i % 2 else 1)]).write_clip_retrieval(f"{tmp_path}/x", 11)
    index = indexed(run, Collection(settings(tmp_path / "x")))
    assert find(index, rows.keys, rows.captions).status.tolist() == ["ok", "ambiguous"] * 10


def test_the_hash_is_the_low_half_of_md5() -> None:
    keys = ["", "a", "ä" * 100, "000000001"]
    expected = [int.from_bytes(hashlib.md5(key.encode(), usedforsecurity=False).digest()[:8], "little") for key in keys]
    with module.duckdb.connect(":memory:") as connection:
        table = pa.table({"key": keys, "caption": keys})
        hashed = connection.from_arrow(table).project(module._HASHES).fetchnumpy()
    assert hashed["hash"].tolist() == expected
    assert hashed["caption"].tolist() == [value & 0xFFFFFFFF for value in expected]


def test_a_row_of_another_caption_is_none_of_the_samples(run, tmp_path) -> None:
    rows = foreign(4)
    rows.captions[2:] = [None, "\ufeffcaption 3"]
    rows.write_clip_retrieval(f"{tmp_path}/x", per_file=4)
    index = indexed(run, Collection(settings(tmp_path / "x")))
    found = find(index, rows.keys, ["caption 0", "caption 2", "", "caption 3"])
    assert found.status.tolist() == ["ok", "mismatch", "ok", "ok"]
    blind = Collection(settings(tmp_path / "x", caption_column=None))
    assert find(indexed(run, blind), rows.keys, ["x"] * 4).status.tolist() == ["ok"] * 4


def test_a_key_of_several_rows_is_ambiguous_even_for_the_right_caption(run, tmp_path) -> None:
    rows = foreign(4)
    rows.keys[2] = rows.keys[0]
    rows.write_clip_retrieval(f"{tmp_path}/x", per_file=2)
    index = indexed(run, Collection(settings(tmp_path / "x")))
    found = find(index, ["000000000", "000000001", "000000002", "000000000"], ["caption 0", "caption 1", "", "x"])
    assert found.status.tolist() == ["ambiguous", "ok", "missing", "ambiguous"]


def test_scores_are_cosines_or_nothing(run, tmp_path) -> None:
    rows = foreign(7, s=[0.25, -1.0, 1.5, None, float("nan"), float("inf"), float("-inf")])
    rows.write_datacomp(f"{tmp_path}/x", per_file=3)
    index = indexed(run, Collection(datacomp(tmp_path / "x", score_column="s")))
    score = find(index, rows.keys, rows.captions).score
    assert score[:2].tolist() == [0.25, -1.0]
    assert np.isnan(score[2:]).all()


def test_rows_without_a_key_are_counted_and_never_found(run, tmp_path) -> None:
    rows = Foreign([None, "b", None], ["a", "b", "c"], vectors(3))
    rows.write_clip_retrieval(f"{tmp_path}/x", per_file=3)
    index = indexed(run, Collection(settings(tmp_path / "x")))
    assert (index.rows, index.key) == (3, "b")
    assert find(index, ["b", ""], ["b", ""]).status.tolist() == ["ok", "missing"]


def test_an_import_without_rows_has_nothing(run, tmp_path) -> None:
    strings = pa.table({"image_path": pa.array([], pa.string()), "caption": pa.array([], pa.string())})
    put(f"{tmp_path}/x/metadata/metadata_0.parquet", parquet(strings))
    put(f"{tmp_path}/x/img_emb/img_emb_0.npy", npy(vectors(0)))
    index = indexed(run, Collection(settings(tmp_path / "x")))
    assert (index.rows, index.key) == (0, None)
    assert find(index, ["a"]).status.tolist() == ["missing"]


def test_an_index_is_that_of_these_files_as_they_are(run, tmp_path) -> None:
    foreign().write_clip_retrieval(f"{tmp_path}/x", per_file=5)
    collection = Collection(settings(tmp_path / "x"))
    assert not has_index(run, INDEX, collection)
    with pytest.raises(RunError, match=r"holds no index of .*: extract again"):
        Index(run, INDEX, collection)
    build_index(run, INDEX, collection, threads=1)
    assert has_index(run, INDEX, collection)
    os.utime(tmp_path / "x/img_emb/img_emb_01.npy", (1, 1))
    assert not has_index(run, INDEX, Collection(settings(tmp_path / "x")))


def test_a_remote_index_is_downloaded_once_per_node(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    run = Run(f"memory://{uuid.uuid4().hex}/run")
    rows = foreign()
    rows.write_clip_retrieval(f"{tmp_path}/x", per_file=5)
    collection = Collection(settings(tmp_path / "x"))
    indexed(run, collection)
    monkeypatch.setattr(type(run.fs), "get_file", lambda *_, **__: pytest.fail("it was downloaded again"))
    assert set(find(Index(run, INDEX, collection), rows.keys, rows.captions).status) == {"ok"}
    (own,) = tmp_path.glob("parrotscope-*")
    assert own.stat().st_mode & 0o077 == 0


def test_a_folder_that_another_user_laid_out_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    run = Run(f"memory://{uuid.uuid4().hex}/run")
    foreign().write_clip_retrieval(f"{tmp_path}/x", per_file=5)
    own = os.getuid()
    (tmp_path / f"parrotscope-{own + 1}").mkdir()
    monkeypatch.setattr(os, "getuid", lambda: own + 1)
    with pytest.raises(RunError, match="belongs to another user: set TMPDIR"):
        indexed(run, Collection(settings(tmp_path / "x")))
