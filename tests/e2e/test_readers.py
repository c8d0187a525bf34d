"""DuckDB, Polars, pandas, pyarrow and Hugging Face datasets read every dataset of a run: the rows that were written."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import datasets
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from pipeline import parts, schema
from pipeline.claims import RECORD
from pipeline.datasets import REJECTS, SAMPLES, Dataset
from pipeline.run import Run
from pipeline.shards import Shard

DIM = 512
HALVES, SINGLES = "embeddings/halves/*.parquet", "embeddings/singles/*.parquet"
KEPT = schema.metadata_columns({"hash": "int64", "NSFW": "string", "similarity": "float64", "flag": "bool"})
COLUMNS = {
    SAMPLES: (*schema.SAMPLES, *KEPT),
    REJECTS: schema.REJECTS,
    Dataset("embeddings", "halves"): schema.embeddings(DIM, "float16"),
    Dataset("embeddings", "singles"): schema.embeddings(DIM, "float32"),
    Dataset("spotted", "main"): schema.SPOTTED_TEXT,
    Dataset("profiles", "main"): (*schema.PROFILES, *KEPT),
}
PARTS = {"00000": range(3), "00001": range(3, 15), "00002": range(15, 15), "00003": range(15, 65)}
"""Rows of the parts: the first has every null that is allowed, the third is empty, the last has several row groups."""

TEXTS = ("a red fish", "", "Größe 🐟👋🏽", "日本語\tline\nbreak", "'quotes' \" \\ % NULL", "nul\x00byte", "long " * 999)

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Written:
    """A run, and the rows of each of its datasets by their glob below the run."""

    root: str
    rows: Mapping[str, list[Row]]


def value(kind: pa.DataType, n: int) -> Any:
    """A value of the type, at its edges for some `n`; lists are empty for every fourth."""
    if pa.types.is_string(kind):
        return TEXTS[n % len(TEXTS)]
    if pa.types.is_boolean(kind):
        return n % 2 == 0
    if pa.types.is_integer(kind):
        edge = 1 << kind.bit_width - 1
        return (n, -edge, edge - 1, -1)[n % 4]
    if pa.types.is_floating(kind):
        info = np.finfo(kind.to_pandas_dtype())
        return float((info.dtype.type(n / 7), info.smallest_subnormal, -info.max, info.dtype.type(-1 / 3))[n % 4])
    if pa.types.is_struct(kind):
        return {field.name: value(field.type, n + i) for i, field in enumerate(kind)}
    if pa.types.is_fixed_size_list(kind):
        length = kind.list_size
    else:
        length = 3 + n % 28 if kind.value_type == schema.POINT else n % 4
    return [value(kind.value_type, n + i) for i in range(length)]


def draw(columns: Iterable[schema.Column], n: int) -> Row:
    row = {}
    for i, column in enumerate(columns, start=n):
        missing = column.nullable and (n in PARTS["00000"] or i % 3 == 0)
        row[column.name] = None if missing else value(column.type, i)
    return row


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Written:
    run = Run(str(tmp_path_factory.mktemp("readers") / "run"))
    shards = [
        Shard(name, f"s3://bucket/{name}.tar", 2**40 if numbers else None, None) for name, numbers in PARTS.items()
    ]
    run.write_shards(shards)
    listed = [{"shard": s.id, "source": s.url, "size": s.size, "etag": s.etag, "sampled": s.sampled} for s in shards]
    rows: dict[str, list[Row]] = {"shards.parquet": listed}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "ROW_GROUP_ROWS", 16)
        for dataset, columns in COLUMNS.items():
            drawn = {name: [draw(columns, n) for n in numbers] for name, numbers in PARTS.items()}
            for name, content in drawn.items():
                with run.part(dataset, name, columns) as part:
                    part.write(content)
            rows[f"{dataset}/*.parquet"] = [row for content in drawn.values() for row in content]
            # What else lies there: the dataset's record, and what a killed writer left.
            run.write_json({"fields": {}}, dataset, RECORD)
            run.write_bytes(b"half a part", dataset, ".host~1~0a.tmp")
    return Written(run.root, rows)


def assert_same(found: list[Row], expected: list[Row]) -> None:
    assert len(found) == len(expected)
    for row, truth in zip(found, expected, strict=True):
        assert list(row) == list(truth)
        for column in truth:
            assert row[column] == truth[column], column


def test_duckdb_reads_every_dataset(written) -> None:
    with duckdb.connect() as db:
        for glob, rows in written.rows.items():
            db.execute(f"create or replace view data as from '{written.root}/{glob}'")
            found = db.execute("from data")
            names = [column[0] for column in found.description]
            assert_same([dict(zip(names, row, strict=True)) for row in found.fetchall()], rows)
        cosines = db.execute(
            f"select array_cosine_similarity(image_embedding::float[{DIM}], image_embedding::float[{DIM}]) "  # noqa: S608
            f"from '{written.root}/{HALVES}'"
        ).fetchall()
    present = [row["image_embedding"] is not None for row in written.rows[HALVES]]
    assert [cosine is not None for (cosine,) in cosines] == present


def test_polars_reads_every_dataset(written) -> None:
    for glob, rows in written.rows.items():
        assert_same(pl.read_parquet(f"{written.root}/{glob}").to_dicts(), rows)
        assert_same(pl.scan_parquet(f"{written.root}/{glob}").collect(engine="streaming").to_dicts(), rows)
    for glob, number in {HALVES: pl.Float16, SINGLES: pl.Float32}.items():
        stored = pl.scan_parquet(f"{written.root}/{glob}").collect_schema()
        assert stored["image_embedding"] == pl.Array(number, DIM)


def test_pandas_reads_every_dataset(written) -> None:
    """Without Arrow's types it makes floats of int64 with nulls, and rounds large ones."""
    for glob, rows in written.rows.items():
        frame = pd.read_parquet(f"{written.root}/{glob.removesuffix('/*.parquet')}", dtype_backend="pyarrow")
        columns = {name: [None if v is pd.NA else v for v in frame[name].tolist()] for name in frame}
        assert_same([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)], rows)


def test_pyarrow_reads_every_dataset(written) -> None:
    for glob, rows in written.rows.items():
        path = f"{written.root}/{glob.removesuffix('/*.parquet')}"
        assert_same(pq.read_table(path, page_checksum_verification=True).to_pylist(), rows)
        batches = pyarrow.dataset.dataset(path).to_batches(batch_size=7)
        assert_same([row for batch in batches for row in batch.to_pylist()], rows)


@pytest.mark.parametrize("streaming", [False, True])
def test_hugging_face_datasets_reads_every_dataset(written, streaming, tmp_path) -> None:
    for glob, rows in written.rows.items():
        files = f"{written.root}/{glob}"
        data = datasets.load_dataset(
            "parquet", data_files=files, split="train", streaming=streaming, cache_dir=str(tmp_path)
        )
        assert_same(list(data), rows)
        if glob in (HALVES, SINGLES):
            number = datasets.Value("float16" if glob == HALVES else "float32")
            assert data.features["image_embedding"] == datasets.List(number, length=DIM)
