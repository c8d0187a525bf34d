"""Embeddings of others' making: which files hold them, in the two formats that are common.

`clip-retrieval inference` writes img_emb/img_emb_N.npy, text_emb/text_emb_N.npy (unless text was off) and
metadata/metadata_N.parquet; DataComp publishes NAME.parquet and NAME.npz. Rows of one N or NAME belong together.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.config import ImportedEmbeddings
from pipeline.imported import ImportedError
from pipeline.imported.arrays import StoredArray
from pipeline.parts import is_damage
from pipeline.storage import etag_of, locate

KEY, CAPTION, SCORE, ROW = "key", "caption", "score", "row"
_KEY_TYPES = {KEY: pa.string(), CAPTION: pa.string(), SCORE: pa.float32()}

MAX_DIM = 65_536

_KEY_ROWS = 1 << 18
"""Rows of keys and captions in memory at a time."""

_REQUESTS = 16

_FOLDERS = {
    "img_emb": re.compile(r"img_emb_(\d+)\.npy"),
    "text_emb": re.compile(r"text_emb_(\d+)\.npy"),
    "metadata": re.compile(r"metadata_(\d+)\.parquet"),
}


class Fragment(NamedTuple):
    """One file of keys, and the arrays of the same rows."""

    keys: str
    image: StoredArray
    text: StoredArray | None


@dataclass(frozen=True)
class Facts:
    """What the files of a collection hold.

    Attributes:
        rows: of each fragment.
        dim: of every embedding.
        captions: there are captions to compare.
    """

    rows: list[int]
    dim: int
    captions: bool


class Collection:
    """The files of an import, listed once.

    Args:
        settings: folder, format and columns.

    Raises:
        ImportedError: the folder is not there or holds no such files, or one lacks its partner.
    """

    def __init__(self, settings: ImportedEmbeddings) -> None:
        self.settings = settings
        self.fs, root = locate(settings.folder)
        self.root = root.rstrip("/")
        self._infos: dict[str, Mapping[str, Any]] = {}
        self._versions: dict[str, list[Any]] = {}
        self.fragments = self._clip_retrieval() if settings.format == "clip-retrieval" else self._datacomp()
        if not self.fragments:
            raise ImportedError(f"{settings.folder} holds no files of the format {settings.format}.")

    def fields(self) -> dict[str, Any]:
        """What the import is, for the fingerprint: what is read of the files, and their names, sizes and etags."""
        exclude = {"folder"} if self.settings.format == "datacomp" else {"folder", "image_array", "text_array"}
        versions = json.dumps(sorted(self._versions.items()))
        return {
            **self.settings.model_dump(exclude=exclude),
            "files": hashlib.blake2b(versions.encode(), digest_size=16).hexdigest(),
        }

    def dim(self) -> int:
        """Dimensions of the first file's embeddings."""
        return _width(self.fragments[0].image)

    def check(self) -> Facts:
        """What the files hold, by their headers and footers alone.

        Raises:
            ImportedError: a column or an array is missing, numbers of rows or dimensions differ, or a file is damaged.
        """
        dim = self.dim()
        with ThreadPoolExecutor(_REQUESTS) as requests:
            found = list(requests.map(lambda fragment: self._check(fragment, dim), self.fragments))
        captions = [has for _, has in found]
        if any(captions) and not all(captions):
            lacking = self.fragments[captions.index(False)].keys
            raise ImportedError(f"{lacking} has no column {self.settings.caption_column!r}, and other files have one.")
        return Facts([rows for rows, _ in found], dim, all(captions))

    def read_keys(self, fragment: Fragment) -> Iterator[pa.RecordBatch]:
        """Key, caption and score of every row, and its number: strings, float32 and uint32.

        A column that is not asked for, or not there, is null. Memory: _KEY_ROWS rows and the pages of a row group.
        """
        settings, start = self.settings, 0
        columns = {KEY: settings.key_column, CAPTION: settings.caption_column, SCORE: settings.score_column}
        with self._parquet(fragment.keys) as file:
            names = file.schema_arrow.names
            present = {name: column for name, column in columns.items() if column is not None and column in names}
            for batch in file.iter_batches(_KEY_ROWS, columns=sorted(set(present.values()))):
                rows = range(start, start := start + batch.num_rows)
                values = {
                    name: pc.cast(batch[present[name]], kind) if name in present else pa.nulls(len(rows), kind)
                    for name, kind in _KEY_TYPES.items()
                }
                yield pa.record_batch({**values, ROW: pa.array(rows, pa.uint32())})

    def _check(self, fragment: Fragment, dim: int) -> tuple[int, bool]:
        """Rows of a fragment whose arrays have as many, and whether it has captions."""
        with self._parquet(fragment.keys) as file:
            rows, names = file.metadata.num_rows, file.schema_arrow.names
        for column in (self.settings.key_column, self.settings.score_column):
            if column is not None and column not in names:
                raise ImportedError(f"{fragment.keys} has no column {column!r}, only {', '.join(names[:20])}.")
        for array in (fragment.image, fragment.text):
            if array is not None and (width := _width(array, rows)) != dim:
                raise ImportedError(f"{array} has embeddings of {width} dimensions, and others have {dim}.")
        return rows, self.settings.caption_column in names

    @contextmanager
    def _parquet(self, path: str) -> Iterator[pq.ParquetFile]:
        with self.fs.open(path, "rb") as file:
            try:
                yield pq.ParquetFile(file)
            except (pa.ArrowException, OSError, KeyError) as error:
                if not is_damage(error):
                    raise
                raise ImportedError(f"{path} cannot be imported: {' '.join(str(error).split())[:300]}.") from None

    def _clip_retrieval(self) -> list[Fragment]:
        images, texts, keys = (
            {match[1]: path for name, path in self._list(folder).items() if (match := pattern.fullmatch(name))}
            for folder, pattern in _FOLDERS.items()
        )
        for folder, arrays in {"img_emb": images, **({"text_emb": texts} if texts else {})}.items():
            for number in sorted(keys.keys() ^ arrays.keys()):
                missing = folder if number in keys else "metadata"
                raise ImportedError(f"{keys.get(number) or arrays[number]} has no partner in {self.root}/{missing}.")
        self._use(*keys.values(), *images.values(), *texts.values())
        return [
            Fragment(keys[n], StoredArray(self.fs, images[n]), StoredArray(self.fs, texts[n]) if texts else None)
            for n in sorted(keys)
        ]

    def _datacomp(self) -> list[Fragment]:
        files = self._list("")
        keys, archives = (
            {name.removesuffix(end): path for name, path in files.items() if name.endswith(end)}
            for end in (".parquet", ".npz")
        )
        for stem in sorted(keys.keys() ^ archives.keys()):
            missing = ".npz" if stem in keys else ".parquet"
            raise ImportedError(f"{keys.get(stem) or archives[stem]} has no {stem}{missing} beside it.")
        self._use(*keys.values(), *archives.values())
        image, text = self.settings.image_array, self.settings.text_array
        return [
            Fragment(
                keys[stem],
                StoredArray(self.fs, archives[stem], image),
                StoredArray(self.fs, archives[stem], text) if text else None,
            )
            for stem in sorted(keys)
        ]

    def _list(self, folder: str) -> dict[str, str]:
        """Paths of the files in a folder, by name; none where there is no such folder."""
        path = f"{self.root}/{folder}".rstrip("/")
        self.fs.invalidate_cache(path)
        try:
            infos = {info["name"]: info for info in self.fs.ls(path, detail=True) if info["type"] != "directory"}
        except (FileNotFoundError, NotADirectoryError):
            return {}
        self._infos |= infos
        return {name.rpartition("/")[2]: name for name in infos}

    def _use(self, *paths: str) -> None:
        for path in paths:
            info = self._infos[path]
            self._versions[path.removeprefix(self.root)] = [info.get("size"), etag_of(info)]


def _width(array: StoredArray, rows: int | None = None) -> int:
    """Dimensions of the embeddings in an array, of which there should be `rows`."""
    header = array.header()
    shape = header.shape
    if header.fortran:
        raise ImportedError(f"{array} is stored by columns (Fortran order): save it by np.ascontiguousarray.")
    if len(shape) != 2 or not 0 < shape[1] <= MAX_DIM:
        raise ImportedError(f"{array} has the shape {shape}, not that of rows of embeddings.")
    if rows is not None and shape[0] != rows:
        raise ImportedError(f"{array} has {shape[0]:,} rows, and its parquet file {rows:,}.")
    return shape[1]
