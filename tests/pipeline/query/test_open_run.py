"""A run opened for questions: its views, cluster_percentile, streams, and samples with their pictures."""

import gzip
import math
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from pipeline import open_run, schema
from pipeline.arrow_files import ForgetfulDataset
from pipeline.datasets import Dataset
from pipeline.images import decode
from pipeline.query.sandbox import QueryError
from pipeline.run import RunError
from pipeline.shards import Shard, list_shards
from pipeline.tables.clusters import cluster_tables
from tests.pipeline.runs import FAILED, profile, word, write_run
from tests.pipeline.shard_factory import offsets, samples, tar
from tests.s3_server import s3_server

ROOT = Path(__file__).resolve().parents[2]

SPOTTED = {
    "text_class": "co_emb",
    "spotted": [word("SALE", 1, 2), word("50%")],
    "spotted_area": [0.25, 0.5],
    "spotted_co_emb": [True, False],
}
ROWS = [
    profile("a", 0, cluster_id=1, clip_score=0.3001, cluster_distance=1.0, cotr=0.5, fuzzy_cotr=1.0, **SPOTTED),
    profile("a", 2, cluster_id=1, clip_score=0.3009, cluster_distance=2.0),
    profile("a", 5, cluster_id=1, clip_score=0.35, cluster_distance=3.0, **FAILED),
    profile("b", 0, cluster_id=1, clip_score=-0.0004, cluster_distance=4.0, text_class="text", spotted=[word("x")]
            , spotted_area=[0.1], spotted_co_emb=[False]),
    profile("b", 1, cluster_id=1, clip_score=None, cluster_distance=4.0),
    profile("b", 2, cluster_id=1, clip_score=math.nan, cluster_distance=4.0),
    profile("b", 3, cluster_id=7, clip_score=0.2, cluster_distance=0.5),
    profile("b", 4, cluster_id=None, clip_score=0.9, clip_status="missing"),
]  # fmt: skip
PERCENTILES = [0.75, 0.75, 1.0, 0.25, None, None, 1.0, None]
REJECTS = [{"shard": "a", "index": 1, "key": "x", "reason": "half_sample", "message": "no image", "offset": 512}]
SHARDS = [Shard("a", "a.tar", 10, "e"), Shard("b", "b.tar", None, None), Shard("c", "c.tar", 5, None, sampled=False)]


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_server():
        yield "s3://bucket"


@pytest.fixture(params=["local", "memory", "s3"])
def folder(request, tmp_path) -> str:
    """Where a run and its shards may lie."""
    if request.param == "local":
        return str(tmp_path / "it's a “run” %s;-- 100%")
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}"
    return f"{request.getfixturevalue('bucket')}/{uuid.uuid4().hex}"


@pytest.fixture
def opened(tmp_path):
    return open_run(write_run(str(tmp_path / "run"), ROWS, REJECTS, SHARDS).url)


def rows(answer) -> list[dict[str, Any]]:
    return answer.arrow().to_pylist()


@pytest.mark.parametrize(
    ("view", "columns"),
    [
        ("profiles", (*schema.PROFILES, schema.CLUSTER_PERCENTILE)),
        ("words", schema.WORDS),
        ("rejects", schema.REJECTS),
        ("shards", schema.SHARDS),
        ("clusters", schema.CLUSTERS),
    ],
)
def test_views_have_the_columns_and_types_of_the_schema(opened, view, columns) -> None:
    found = opened.sql(f"FROM {view}").arrow().schema
    assert found.names == [column.name for column in columns]
    for column in columns:
        # DuckDB marks nothing as never null, and calls the values of lists its own way.
        assert str(found.field(column.name).type).replace("l: ", "element: ") == str(column.type).replace(
            " not null", ""
        ), column.name


def test_a_run_on_any_storage_gives_its_rows(folder) -> None:
    run = open_run(write_run(f"{folder}/run", ROWS, REJECTS, SHARDS).url)
    found = rows(run.sql("SELECT * EXCLUDE (cluster_percentile) FROM profiles ORDER BY shard, index"))
    stored = [row for shard in "ab" for row in run._run.read_part(Dataset("profiles", "main"), shard).to_pylist()]
    assert repr(found) == repr(stored)  # by repr, a NaN equals itself
    assert rows(run.sql("FROM rejects")) == REJECTS
    found = rows(run.sql("FROM shards ORDER BY shard"))
    assert [(row["shard"], row["source"], row["size"], row["etag"], row["sampled"]) for row in found] == [
        (shard.id, shard.url, shard.size, shard.etag, shard.sampled) for shard in SHARDS
    ]


def test_a_run_of_many_files_gives_its_rows_to_every_question(folder, monkeypatch) -> None:
    run = write_run(f"{folder}/run", ROWS, REJECTS, SHARDS)
    query = "SELECT shard, index, clip_score FROM profiles WHERE cluster_id = 1 ORDER BY ALL"
    expected = rows(open_run(run.url).sql(query))
    monkeypatch.setattr("pipeline.query.open_run.KEPT_FILES", 1)
    many = open_run(run.url)
    for _ in range(2):
        assert repr(rows(many.sql(query))) == repr(expected)
    assert isinstance(many._datasets["profiles"], ForgetfulDataset)
    assert len(expected) == 6


def test_words_are_one_row_per_spotted_word(opened) -> None:
    found = rows(opened.sql("FROM words ORDER BY shard, index, position"))
    expected = [
        {"shard": row["shard"], "index": row["index"], "uid": row["uid"], "position": position, **one}
        | {"area": pytest.approx(area), "co_emb": co_emb}
        | {"text_class": row["text_class"], "cluster_id": row["cluster_id"]}
        for row in ROWS
        for position, (one, area, co_emb) in enumerate(
            zip(row["spotted"] or [], row["spotted_area"] or [], row["spotted_co_emb"] or [], strict=True), start=1
        )
    ]
    assert [row | {"polygon": None} for row in found] == [row | {"polygon": None} for row in expected]
    assert [[(p["x"], p["y"]) for p in row["polygon"]] for row in found] == [
        [(p["x"], p["y"]) for p in row["polygon"]] for row in expected
    ]
    assert [row["text"] for row in found] == ["SALE", "50%", "x"]
    again = rows(opened.sql("SELECT p.spotted[w.position].text AS t, w.text FROM profiles p JOIN words w USING (uid)"))
    assert len(again) == 3
    assert all(row["t"] == row["text"] for row in again)


def test_clusters_are_one_row_per_cluster(opened) -> None:
    first, second = rows(opened.sql("FROM clusters ORDER BY cluster_id"))
    assert (first["images"], first["measured"]) == (6, 5)
    assert first["text_share"] == pytest.approx(2 / 5)
    assert first["co_emb_share"] == pytest.approx(1 / 5)
    assert first["mean_cotr"] == pytest.approx(0.5 / 5)
    assert first["mean_fuzzy_cotr"] == pytest.approx(1 / 5)
    assert first["mean_clip_score"] == pytest.approx(sum(row["clip_score"] for row in ROWS[:4]) / 4)  # without the NaN
    assert first["mean_distance"] == pytest.approx(18 / 6)
    assert second == {
        "cluster_id": 7, "images": 1, "measured": 1, "text_share": 0, "co_emb_share": 0, "mean_cotr": 0,
        "mean_fuzzy_cotr": 0, "mean_clip_score": pytest.approx(0.2), "mean_distance": 0.5,
    }  # fmt: skip


def test_clusters_are_those_of_the_table(opened) -> None:
    found = rows(opened.sql("FROM clusters ORDER BY images DESC, cluster_id"))
    table = cluster_tables(opened._run.dataset(Dataset("profiles", "main"))).clusters.table.to_pylist()
    shared = found[0].keys() & table[0].keys()
    assert {column.name for column in schema.CLUSTERS} - shared == {"mean_fuzzy_cotr"}
    for one, other in zip(found, table, strict=True):
        assert {name: one[name] for name in shared} == pytest.approx({name: other[name] for name in shared})


def test_cluster_percentile_is_the_share_of_the_clusters_scores_at_or_below(opened) -> None:
    found = rows(opened.sql("SELECT cluster_percentile FROM profiles ORDER BY shard, index"))
    assert [row["cluster_percentile"] for row in found] == PERCENTILES


def test_cluster_percentile_equals_its_definition_on_many_rows(tmp_path) -> None:
    rng = np.random.default_rng(0)
    scores, clusters = rng.normal(0.3, 0.03, 3000).astype(np.float32), rng.integers(0, 5, 3000)
    drawn = [profile("ab"[i % 2], i, clip_score=float(s), cluster_id=int(c)) for i, (s, c) in
             enumerate(zip(scores, clusters, strict=True))]  # fmt: skip
    run = open_run(write_run(str(tmp_path), drawn).url)
    found = run.sql("SELECT cluster_percentile FROM profiles ORDER BY index").arrow()["cluster_percentile"].to_numpy()
    bins = np.floor(scores.astype(float) * 1000)
    expected = [(bins[clusters == c] <= b).mean() for b, c in zip(bins, clusters, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    top = rows(run.sql("SELECT count(*) AS n FROM profiles WHERE cluster_percentile > 0.95"))[0]["n"]
    assert 0.05 <= top / 3000 < 0.1  # at least 5 %: ties share a bin


def test_cluster_percentile_costs_nothing_where_it_is_not_read(opened) -> None:
    opened.sql("SELECT count(*), avg(p.cotr) FROM profiles p JOIN clusters c USING (cluster_id)").arrow()
    assert "_percentiles" not in vars(opened)
    answer = opened.sql("SELECT caption, cluster_percentile FROM profiles")
    # The few bins are held in memory, not the rows.
    assert "LEFT" in answer._relation.explain()
    assert "RIGHT" not in answer._relation.explain()


def test_what_a_run_has_not_yet_is_empty_but_profiles_are_needed(tmp_path) -> None:
    run = open_run(write_run(str(tmp_path)).url)
    assert rows(run.sql("FROM rejects")) == rows(run.sql("FROM shards")) == []
    for query in ("FROM profiles", "SELECT count(*) FROM words", "FROM clusters"):
        with pytest.raises(RunError, match=r"has no profiles/main yet\.$"):
            run.sql(query)
    with pytest.raises(RunError, match="is no run"):
        open_run(str(tmp_path / "nowhere"))


def test_profiles_without_rows_words_or_clusters_give_empty_views(tmp_path) -> None:
    run = write_run(str(tmp_path), [profile("a", 0)])
    with run.part(Dataset("profiles", "main"), "a", schema.PROFILES):
        pass
    opened = open_run(run.url)
    for view in ("profiles", "words", "clusters"):
        assert rows(opened.sql(f"FROM {view}")) == []
    unclustered = open_run(write_run(str(tmp_path / "2"), [profile("a", 0, clip_score=0.3)]).url)
    assert rows(unclustered.sql("FROM clusters")) == []
    assert rows(unclustered.sql("SELECT cluster_percentile FROM profiles")) == [{"cluster_percentile": None}]


def test_profiles_are_chosen_by_name(tmp_path) -> None:
    write_run(str(tmp_path), [profile("a", 0)], dataset=Dataset("profiles", "other"))
    assert len(rows(open_run(str(tmp_path), profiles="other").sql("FROM profiles"))) == 1
    with pytest.raises(ValueError, match="is no name of profiles"):
        open_run(str(tmp_path), profiles="../samples")


def test_profiles_of_an_earlier_version_say_what_they_cannot_give(tmp_path) -> None:
    run = write_run(str(tmp_path))
    old = tuple(column for column in schema.PROFILES if column.name != "spotted_area")
    with run.part(Dataset("profiles", "main"), "a", old) as part:
        part.write([{name: value for name, value in profile("a", 0).items() if name != "spotted_area"}])
    opened = open_run(run.url)
    assert len(rows(opened.sql("FROM profiles"))) == 1
    with pytest.raises(RunError, match=r"another version and give no view 'words': .*spotted_area"):
        opened.sql("FROM words")


def test_a_damaged_part_is_told(tmp_path) -> None:
    run = write_run(str(tmp_path), ROWS)
    path = Path(run.part_path(Dataset("profiles", "main"), "b"))
    data = bytearray(path.read_bytes())
    data[4:400] = bytes(396)
    path.write_bytes(data)
    with pytest.raises(QueryError):
        open_run(run.url).sql("FROM profiles").arrow()


def test_answers_are_frames_of_the_same_values(opened) -> None:
    answer = opened.sql("SELECT shard, index, 9007199254740993 + index AS big, spotted FROM profiles ORDER BY ALL")
    table = answer.arrow()
    assert answer.columns == table.schema.names
    assert isinstance(answer.pandas(), pd.DataFrame)
    assert answer.pandas()["big"].tolist() == table["big"].to_pylist()
    assert answer.polars().to_dicts() == table.to_pylist()
    assert isinstance(answer.polars(), pl.DataFrame)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_library_that_is_not_there_is_named(opened, library, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=library):
        getattr(opened.sql("SELECT 1 AS one"), library)()


def test_answers_are_streamed_and_outlive_what_made_them(tmp_path) -> None:
    reader = open_run(write_run(str(tmp_path), ROWS).url).sql("FROM range(1000000000) t(i)").batches(1000)
    before = pa.total_allocated_bytes()
    assert [batch.num_rows for _, batch in zip(range(50), reader, strict=False)] == [1000] * 50
    assert pa.total_allocated_bytes() - before < 50_000_000


def test_an_error_on_the_way_is_told(opened) -> None:
    answer = opened.sql("SELECT CASE WHEN i > 100000 THEN error('boom') ELSE i END AS i FROM range(200000) t(i)")
    with pytest.raises(QueryError, match="boom"):
        answer.arrow()


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("SELECT captio FROM profiles", 'Referenced column "captio" not found'),
        ("SELECT sum(caption) FROM profiles", "No function matches"),
        ("SELECT ? AS x", "Values were not provided"),
        ("SELECT uid, uid FROM profiles", "Two columns of the answer are called 'uid'"),
        ("COPY profiles TO 'x.csv'", "this is COPY"),
    ],
)
def test_a_wrong_query_is_told_before_it_runs(opened, query, sentence) -> None:
    with pytest.raises(QueryError, match=sentence) as error:
        opened.sql(query)
    assert "\n" not in str(error.value)


def test_parameters_are_values_and_never_sql(opened) -> None:
    hostile = "'; DROP VIEW profiles; --"
    assert rows(opened.sql("SELECT ? AS x, ? AS y", [hostile, 3])) == [{"x": hostile, "y": 3}]
    found = rows(opened.sql("SELECT $name AS x, count(*) AS n FROM profiles WHERE shard = $name", {"name": "a"}))
    assert found == [{"x": "a", "n": 3}]


def test_a_run_is_as_it_was_when_it_was_opened(opened) -> None:
    count = "SELECT count(*) AS n, count(cluster_percentile) AS p FROM profiles"
    before = rows(opened.sql(count))
    write_run(opened._run.url, [profile("z", 0, cluster_id=1, clip_score=0.3)])
    assert rows(opened.sql(count)) == before
    assert rows(open_run(opened._run.url).sql(count)) == [{"n": before[0]["n"] + 1, "p": before[0]["p"] + 1}]


def test_what_exceeds_the_memory_spills_to_a_private_folder_that_goes(tmp_path, monkeypatch) -> None:
    for folder in ("work", "temporary"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    run = open_run(write_run(str(tmp_path / "run")).url, memory_limit="100MB")
    reader = run.sql("SELECT i FROM range(12000000) t(i) ORDER BY hash(i)").batches()
    next(reader)
    (spill,) = (tmp_path / "temporary").iterdir()
    assert os.stat(spill).st_mode & 0o777 == 0o700
    assert list(spill.iterdir())
    assert not list((tmp_path / "work").iterdir())
    del run, reader
    assert not list((tmp_path / "temporary").iterdir())


def test_a_query_beyond_the_memory_limit_is_told(tmp_path) -> None:
    run = open_run(write_run(str(tmp_path)).url, memory_limit="20MB")
    with pytest.raises(QueryError, match="Out of Memory"):
        run.sql("SELECT list(i) AS all FROM range(9000000) t(i)").arrow()


def test_importing_pipeline_is_light() -> None:
    code = "import sys, pipeline; print(sorted({'duckdb', 'pyarrow', 'numpy', 'ray'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.strip() == "[]"


# Samples


@pytest.fixture(params=["a.tar", "b.tar.gz"])
def pictures(request, folder) -> tuple[Any, dict[int, bytes]]:
    """A run of ten samples of one shard, and their encoded pictures."""
    members = samples(10)
    archive = tar(members)
    url = f"{folder}/{request.param}"
    with fsspec.open(url, "wb") as file:
        file.write(gzip.compress(archive) if request.param.endswith("gz") else archive)
    return write_pictures(f"{folder}/run", list_shards([url]), archive, members)


def write_pictures(url, shards, archive, members, **values):
    images = [(name, data) for name, data in members if name.endswith(".jpg")]
    drawn = [
        profile(
            shards[0].id,
            i,
            caption=f"caption {i}",
            clip_score=i / 10,
            image_offset=offsets(archive)[name].offset_data,
            image_size=len(data),
            **values,
        )
        for i, (name, data) in enumerate(images)
    ]
    return write_run(url, drawn, shards=shards), {i: data for i, (_, data) in enumerate(images)}


def test_samples_come_with_their_pictures(pictures) -> None:
    run, images = pictures
    found = list(open_run(run.url).samples("clip_score > ?", 5, "clip_score DESC", parameters=[0.25]))
    assert [sample.row["index"] for sample in found] == [9, 8, 7, 6, 5]
    stored = {
        row["index"]: row for row in run.read_part(Dataset("profiles", "main"), found[0].row["shard"]).to_pylist()
    }
    for sample in found:
        assert sample.reason is None
        assert sample.row == stored[sample.row["index"]]
        np.testing.assert_array_equal(sample.image, decode(images[sample.row["index"]], 10**6, 1000).pixels)


def test_samples_of_several_shards_keep_the_order_asked_for(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("pipeline.query.open_run.IMAGES_AT_ONCE", 4)
    archives = {name: tar(samples(6, start)) for name, start in (("a", 0), ("b", 100))}
    drawn, shards = [], []
    for name, archive in archives.items():
        (tmp_path / f"{name}.tar").write_bytes(archive)
        shards += list_shards([str(tmp_path / f"{name}.tar")])
        for i, (member, info) in enumerate((m, x) for m, x in offsets(archive).items() if m.endswith("jpg")):
            place = {"image_offset": info.offset_data, "image_size": info.size}
            drawn.append(profile(name, i, caption=member, clip_score=i + (name == "b") / 2, **place))
    run = open_run(write_run(str(tmp_path / "run"), drawn, shards=shards).url)
    found = list(run.samples(limit=None, order_by="clip_score"))
    assert [(sample.row["shard"], sample.row["index"]) for sample in found] == [(s, i) for i in range(6) for s in "ab"]
    for sample in found:
        member = {"a": 0, "b": 100}[sample.row["shard"]] + sample.row["index"]
        assert abs(int(sample.image[0, 0, 0]) - member) <= 3  # as `picture` draws it
    assert len(list(run.samples())) == 10
    assert list(run.samples("false")) == []


def test_samples_are_sorted_by_what_no_profile_holds(opened) -> None:
    found = list(opened.samples("cluster_percentile > 0.5", None, "cluster_percentile DESC, uid"))
    assert [sample.row["uid"] for sample in found] == ["a-5", "b-3", "a-0", "a-2"]
    assert "cluster_percentile" not in found[0].row
    assert {sample.image for sample in found} == {None}
    assert all(sample.reason for sample in found)


@pytest.mark.parametrize(
    "where",
    [
        "true) UNION SELECT 'a', 0 FROM profiles WHERE (true",
        "true); COPY profiles TO 'x.csv'; SELECT (1",
        "caption IN (SELECT content FROM read_text('/etc/hostname'))",
        "(SELECT count(*) FROM 'x.parquet') > 0",
        "getenv('HOME') = ''",
        "captio = ''",
        "",
    ],
)
def test_conditions_go_through_the_same_door(opened, where) -> None:
    with pytest.raises(QueryError):
        list(opened.samples(where))
    with pytest.raises(QueryError):
        opened.samples(order_by=where)


def test_a_condition_may_end_in_a_comment(opened) -> None:
    assert len(list(opened.samples("uid = 'a-0' -- this one"))) == 1


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"width": 9}, "the image decodes to"),
        ({"image_format": "PNG"}, "the image decodes to"),
    ],
)
def test_another_picture_than_the_profiles_is_none(tmp_path, values, reason) -> None:
    archive = tar(samples(2))
    (tmp_path / "a.tar").write_bytes(archive)
    run, _ = write_pictures(
        str(tmp_path / "run"), list_shards([str(tmp_path / "a.tar")]), archive, samples(2), **values
    )
    for sample in open_run(run.url).samples():
        assert sample.image is None
        assert reason in sample.reason


def test_bytes_that_are_no_image_and_shards_that_are_unknown_give_reasons(tmp_path) -> None:
    (tmp_path / "a.tar").write_bytes(bytes(5000))
    drawn = [profile("a", 0, image_size=100), profile("b", 0), profile("a", 1, image_offset=4990, image_size=100)]
    run = open_run(write_run(str(tmp_path / "run"), drawn, shards=list_shards([str(tmp_path / "a.tar")])).url)
    reasons = {sample.row["uid"]: sample.reason for sample in run.samples()}
    assert reasons["a-0"] == "undecodable_image: not a JPEG, PNG or WebP"
    assert reasons["b-0"] == "shards.parquet does not say where shard b is"
    assert "gave 10 of 100 bytes" in reasons["a-1"]


def test_a_shard_that_changed_gives_no_picture(tmp_path) -> None:
    archive = tar(samples(2))
    (tmp_path / "a.tar").write_bytes(archive)
    run, _ = write_pictures(str(tmp_path / "run"), list_shards([str(tmp_path / "a.tar")]), archive, samples(2))
    opened = open_run(run.url)
    assert all(sample.image is not None for sample in opened.samples())
    (tmp_path / "a.tar").write_bytes(tar(samples(2, 50)))
    for sample in opened.samples():
        assert sample.image is None
        assert "the run has seen" in sample.reason
