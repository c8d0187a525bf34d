"""Compacted files: the rows of the parts, at every moment; sorted by cluster, and aligned across datasets."""

import os
import uuid
from collections.abc import Sequence
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipeline import compacted_file, schema
from pipeline.compacted_file import write_compacted
from pipeline.compaction import Group, check_same_settings, clear, commit, forget, group_shards, plan, plan_groups
from pipeline.datasets import REJECTS, SAMPLES, Dataset, compacted_of
from pipeline.run import Run, RunError
from pipeline.tables.table1 import table1
from tests.benchmarks.query import draw_parts
from tests.s3_server import s3_server

PROFILES, EMBEDDINGS = Dataset("profiles", "main"), Dataset("embeddings", "main")
COLUMNS = {
    PROFILES: (*schema.IDENTITY, schema.URL, *schema.CLUSTER),
    EMBEDDINGS: schema.embeddings(4),
    SAMPLES: schema.IDENTITY,
    REJECTS: schema.REJECTS,
}
RNG = np.random.default_rng(0)


@pytest.fixture(params=["local", "memory"])
def run(request, tmp_path) -> Run:
    return Run(str(tmp_path / "run") if request.param == "local" else f"memory://{uuid.uuid4().hex}/run")


@pytest.fixture
def local(tmp_path) -> Run:
    return Run(str(tmp_path / "run"))


def rows_of(shard: str, clusters: Sequence[int | None]) -> dict[Dataset, list[dict]]:
    """The rows of a shard in every dataset: sample i in cluster i of the list, every second index a reject."""
    identity = [{"shard": shard, "index": 2 * i, "key": f"k{i}", "uid": f"{shard}-{i}"} for i in range(len(clusters))]
    vectors = RNG.normal(size=(len(clusters), 4)).astype(np.float16)
    return {
        PROFILES: [
            row | {"url": f"http://x/{row['uid']}", "cluster_id": cluster, "cluster_distance": None}
            for row, cluster in zip(identity, clusters, strict=True)
        ],
        EMBEDDINGS: [
            row
            | {"clip_status": "ok" if cluster is not None else "missing", "clip_score": None}
            | {"caption_truncated": None, "text_embedding": None}
            | {"image_embedding": vector if cluster is not None else None}
            for row, cluster, vector in zip(identity, clusters, vectors, strict=True)
        ],
        SAMPLES: identity,
        REJECTS: [
            {"shard": shard, "index": 2 * i + 1, "key": "r", "reason": "truncated", "message": "", "offset": 0}
            for i in range(len(clusters) // 2)
        ],
    }


def write(run: Run, shard: str, clusters: Sequence[int | None], fingerprint: str = "first") -> None:
    for dataset, rows in rows_of(shard, clusters).items():
        with run.part(dataset, shard, COLUMNS[dataset]) as part:
            part.write(rows)
            part.describe({"fingerprint": fingerprint, "counts": {"rows": len(clusters)}})


def write_shards(run: Run, shards: str, rows: int = 20) -> None:
    for shard in shards:
        write(run, shard, [None if c == 5 else int(c) for c in RNG.integers(0, 6, rows)])


def compact(run: Run, *datasets: Dataset, rows: int = 50, order: Dataset = PROFILES, **options) -> list[Group]:
    """As the job does, without Ray."""
    compactions = [plan(run, dataset, order, **options) for dataset in datasets or [PROFILES]]
    groups = plan_groups(run, order, rows)
    for compaction in compactions:
        clear(run, compaction, groups)
        there, done = run.done(compaction.folder), run.done(compaction.dataset)
        for group in groups:
            if done.issuperset(group.shards) and compaction.file(group) not in there:
                write_compacted(run, compaction, group, lambda rows, position: None)
    commit(run, compactions, groups)
    return groups


def parts(run: Run, dataset: Dataset = PROFILES) -> list[dict]:
    return [row for shard in sorted(run.done(dataset)) for row in run.read_part(dataset, shard).to_pylist()]


def read(run: Run, dataset: Dataset = PROFILES) -> list[dict]:
    rows = run.dataset(dataset).to_table().to_pylist()
    return sorted(rows, key=lambda row: (row["shard"], row["index"]))


def files(run: Run, dataset: Dataset = PROFILES) -> dict[str, pa.Table]:
    folder = compacted_of(dataset)
    return {name: run.read_part(folder, name) for name in sorted(run.done(folder))}


def covered(run: Run, dataset: Dataset = PROFILES) -> set[str]:
    return set().union(*run.compacted(dataset, run.done(dataset)).values())


@pytest.mark.parametrize("dataset", COLUMNS)
def test_readers_get_the_rows_of_the_parts_from_compacted_files(run, dataset) -> None:
    write_shards(run, "abcdef")
    compact(run, dataset)
    assert covered(run, dataset) == set("abcdef")
    found = run.dataset(dataset)
    assert all("compacted" in file for file in found.files)
    assert found.schema == run.part_schema(dataset, "a")
    assert read(run, dataset) == parts(run, dataset)


def test_rows_are_sorted_by_cluster_shard_and_index_and_those_without_a_cluster_are_last(run) -> None:
    write(run, "a", [3, None, 0, 3])
    write(run, "b", [])
    write(run, "c", [None, 0, 3])
    compact(run)
    (table,) = files(run).values()
    found = [(row["cluster_id"], row["shard"], row["index"]) for row in table.to_pylist()]
    assert found == [(0, "a", 4), (0, "c", 2), (3, "a", 0), (3, "a", 6), (3, "c", 4), (None, "a", 2), (None, "c", 0)]


def test_files_of_two_datasets_whose_names_begin_alike_hold_the_same_samples_row_by_row(run, monkeypatch) -> None:
    monkeypatch.setattr(compacted_file, "ROW_GROUP_ROWS", 16)
    monkeypatch.setattr(compacted_file, "CHUNK_BYTES", 2000)
    monkeypatch.setattr(compacted_file, "READERS", 1)
    write_shards(run, "abcdefg")
    compact(run, EMBEDDINGS)
    write_shards(run, "Ah")
    compact(run, PROFILES, SAMPLES)
    compact(run, EMBEDDINGS)
    names = [[name.partition("-")[0] for name in files(run, dataset)] for dataset in (PROFILES, EMBEDDINGS, SAMPLES)]
    assert len(names[0]) == 3
    assert names[0] == names[1] == names[2]
    for of_profiles, of_embeddings in zip(files(run).values(), files(run, EMBEDDINGS).values(), strict=True):
        keys = [column.name for column in schema.IDENTITY]
        assert of_profiles.select(keys) == of_embeddings.select(keys)
        assert of_embeddings["image_embedding"].is_null() == of_profiles["cluster_id"].is_null()
    assert read(run, EMBEDDINGS) == parts(run, EMBEDDINGS)


def test_rejects_and_runs_without_profiles_keep_the_order_of_the_shards(run) -> None:
    write_shards(run, "abc")
    compact(run, REJECTS, rows=1000)
    compact(run, SAMPLES, order=SAMPLES, rows=1000)
    for dataset in (REJECTS, SAMPLES):
        (table,) = files(run, dataset).values()
        assert table.to_pylist() == parts(run, dataset)


def test_a_query_for_one_cluster_reads_few_row_groups(local, monkeypatch) -> None:
    monkeypatch.setattr(compacted_file, "ROW_GROUP_ROWS", 50)
    for shard in "abcde":
        write(local, shard, [int(c) for c in RNG.integers(0, 100, 200)])
    compact(local, rows=1000)
    (fragment,) = local.dataset(PROFILES).get_fragments()
    assert fragment.num_row_groups == 20
    assert len(fragment.split_by_row_group(pc.field("cluster_id") == 17)) <= 2
    metadata = fragment.metadata
    keys = [(column, "ascending") for column in ("cluster_id", "shard", "index")]
    assert pq.SortingColumn.to_ordering(fragment.physical_schema, metadata.row_group(0).sorting_columns)[0] == tuple(
        keys
    )
    assert all(metadata.row_group(0).column(i).has_column_index for i in range(metadata.num_columns))


@pytest.mark.parametrize(
    ("counts", "groups"),
    [
        ([], []),
        ([0], [1]),
        ([10], [1]),
        ([100, 100], [1, 1]),
        ([60, 60, 60, 60], [2, 2]),
        ([60, 60, 49], [3]),
        ([60, 60, 50], [2, 1]),
        ([0, 100, 0, 0], [4]),
        ([30, 30, 30], [3]),
    ],
)
def test_groups_are_consecutive_shards_and_a_small_rest_joins_the_last(counts, groups) -> None:
    shards = [f"{i:02d}" for i in range(len(counts))]
    found = group_shards(dict(zip(shards, counts, strict=True)), 100)
    assert [len(group.shards) for group in found] == groups
    assert [shard for group in found for shard in group.shards] == shards
    assert sum(group.rows for group in found) == sum(counts)


def test_new_shards_touch_no_full_file_and_a_small_one_is_opened_again(local) -> None:
    write_shards(local, "cd", rows=30)
    compact(local)
    (full,) = files(local)
    before = os.stat(local.part_path(compacted_of(PROFILES), full))
    write_shards(local, "b", rows=20)
    compact(local)
    (small,) = set(files(local)) - {full}
    write_shards(local, "ae", rows=20)
    compact(local)
    assert local.compacted(PROFILES, local.done(PROFILES))[local.part_path(compacted_of(PROFILES), full)] == ["c", "d"]
    assert os.stat(local.part_path(compacted_of(PROFILES), full)) == before
    assert small not in files(local)
    assert covered(local) == set("abcde")
    assert read(local) == parts(local)


def test_readers_get_every_row_once_at_every_moment(run) -> None:
    write_shards(run, "abcd")
    compact(run)
    write_shards(run, "Ae", rows=30)
    assert covered(run) == set("abcd")
    assert read(run) == parts(run)
    compaction, groups = plan(run, PROFILES, PROFILES), plan_groups(run, PROFILES, 50)
    for group in groups:
        write_compacted(run, compaction, group, lambda rows, position: None)
        assert read(run) == parts(run)
    commit(run, [compaction], groups)
    assert read(run) == parts(run)
    assert covered(run) == set("Aabcde")
    forget(run, PROFILES)
    assert read(run) == parts(run)
    assert not covered(run)


@pytest.mark.parametrize("lost", ["file", "part"])
def test_without_a_listed_file_or_one_of_its_parts_the_parts_are_read(run, lost) -> None:
    write_shards(run, "abcdef")
    compact(run)
    first, _ = files(run)
    of_first = set(files(run)[first]["shard"].to_pylist())
    if lost == "file":
        run.remove(compacted_of(PROFILES), f"{first}.parquet")
    else:
        run.remove(PROFILES, f"{min(of_first)}.parquet")
    assert covered(run) == set("abcdef") - of_first
    assert read(run) == parts(run)
    compact(run)
    assert covered(run) == run.done(PROFILES)
    assert read(run) == parts(run)


def test_parts_begun_anew_are_read_and_compacted_anew(run) -> None:
    write_shards(run, "abcd")
    compact(run, PROFILES, EMBEDDINGS)
    old = files(run)
    for shard in "abcd":
        run.remove(PROFILES, f"{shard}.parquet")
    for shard in "abcd":
        rows = rows_of(shard, [7] * 20)
        with run.part(PROFILES, shard, COLUMNS[PROFILES]) as part:
            part.write(rows[PROFILES])
            part.describe({"fingerprint": "second", "counts": {"rows": 20}})
        assert read(run) == parts(run)
    # Their rows are as they were, though the order is another profile's.
    assert covered(run, EMBEDDINGS) == set("abcd")
    compact(run, PROFILES, EMBEDDINGS)
    assert not set(old) & set(files(run))
    assert {row["cluster_id"] for row in read(run)} == {7}
    for dataset in (PROFILES, EMBEDDINGS):
        assert covered(run, dataset) == set("abcd")
        assert read(run, dataset) == parts(run, dataset)


def test_what_a_killed_compaction_made_is_kept_if_it_is_still_planned(local) -> None:
    write_shards(local, "abcdef")
    compaction, groups = plan(local, PROFILES, PROFILES), plan_groups(local, PROFILES, 50)
    write_compacted(local, compaction, groups[0], lambda rows, position: None)
    path = Path(local.part_path(compaction.folder, compaction.file(groups[0])))
    before = path.stat()
    assert not covered(local)
    compact(local)
    assert path.stat() == before
    assert covered(local) == set("abcdef")


def test_what_a_killed_compaction_made_is_removed_if_it_is_planned_no_more(run) -> None:
    write_shards(run, "abc")
    compaction, groups = plan(run, PROFILES, PROFILES), plan_groups(run, PROFILES, 20)
    write_compacted(run, compaction, groups[0], lambda rows, position: None)
    clear(run, compaction, groups)
    assert set(files(run)) == {compaction.file(groups[0])}
    clear(run, compaction, plan_groups(run, PROFILES, 60))
    assert files(run) == {}
    compact(run)
    clear(run, compaction, [])
    assert covered(run) == set("abc")


def test_a_file_stays_in_use_until_the_one_that_replaces_it_is_there(run) -> None:
    write_shards(run, "a")
    compact(run)
    write_shards(run, "b")
    compaction, groups = plan(run, PROFILES, PROFILES), plan_groups(run, PROFILES, 50)
    assert [group.shards for group in groups] == [("a", "b")]
    commit(run, [compaction], groups)
    assert covered(run) == {"a"}


def test_a_dataset_that_lacks_parts_is_compacted_where_it_has_them(run) -> None:
    write_shards(run, "abcdef")
    run.remove(EMBEDDINGS, "f.parquet")
    compact(run, PROFILES, EMBEDDINGS)
    assert covered(run, EMBEDDINGS) == set("abc")
    assert read(run, EMBEDDINGS) == parts(run, EMBEDDINGS)


def test_other_settings_are_refused(run) -> None:
    write_shards(run, "abc")
    compact(run, EMBEDDINGS)
    check_same_settings(run, plan(run, EMBEDDINGS, PROFILES))
    with pytest.raises(RunError, match=r"was made with float32 = False, now it is True; ask .* --anew"):
        check_same_settings(run, plan(run, EMBEDDINGS, PROFILES, float32=True))
    with pytest.raises(RunError, match=r"was made with order = 'profiles/main', now it is 'samples'"):
        check_same_settings(run, plan(run, EMBEDDINGS, SAMPLES))
    forget(run, EMBEDDINGS)
    check_same_settings(run, plan(run, EMBEDDINGS, PROFILES, float32=True))


def test_float32_widens_vectors_and_readers_still_get_the_types_of_the_parts(local) -> None:
    write_shards(local, "abc")
    compact(local, PROFILES, EMBEDDINGS, float32=True)
    write_shards(local, "d")
    (stored,) = files(local, EMBEDDINGS).values()
    assert stored["image_embedding"].type.value_type == pa.float32()
    assert plan(local, PROFILES, PROFILES, float32=True) == plan(local, PROFILES, PROFILES)
    assert local.dataset(EMBEDDINGS).schema == local.part_schema(EMBEDDINGS, "a")
    assert read(local, EMBEDDINGS) == parts(local, EMBEDDINGS)


@pytest.mark.parametrize("float32", [False, True])
def test_duckdb_reads_compacted_vectors(local, float32) -> None:
    write_shards(local, "abc")
    compact(local, EMBEDDINGS, float32=float32)
    (path,) = local.compacted(EMBEDDINGS, local.done(EMBEDDINGS))
    found = duckdb.read_parquet(path).order("shard, index").project("image_embedding").fetchall()
    expected = [row["image_embedding"] for row in parts(local, EMBEDDINGS)]
    assert [vector and list(vector) for (vector,) in found] == expected


def test_long_rows_come_in_small_row_groups(local, monkeypatch) -> None:
    monkeypatch.setattr(compacted_file, "ROW_GROUP_BYTES", 1000)
    write_shards(local, "abc")
    compact(local)
    (fragment,) = local.dataset(PROFILES).get_fragments()
    assert fragment.num_row_groups > 1
    assert read(local) == parts(local)


def test_too_little_memory_is_told_before_it_ends_and_fewer_rows_help(run, monkeypatch) -> None:
    write_shards(run, "abcdefghijklmnopqr")
    with monkeypatch.context() as patch:
        patch.setattr(compacted_file, "available_memory", lambda: 10_000)
        with pytest.raises(MemoryError, match=r"A file of 360 rows of profiles/main needs .* lower --rows"):
            compact(run, rows=360)
    assert len(compact(run, rows=40)) == 9
    assert read(run) == parts(run)


def damage(run: Run) -> None:
    run.write_bytes(b"PAR1 damaged PAR1", EMBEDDINGS, "b.parquet")


def drop_a_row(run: Run) -> None:
    with run.part(EMBEDDINGS, "b", COLUMNS[EMBEDDINGS]) as part:
        part.write(rows_of("b", range(19))[EMBEDDINGS])
        part.describe({"fingerprint": "first"})


def change_settings(run: Run) -> None:
    with run.part(EMBEDDINGS, "b", COLUMNS[EMBEDDINGS]) as part:
        part.describe({"fingerprint": "second"})


def change_columns(run: Run) -> None:
    with run.part(EMBEDDINGS, "b", schema.embeddings(5)) as part:
        part.write(rows_of("b", [None] * 20)[EMBEDDINGS])
        part.describe({"fingerprint": "first"})


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (damage, r"embeddings/main/b\.parquet is damaged"),
        (drop_a_row, r"Shard b: its parts of embeddings/main and profiles/main hold different samples"),
        (change_settings, r"embeddings/main/b\.parquet was made under other settings than embeddings/main"),
        (change_columns, r"embeddings/main/b\.parquet has other columns than other parts"),
    ],
)
def test_a_part_that_does_not_fit_is_named_and_nothing_is_written(run, spoil, sentence) -> None:
    write_shards(run, "abc")
    spoil(run)
    with pytest.raises(RunError, match=sentence):
        compact(run, EMBEDDINGS)
    assert files(run, EMBEDDINGS) == {}


def test_what_is_not_there_is_named(run) -> None:
    with pytest.raises(RunError, match="has no profiles/main yet"):
        compact(run)
    write(run, "a", [])
    write(run, "b", [])
    compact(run, PROFILES, EMBEDDINGS, REJECTS)
    assert covered(run) == {"a", "b"}
    assert run.dataset(PROFILES).count_rows() == 0


def test_table1_is_the_same(local) -> None:
    draw_parts(local, parts=6, part_rows=30)
    expected = table1(local.dataset(PROFILES))
    compact(local, rows=50)
    assert all("compacted" in file for file in local.dataset(PROFILES).files)
    assert vars(table1(local.dataset(PROFILES))) == pytest.approx(vars(expected), rel=1e-12)


def test_on_object_storage() -> None:
    with s3_server():
        run = Run("s3://bucket/run")
        write_shards(run, "abc")
        compact(run, PROFILES, EMBEDDINGS)
        write_shards(run, "d")
        compact(run)
        for dataset in (PROFILES, EMBEDDINGS):
            assert read(run, dataset) == parts(run, dataset)
        assert (covered(run), covered(run, EMBEDDINGS)) == (set("abcd"), set("abc"))


def test_bits_flipped_in_a_compacted_file_are_noticed(local) -> None:
    write_shards(local, "abc", rows=500)
    compact(local, rows=1500)
    (path,) = map(Path, local.compacted(PROFILES, local.done(PROFILES)))
    data = bytearray(path.read_bytes())
    place = data.index(b"\x28\xb5\x2f\xfd") + 20
    data[place] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(OSError, match="CRC checksum verification failed"):
        read(local)
