"""Where in an import the row of a key lies: an index in the run, built once and mapped into every worker's memory.

Keys are found by 64 bits of their MD5, and captions compared by 32. Of two billion samples and as many rows one
key in all is likely to be taken for another, and then the caption is another.

The index takes 20 bytes a row, 24 with scores, and as many again in the temporary folder while it is sorted. A run
on remote storage has it downloaded once per node, into the temporary folder, where it may be deleted afterwards.
"""

import io
import os
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from filelock import FileLock

from pipeline.datasets import Dataset
from pipeline.fingerprint import digest
from pipeline.imported.collection import CAPTION, KEY, ROW, SCORE, Collection
from pipeline.run import Run, RunError
from pipeline.schema import VERSION, ClipStatus
from pipeline.vectors import Floats

FACTS = "index.json"
"""What the index is of. It is written last, so with it the index is there."""

CHUNK_ROWS = 1 << 22
SORT_MEMORY = "2GB"

_FILE, _HASH = "file", "hash"
_HASHES = f"""
    (md5_number({KEY}) & 18446744073709551615)::UBIGINT AS {_HASH},
    (md5_number(ltrim(coalesce({CAPTION}, ''), chr(65279))) & 4294967295)::UINTEGER AS {CAPTION}
"""
"""Of strings; a caption that is null is empty, as in img2dataset, and byte order marks do not count."""

_DOWNLOADS = 8


class Found(NamedTuple):
    """What an index knows of n samples."""

    status: npt.NDArray[np.object_]
    """(n,) `ClipStatus`: ok, missing, ambiguous or mismatch."""
    file: npt.NDArray[np.int64]
    """(n,), number of the fragment, where the status is ok."""
    row: npt.NDArray[np.int64]
    """(n,), in the fragment."""
    score: npt.NDArray[np.float32]
    """(n,), NaN where the import has none."""


def build_index(run: Run, dataset: Dataset, collection: Collection, threads: int) -> None:
    """Check an import's files and index their rows by key.

    Memory: SORT_MEMORY, one batch of keys and one chunk of the index.

    Args:
        run: where the index goes.
        dataset: folder of the index.
        collection: the import's files.
        threads: of the sort.

    Raises:
        ImportedError: as `Collection.check`, or a column cannot be read as strings or numbers.
    """
    facts = collection.check()
    run.remove(dataset, FACTS)
    run.sweep(dataset)
    scored = collection.settings.score_column is not None
    example: list[str] = []

    def rows() -> Iterator[pa.RecordBatch]:
        for number, fragment in enumerate(collection.fragments):
            for batch in collection.read_keys(fragment):
                if not example:
                    example.extend(batch[KEY].drop_null()[:1].to_pylist())
                yield batch.append_column(_FILE, pa.array(np.full(len(batch), number, np.uint32)))

    columns = {KEY: pa.string(), CAPTION: pa.string(), SCORE: pa.float32(), ROW: pa.uint32(), _FILE: pa.uint32()}
    reader = pa.RecordBatchReader.from_batches(pa.schema(columns), rows())
    bounds: list[int] = []
    with tempfile.TemporaryDirectory(prefix="parrotscope-") as scratch, duckdb.connect(":memory:") as connection:
        connection.execute("SET threads = $threads", {"threads": threads})
        connection.execute("SET memory_limit = $memory", {"memory": SORT_MEMORY})
        connection.execute("SET temp_directory = $scratch", {"scratch": scratch})
        connection.execute("SET preserve_insertion_order = false")
        found = connection.from_arrow(reader).filter(f"{KEY} IS NOT NULL")
        entries = found.project(f"{_HASHES}, {_FILE}, {ROW}, {SCORE}").order(_HASH).to_arrow_reader(CHUNK_ROWS)
        for number, chunk in enumerate(_chunks(entries)):
            bounds.append(chunk[_HASH][0].as_py())
            run.write_bytes(_packed(chunk, scored), dataset, _name(number))
    run.write_json(
        {
            "import": _identity(collection),
            "rows": sum(facts.rows),
            "rows_of_files": facts.rows,
            "dim": facts.dim,
            "captions": facts.captions,
            "scores": scored,
            "bounds": bounds,
            "key": example,
        },
        dataset,
        FACTS,
    )


class Index:
    """The index of an import, mapped into memory.

    Args:
        run: the run.
        dataset: folder of the index.
        collection: the import's files.

    Raises:
        RunError: the run has no index of these files as they are now.
    """

    def __init__(self, run: Run, dataset: Dataset, collection: Collection) -> None:
        facts = _facts(run, dataset, collection)
        if facts is None:
            raise RunError(f"{run.path(dataset)} holds no index of {collection.settings.folder}: extract again.")
        self.rows: int = facts["rows"]
        self.rows_of_files: list[int] = facts["rows_of_files"]
        self.dim: int = facts["dim"]
        self.captions: bool = facts["captions"]
        self.key: str | None = next(iter(facts["key"]), None)
        self._scores: bool = facts["scores"]
        self._bounds = np.array(facts["bounds"], np.uint64)
        chunks = len(self._bounds)
        self._folder = Path(run.path(dataset)) if run.local else _downloaded(run, dataset, facts["import"], chunks)
        self._chunks: dict[int, npt.NDArray[np.uint32]] = {}

    def find(self, keys: pa.ChunkedArray, captions: pa.ChunkedArray) -> Found:
        """What the import has of n samples, by their keys (or uids) and captions."""
        n = len(keys)
        found = Found(
            np.full(n, ClipStatus.MISSING, object), np.zeros(n, int), np.zeros(n, int), np.full(n, np.nan, np.float32)
        )
        with duckdb.connect(":memory:", config={"threads": 1}) as connection:
            samples = connection.from_arrow(pa.table({KEY: keys, CAPTION: captions}))
            hashed = samples.project(_HASHES).fetchnumpy()
        hashes, caption_hashes = np.asarray(hashed[_HASH]), np.asarray(hashed[CAPTION])
        chunks = np.searchsorted(self._bounds, hashes, side="right") - 1
        for number in np.unique(chunks[chunks >= 0]):
            mine = np.flatnonzero(chunks == number)
            self._find(int(number), mine, hashes[mine], caption_hashes[mine], found)
        return found

    def _find(
        self,
        number: int,
        samples: npt.NDArray[np.int64],
        hashes: npt.NDArray[np.uint64],
        captions: npt.NDArray[np.uint32],
        found: Found,
    ) -> None:
        """Fill in what one chunk has of the samples whose hashes lie in its bounds."""
        chunk = self._chunk(number)
        index = chunk[:2].reshape(-1).view(np.uint64)
        first, end = np.searchsorted(index, hashes), np.searchsorted(index, hashes, side="right")
        there = end > first
        samples, at = samples[there], first[there]
        found.file[samples], found.row[samples] = chunk[2][at], chunk[3][at]
        found.status[samples] = ClipStatus.OK
        if self.captions:
            found.status[samples[chunk[4][at] != captions[there]]] = ClipStatus.MISMATCH
        if self._scores:
            found.score[samples] = chunk[5].view(np.float32)[at]
        found.status[samples[(end - first)[there] > 1]] = ClipStatus.AMBIGUOUS

    def _chunk(self, number: int) -> npt.NDArray[np.uint32]:
        if number not in self._chunks:
            self._chunks[number] = np.load(self._folder / _name(number), mmap_mode="r", allow_pickle=False)
        return self._chunks[number]


def has_index(run: Run, dataset: Dataset, collection: Collection) -> bool:
    """Whether the run has an index of these files as they are now."""
    return _facts(run, dataset, collection) is not None


def _facts(run: Run, dataset: Dataset, collection: Collection) -> dict[str, Any] | None:
    facts: dict[str, Any] | None = run.read_json(dataset, FACTS)
    return facts if facts and facts["import"] == _identity(collection) else None


def _identity(collection: Collection) -> str:
    return digest({**collection.fields(), "schema_version": VERSION})


def _chunks(entries: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Entries in order, in tables of some CHUNK_ROWS; no hash is in two of them."""
    waiting: list[pa.RecordBatch] = []
    for batch in entries:
        waiting.append(batch)
        if sum(map(len, waiting)) >= CHUNK_ROWS:
            table = pa.Table.from_batches(waiting)
            hashes = table[_HASH].to_numpy()
            cut = int(np.searchsorted(hashes, hashes[-1]))
            if cut:
                yield table[:cut]
            # Two entries of a hash say that it is ambiguous, whatever their number.
            waiting = table.slice(cut, 2).to_batches()
    if waiting:
        yield pa.Table.from_batches(waiting)


def _packed(chunk: pa.Table, scored: bool) -> bytes:
    """Entries as a npy of uint32, (5 or 6, n): low and high halves of all hashes, file, row, caption and score."""
    packed = np.empty((6 if scored else 5, len(chunk)), np.uint32)
    packed[:2].reshape(-1).view(np.uint64)[:] = chunk[_HASH].to_numpy()
    for number, name in enumerate((_FILE, ROW, CAPTION), start=2):
        packed[number] = chunk[name].to_numpy()
    if scored:
        packed[5].view(np.float32)[:] = _cosines(chunk[SCORE].to_numpy())
    file = io.BytesIO()
    np.save(file, packed, allow_pickle=False)
    return file.getvalue()


def _cosines(scores: Floats) -> Floats:
    """Scores, NaN where they are null or none."""
    return np.where(np.abs(scores) <= 1, scores, np.nan)


def _name(chunk: int) -> str:
    return f"{chunk:05}.npy"


def _downloaded(run: Run, dataset: Dataset, identity: str, chunks: int) -> Path:
    """A local copy of an index, shared by the processes of this node and user."""
    own = Path(tempfile.gettempdir()) / f"parrotscope-{os.getuid()}"
    own.mkdir(mode=0o700, exist_ok=True)
    if own.lstat().st_uid != os.getuid():
        raise RunError(f"{own} belongs to another user: set TMPDIR to a folder of your own.")
    folder = own / identity
    folder.mkdir(exist_ok=True)

    def download(number: int) -> None:
        final = folder / _name(number)
        if not final.exists():
            spool = final.with_suffix(".tmp")
            run.fs.get_file(run.path(dataset, final.name), str(spool))
            spool.replace(final)

    with FileLock(folder / ".lock"), ThreadPoolExecutor(_DOWNLOADS) as downloads:
        list(downloads.map(download, range(chunks)))
    return folder
