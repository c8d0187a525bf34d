"""Runs whose embeddings and spotted text are drawn: text lies along one direction, as clearly as a test wants."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import schema
from pipeline.claims import claim
from pipeline.config_file import parse
from pipeline.datasets import Dataset, embeddings_of, spotted_of
from pipeline.fingerprint import digest
from pipeline.run import Run
from pipeline.vectors import to_column

DIM = 16
CLIP = {"model": "drawn", "precision": "fp32", "stored_as": "float16", "samples": "s"}
SPOTTER = {"engine": "drawn", "samples": "s"}
WORD = {"text": "word", "confidence": 1.0, "polygon": [{"x": x, "y": y} for x, y in ((0, 0), (9, 0), (9, 9))]}


def draw_run(
    folder: str,
    images: int,
    text_share: float = 0.5,
    apart: float = 3.0,
    shards: int = 4,
    missing: int = 0,
    failed: int = 0,
    clip: Mapping[str, Any] = CLIP,
    spotter: Mapping[str, Any] = SPOTTER,
) -> Run:
    """A run of `images`, dealt over shards.

    Args:
        folder: of the run.
        images: in all.
        text_share: of images with text: of one to three words.
        apart: how far images with and without text lie apart along the first coordinate, in the others' deviations.
        shards: how many.
        missing: first images of every shard that have no embedding.
        failed: last images of every shard whose spotting failed.
        clip, spotter: fingerprints.
    """
    run, config = Run(folder), parse({"run": folder, "input": {"shards": "*.tar"}})
    run.write_config(config, ())
    embeddings, spotted = embeddings_of(config), spotted_of(config)
    claim(run, config, embeddings, clip)
    claim(run, config, spotted, spotter)
    rng = np.random.default_rng(0)
    for number in range(shards):
        rows = images // shards
        words = np.where(rng.random(rows) < text_share, rng.integers(1, 4, rows), 0)
        vectors = rng.normal(size=(rows, DIM))
        vectors[:, 0] += apart * (words > 0)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        write(run, embeddings, spotted, f"{number:05d}", vectors, words, missing, failed, digest(clip), digest(spotter))
    return run


def write(
    run: Run,
    embeddings: Dataset,
    spotted: Dataset,
    shard: str,
    vectors: np.ndarray,
    words: np.ndarray,
    missing: int,
    failed: int,
    clip: str,
    spotter: str,
) -> None:
    """Both parts of a shard; `clip` and `spotter` are the fingerprints' digests."""
    rows = len(vectors)
    there, sound = np.arange(rows) >= missing, np.arange(rows) < rows - failed
    uids = [hashlib.blake2b(f"{shard} {row}".encode(), digest_size=16).hexdigest() for row in range(rows)]
    identity = {"shard": [shard] * rows, "index": range(rows), "key": [str(row) for row in range(rows)], "uid": uids}
    column = to_column(vectors, "float16", there)
    status = np.where(there, schema.ClipStatus.OK, schema.ClipStatus.MISSING)
    score, truncated = pa.array(np.full(rows, 0.2), mask=~there), pa.nulls(rows, pa.bool_())
    names = schema.arrow(schema.embeddings(vectors.shape[1])).names
    table = pa.table([*map(pa.array, identity.values()), pa.array(status), score, truncated, column, column], names)
    with run.part(embeddings, shard, schema.embeddings(vectors.shape[1])) as part:
        part.write(table)
        part.describe({"fingerprint": clip})
    found = [
        {
            **{name: values[row] for name, values in identity.items()},
            "spot_status": "ok" if sound[row] else "failed",
            "spot_message": None if sound[row] else "why",
            "spotted": [WORD] * int(words[row]) if sound[row] else None,
        }
        for row in range(rows)
    ]
    with run.part(spotted, shard, schema.SPOTTED_TEXT) as part:
        part.write(found)
        part.describe({"fingerprint": spotter})
