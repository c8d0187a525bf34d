"""Draws embeddings as others write them: clip-retrieval's folders, and DataComp's pairs of files."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

DIM = 8


def vectors(n: int, seed: int = 0, dim: int = DIM) -> np.ndarray:
    """(n, dim) float32 unit rows."""
    drawn = np.random.default_rng(seed).standard_normal((n, dim))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


@dataclass
class Foreign:
    """Rows of an import, in their order there."""

    keys: list[str]
    captions: list[str | None]
    image: np.ndarray
    text: np.ndarray | None = None
    columns: dict[str, Sequence[Any]] = field(default_factory=dict)

    def take(self, order: Sequence[int]) -> "Foreign":
        """The rows of these numbers, in this order; a number that comes again is a row that does."""
        return Foreign(
            [self.keys[i] for i in order],
            [self.captions[i] for i in order],
            self.image[order],
            None if self.text is None else self.text[order],
            {name: [values[i] for i in order] for name, values in self.columns.items()},
        )

    def write_clip_retrieval(self, folder: str, per_file: int, dtype: str = "float16") -> None:
        table = pa.table({"image_path": self.keys, "caption": self.captions, **self.columns})
        for number, start in enumerate(range(0, len(self.keys), per_file)):
            rows = slice(start, start + per_file)
            put(f"{folder}/metadata/metadata_{number:02}.parquet", parquet(table[rows]))
            put(f"{folder}/img_emb/img_emb_{number:02}.npy", npy(self.image[rows].astype(dtype)))
            if self.text is not None:
                put(f"{folder}/text_emb/text_emb_{number:02}.npy", npy(self.text[rows].astype(dtype)))

    def write_datacomp(self, folder: str, per_file: int, dtype: str = "float16") -> None:
        table = pa.table({"uid": self.keys, "text": self.captions, **self.columns})
        for number, start in enumerate(range(0, len(self.keys), per_file)):
            rows = slice(start, start + per_file)
            arrays = {"b32_img": self.image[rows].astype(dtype)}
            if self.text is not None:
                arrays["b32_txt"] = self.text[rows].astype(dtype)
            put(f"{folder}/{number:02}ab.parquet", parquet(table[rows]))
            put(f"{folder}/{number:02}ab.npz", npz(**arrays))


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def parquet(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def put(url: str, data: bytes) -> None:
    fs, path = fsspec.core.url_to_fs(url)
    fs.makedirs(path.rpartition("/")[0], exist_ok=True)
    fs.pipe_file(path, data)
