"""Queries of profiles: many small parts beside the compacted file of the same rows."""

import random
import string
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pipeline import schema
from pipeline.compacted_file import write_compacted
from pipeline.compaction import ROWS, commit, plan, plan_groups
from pipeline.config import DEFAULT_METADATA
from pipeline.datasets import Dataset
from pipeline.run import Run
from pipeline.tables import table1
from pipeline.tables.published import LAION_2B
from tests.benchmarks.figure import Figure, paired

PARTS, PART_ROWS = 2_000, 100
CLUSTERS = 4_000
PROFILES = Dataset("profiles", "main")
COLUMNS = (*schema.PROFILES, *schema.metadata_columns(DEFAULT_METADATA))
ONE_CLUSTER = "SELECT count(*), max(clip_score), max(cotr), max(caption) FROM read_parquet(?) WHERE cluster_id = 17"
EACH_CLUSTER = "SELECT cluster_id, max(clip_score), max(cotr) FROM read_parquet(?) GROUP BY ALL ORDER BY ALL"

Numbers = npt.NDArray[np.int64]


def measure(parts: int = PARTS, part_rows: int = PART_ROWS) -> Iterator[Figure]:
    """Seconds of some queries, after a check that both ways give the same."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(folder)
        draw_parts(run, parts, part_rows)
        small = run.dataset(PROFILES)
        start = time.perf_counter()
        compact_profiles(run)
        seconds = time.perf_counter() - start
        large = run.dataset(PROFILES)
        what = f"{parts:,} parts of {part_rows:,} profiles"
        yield Figure(
            f"compaction of {what}, one process",
            f"{parts * part_rows / seconds:,.0f} rows/s",
            f"{_bytes(large) / _bytes(small):.2f} of the bytes",
        )
        queries: dict[str, Callable[[ds.Dataset], object]] = {
            "Table 1": lambda profiles: table1.rows(table1.table1(profiles)),
            "SQL for one cluster": partial(sql, ONE_CLUSTER),
            "SQL for the best score of each cluster": partial(sql, EACH_CLUSTER),
        }
        for name, query in queries.items():
            if query(small) != query(large):
                raise AssertionError(f"{name}: the compacted files give another result")
            slow, fast = paired(partial(query, small), partial(query, large), rounds=3)
            yield Figure(
                f"{name} over {what}, and compacted",
                f"{slow:.3f} s, {fast:.3f} s",
                f"{slow / fast:.0f} times as fast compacted",
            )


def sql(query: str, profiles: ds.Dataset) -> object:
    """As a user asks DuckDB: of the files."""
    with duckdb.connect(":memory:") as connection:
        return connection.execute(query, [profiles.files]).fetchall()


def compact_profiles(run: Run) -> None:
    """As `parrotscope compact RUN` does, in this process."""
    compaction, groups = plan(run, PROFILES, PROFILES), plan_groups(run, PROFILES, ROWS)
    for group in groups:
        write_compacted(run, compaction, group, lambda rows, position: None)
    commit(run, [compaction], groups)


def draw_parts(run: Run, parts: int, part_rows: int) -> None:
    """Profiles with as much text in images and captions as LAION-2B has."""
    rows = draw_profiles(parts, part_rows)
    for number in range(parts):
        with run.part(PROFILES, f"{number:05d}", COLUMNS) as part:
            part.write(rows.slice(number * part_rows, part_rows))
            part.describe({"fingerprint": "drawn", "counts": {"rows": part_rows}})


def draw_profiles(parts: int, part_rows: int, first: int = 0) -> pa.Table:
    """The rows of parts from the `first` on, one after the other; kept metadata that is not drawn is null."""
    rng, rows, vocabulary = np.random.default_rng(first), parts * part_rows, _vocabulary()
    shard, index = np.divmod(np.arange(first * part_rows, first * part_rows + rows), part_rows)
    captions = rng.integers(3, 20, rows)
    kind = rng.random(rows)
    copied = np.where(kind < LAION_2B.co_emb_share, np.minimum(rng.integers(1, 8, rows), captions), 0)
    spotted = np.where(kind < LAION_2B.text_share, copied + rng.integers(1, 8, rows), 0)
    caption_words = _words(captions, rng, vocabulary)
    drawn: dict[str, object] = {
        "shard": [f"{number:05d}" for number in shard],
        "index": index,
        "key": [f"{number:09d}" for number in index],
        "uid": [rng.bytes(16).hex() for _ in range(rows)],
        "url": [f"https://{rng.bytes(6).hex()}.example/{rng.bytes(12).hex()}.jpg" for _ in range(rows)],
        "caption": pc.binary_join(caption_words, " "),
        "width": rng.integers(256, 1025, rows),
        "height": rng.integers(256, 1025, rows),
        "image_format": ["JPEG"] * rows,
        "image_offset": index * 50_000,
        "image_size": rng.integers(10_000, 50_000, rows),
        "metadata_status": ["ok"] * rows,
        "clip_status": ["ok"] * rows,
        "clip_score": rng.normal(0.3, 0.03, rows),
        "caption_truncated": np.zeros(rows, bool),
        "spot_status": ["ok"] * rows,
        "spotted": _spotted(spotted, rng, vocabulary),
        "text_class": np.where(copied > 0, "co_emb", np.where(spotted > 0, "text", "none")).tolist(),
        "text_area": np.where(spotted > 0, rng.random(rows), 0),
        "spotted_area": _lists(spotted, pa.array(rng.random(spotted.sum()))),
        "spotted_co_emb": _lists(spotted, pa.array(rng.random(spotted.sum()) < 0.5)),
        "co_emb_words": _words(copied, rng, vocabulary),
        "co_emb_area": np.where(copied > 0, rng.random(rows), 0),
        "co_emb_area_union": np.where(copied > 0, rng.random(rows), 0),
        "caption_words": caption_words,
        "word_similarity": _lists(captions, pa.array(rng.random(captions.sum()))),
        "cotr": copied / captions,
        "cotr_literal": copied / captions / 2,
        "fuzzy_cotr": np.where(spotted > 0, np.minimum(copied + 1, captions), 0) / captions,
        "caption_wordless": np.zeros(rows, bool),
        "caption_unspaced": np.zeros(rows, bool),
        "text_unspaced": np.zeros(rows, bool),
        "overlap_bounded": np.zeros(rows, bool),
        "cluster_id": rng.integers(0, CLUSTERS, rows),
        "cluster_distance": rng.random(rows),
        "NSFW": ["UNLIKELY"] * rows,
        "similarity": rng.normal(0.3, 0.03, rows),
        "punsafe": rng.random(rows),
        "pwatermark": rng.random(rows),
    }
    types = schema.arrow(COLUMNS)
    columns = {field.name: pa.array(drawn.get(field.name, [None] * rows)).cast(field.type) for field in types}
    return pa.table(columns, types)


@cache
def _vocabulary() -> pa.StringArray:
    rng, letters = random.Random(0), string.ascii_lowercase
    return pa.array(["".join(rng.choices(letters, k=rng.randint(2, 10))) for _ in range(30_000)])


def _words(counts: Numbers, rng: np.random.Generator, vocabulary: pa.StringArray) -> pa.ListArray:
    # A few words are common, as in captions.
    chosen = (len(vocabulary) * rng.random(counts.sum()) ** 3).astype(int)
    return _lists(counts, vocabulary.take(pa.array(chosen)))


def _spotted(counts: Numbers, rng: np.random.Generator, vocabulary: pa.StringArray) -> pa.ListArray:
    total = counts.sum()
    x, y = (pa.array(rng.integers(0, 1024, 4 * total)) for _ in range(2))
    points = pa.StructArray.from_arrays([x, y], ["x", "y"])
    texts = _words(counts, rng, vocabulary).flatten()
    polygons = _lists(np.full(total, 4), points)
    words = [texts, pa.array(rng.random(total)), polygons]
    return _lists(counts, pa.StructArray.from_arrays(words, ["text", "confidence", "polygon"]))


def _lists(counts: Numbers, values: pa.Array) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(np.r_[0, counts.cumsum()], pa.int32()), values)


def _bytes(profiles: ds.Dataset) -> int:
    return sum(Path(file).stat().st_size for file in profiles.files)
