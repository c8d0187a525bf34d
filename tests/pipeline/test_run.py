"""A run on disk: parts appear whole or not at all, and datasets keep how they were made."""

import os
import pickle
import platform
import subprocess
import sys
import tempfile
import uuid
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import schema
from pipeline.config_file import parse
from pipeline.datasets import Dataset
from pipeline.run import Run, RunError
from pipeline.shards import Shard

NUMBERS = (
    schema.INDEX,
    schema.Column("text", pa.string(), "", "", nullable=True),
)
DATASET = Dataset("numbers", "main")


@pytest.fixture(params=["local", "memory"])
def run(request, tmp_path) -> Run:
    return Run(str(tmp_path / "run") if request.param == "local" else f"memory://{uuid.uuid4().hex}/run")


def rows(n: int, start: int = 0) -> list[dict]:
    return [{"index": i, "text": f"row {i}"} for i in range(start, start + n)]


def test_a_part_is_done_when_its_block_ends(run) -> None:
    with run.part(DATASET, "a", NUMBERS) as part:
        part.write(rows(3))
        assert run.done(DATASET) == set()
        part.describe({"counts": {"rows": 3}})
    assert run.done(DATASET) == {"a"}
    assert run.read_part(DATASET, "a")["index"].to_pylist() == [0, 1, 2]
    assert run.footer(DATASET, "a") == {"counts": {"rows": 3}}


def test_a_part_whose_block_fails_never_appears(run) -> None:
    def fail_on_the_way() -> None:
        with run.part(DATASET, "a", NUMBERS) as part:
            part.write(rows(3))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_on_the_way()
    assert run.done(DATASET) == set()
    if run.local:
        assert os.listdir(run.path(DATASET)) == []


def test_what_a_killed_writer_leaves_is_no_part(tmp_path) -> None:
    run = Run(str(tmp_path))
    with run.part(DATASET, "a", NUMBERS) as part:
        part.write(rows(2))
    (tmp_path / "numbers/main/.0123.tmp").write_bytes(b"half")
    (tmp_path / "numbers/main/_dataset.json").write_text("{}")
    assert run.done(DATASET) == {"a"}
    assert run.dataset(DATASET).count_rows() == 2


def test_sweep_removes_what_killed_writers_of_this_host_left(tmp_path) -> None:
    run = Run(str(tmp_path))
    folder = tmp_path / "numbers/main"
    folder.mkdir(parents=True)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    stays = {
        f".{platform.node()}~{dead.pid}~ab.tmp": False,
        f".{platform.node()}~{os.getpid()}~ab.tmp": True,
        f".{platform.node()}-2~{dead.pid}~ab.tmp": True,
        "a.parquet": True,
    }
    for name in stays:
        (folder / name).write_bytes(b"x")
    run.sweep(DATASET)
    assert {name: (folder / name).exists() for name in stays} == stays


def test_sweep_of_a_run_elsewhere_removes_what_killed_writers_left_among_temporary_files(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    run = Run("memory://swept")
    code = "import os, signal, sys; from pipeline.run import Run\n"
    code += "with Run('memory://swept').committed('/x'): os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(tmp_path)}, check=False)
    (left,) = tmp_path.iterdir()
    others = [f".{platform.node()}~x~ab.tmp", f".{platform.node()}~~1~ab.tmp", "tmpabc.tmp"]
    for name in others:
        (tmp_path / name).touch()
    with run.committed("/swept/y") as spool:
        run.sweep(DATASET)
        assert os.path.exists(spool)
    assert {file.name for file in tmp_path.iterdir()} == set(others)
    assert left.name.startswith(f".{platform.node()}~")


@pytest.mark.parametrize("row", [{"index": 0}, {"index": 0, "text": "", "other": 1}, {"index": None, "text": "x"}])
def test_rows_that_do_not_fit_the_schema_are_refused(run, row) -> None:
    with pytest.raises(ValueError, match="column"), run.part(DATASET, "a", NUMBERS) as part:
        part.write([row])
    assert run.done(DATASET) == set()


def test_batches_have_even_rows_whatever_the_row_groups(run) -> None:
    with run.part(DATASET, "a", NUMBERS) as part:
        for start, n in ((0, 9000), (9000, 1), (9001, 8999), (18000, 2000)):
            part.write(rows(n, start))
    batches = list(run.read_batches(DATASET, "a", ["index"], rows=6000))
    assert [batch.num_rows for batch in batches] == [6000, 6000, 6000, 2000]
    assert pa.concat_tables(batches)["index"].to_pylist() == list(range(20_000))


def test_an_empty_part_is_a_part(run) -> None:
    with run.part(DATASET, "a", NUMBERS):
        pass
    assert run.done(DATASET) == {"a"}
    assert list(run.read_batches(DATASET, "a")) == []


def test_a_damaged_part_is_named(run) -> None:
    run.write_bytes(b"not parquet", DATASET, "a.parquet")
    with pytest.raises(RunError, match=r"numbers/main/a\.parquet is damaged"):
        run.read_part(DATASET, "a")


@pytest.mark.parametrize("stored_as", schema.VECTOR_TYPES)
def test_embeddings_have_no_encoding_that_a_reader_lacks(tmp_path, stored_as) -> None:
    columns = schema.embeddings(4, stored_as)
    run = Run(str(tmp_path))
    row = {
        "shard": "a",
        "index": 0,
        "key": "k",
        "uid": "u",
        "clip_status": "ok",
        "clip_score": 0.25,
        "caption_truncated": False,
        "image_embedding": [0.5] * 4,
        "text_embedding": [0.5] * 4,
    }
    with run.part(DATASET, "a", columns) as part:
        part.write([row])
    group = pq.read_metadata(run.part_path(DATASET, "a")).row_group(0)
    encodings = {group.column(i).path_in_schema: set(group.column(i).encodings) for i in range(group.num_columns)}
    for name in (schema.IMAGE_EMBEDDING, schema.TEXT_EMBEDDING):
        assert encodings[f"{name}.list.element"] == {"PLAIN", "RLE"}


def test_run_yaml_follows_the_sections_that_jobs_went_by(run) -> None:
    config = parse({"run": "r", "input": {"shards": ["ä/*.tar"]}, "cluster": {"k": 7}})
    with pytest.raises(RunError, match="is no run"):
        run.config()
    run.write_config(config, ("input",))
    assert run.config() == config
    other = parse({"run": "r", "input": {"shards": "b"}, "cluster": {"k": 9}, "overlap": {"threshold": 0.9}})
    run.write_config(other, ("overlap",))
    assert run.config() == parse(
        {"run": "r", "input": {"shards": ["ä/*.tar"]}, "cluster": {"k": 7}, "overlap": {"threshold": 0.9}}
    )


@pytest.mark.parametrize("text", [b"", b"- a", b"run: [", b"run: r\nunknown: 1"])
def test_a_damaged_run_yaml_is_named(run, text) -> None:
    run.write_bytes(text, "run.yaml")
    with pytest.raises(RunError, match=r"run\.yaml is damaged"):
        run.config()


def test_a_shard_never_comes_in_twice_under_two_ids(run) -> None:
    run.write_shards([Shard("00000", "s3://x/a/00000.tar", 10, "e1")])
    with pytest.raises(RunError, match=r"is shard 00000 of the run and would now be a--00000.*set input\.root"):
        run.merged_shards([Shard("a--00000", "s3://x/a/00000.tar", 10, "e1")])


def test_a_pickled_run_does_not_depend_on_the_working_directory(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    travelled = pickle.dumps(Run("runs/x"))
    monkeypatch.chdir("/")
    assert pickle.loads(travelled).root == str(tmp_path / "runs/x")  # noqa: S301


def test_shards_are_merged_and_a_changed_one_is_named(run) -> None:
    a, b = Shard("a", "s3://x/a.tar", 10, "e1"), Shard("b", "s3://x/b.tar", 20, "e2")
    assert run.merged_shards([b]) == [b]
    assert run.shards() == []
    run.write_shards([b])
    run.write_shards(run.merged_shards([a]))
    assert run.shards() == [a, b]
    with pytest.raises(RunError, match="Shard a changed at its source"):
        run.merged_shards([Shard("a", "s3://x/a.tar", 11, "e1"), b])
    with pytest.raises(RunError, match="Shard b changed at its source"):
        run.merged_shards([a, Shard("b", "s3://x/b.tar", 20, "e3")])


def test_a_shard_that_moved_is_read_where_it_is_listed(run) -> None:
    run.write_shards([Shard("a", "s3://old/a.tar", 10, "e1")])
    moved = Shard("a", "gs://new/a.tar", 10, "e1")
    assert run.merged_shards([moved]) == [moved]


@pytest.mark.parametrize("at", [0.3, 0.6, 0.9])
def test_bits_flipped_in_a_page_are_damage_and_no_storage_error(tmp_path, at) -> None:
    run = Run(str(tmp_path))
    with run.part(DATASET, "a", NUMBERS) as part:
        part.write([{"index": i, "text": f"{i * 7919 % 10007}"} for i in range(5000)])
    file = tmp_path / "numbers/main/a.parquet"
    data = bytearray(file.read_bytes())
    for place in range(int(len(data) * at), int(len(data) * at) + 40):
        data[place] ^= 0xFF
    file.write_bytes(data)
    with pytest.raises(RunError, match=r"a\.parquet is damaged"):
        run.read_part(DATASET, "a")


def test_a_missing_part_stays_a_storage_error(run) -> None:
    with pytest.raises(FileNotFoundError):
        run.footer(DATASET, "a")


def test_shards_left_out_of_the_sample_are_known_and_a_larger_sample_takes_them_in(run) -> None:
    a, b = Shard("a", "s3://x/a.tar", 10, "e1"), Shard("b", "s3://x/b.tar", 20, "e2", sampled=False)
    run.write_shards(run.merged_shards([a, b]))
    assert run.collection() == [a, b]
    assert run.shards() == [a]
    run.write_shards(run.shards())
    assert run.collection() == [a, b]
    # What was begun stays; what was never read may have changed.
    run.write_shards(run.merged_shards([replace(a, sampled=False), Shard("b", "s3://x/b.tar", 30, "e9")]))
    assert run.shards() == [a, Shard("b", "s3://x/b.tar", 30, "e9")]


def test_what_opens_a_shard_is_not_kept(run) -> None:
    signed = Shard("a", "https://host/a.tar?signature=secret", 10, "e1")
    run.write_shards(run.merged_shards([signed]))
    run.write_config(parse({"run": "ftp://me:secret@host/r", "input": {"shards": signed.url}}), ("input",))
    assert b"secret" not in run.fs.cat_file(run.path("run.yaml"))
    assert run.shards() == [Shard("a", "https://host/a.tar?…", 10, "e1")]
    assert run.merged_shards([signed]) == [signed]
