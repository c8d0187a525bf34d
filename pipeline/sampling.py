"""The sample of embeddings that a clustering is fitted to: those of the smallest hashes of their uids.

A hash depends on the uid alone, so a run gives the same sample in whatever order its shards are read.
"""

from binascii import unhexlify
from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import schema
from pipeline.vectors import Floats, to_matrix

Hashes: TypeAlias = npt.NDArray[np.uint64]

_HASH = "hash"
_ORDER = (_HASH, schema.UID.name, schema.SHARD.name, schema.INDEX.name)


def sample_hash(uids: pa.StringArray | pa.ChunkedArray) -> Hashes:
    """Evenly spread uint64, shape (n,), of uids of 32 hex digits; the same on every machine.

    Raises ValueError where a uid is no 128-bit hex number.
    """
    array = uids.combine_chunks() if isinstance(uids, pa.ChunkedArray) else uids
    digits = array.cast(pa.binary()).cast(pa.binary(32))
    if not len(digits):
        return np.empty(0, dtype=np.uint64)
    text = memoryview(digits.buffers()[1])[32 * digits.offset :][: 32 * len(digits)]
    high, low = np.frombuffer(unhexlify(text), dtype=">u8").astype(np.uint64).reshape(-1, 2).T
    return _splitmix64(high ^ _splitmix64(low))


def _splitmix64(state: Hashes) -> Hashes:
    """What the splitmix64 generator (Steele, Lea and Flood, 2014) gives from each state."""
    z = state + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def sampling_threshold(uids: Iterable[pa.StringArray | pa.ChunkedArray], size: int) -> np.uint64:
    """First pass: the `size`-th smallest hash of all uids; the largest uint64 if there are fewer.

    Memory: 3 `size` hashes and one batch.
    """
    threshold = np.uint64(np.iinfo(np.uint64).max)
    kept, count = [np.empty(0, dtype=np.uint64)], 0
    for batch in uids:
        hashes = sample_hash(batch)
        kept.append(hashes[hashes <= threshold])
        count += len(kept[-1])
        if count > 2 * size:
            kept, count = [np.partition(np.concatenate(kept), size - 1)[:size]], size
            threshold = kept[0].max()
    return np.partition(np.concatenate(kept), size - 1)[size - 1] if count >= size else threshold


def draw_sample(batches: Iterable[pa.Table], size: int, threshold: np.uint64) -> Floats:
    """Second pass: the image embeddings of the `size` samples of the smallest hashes, as stored, (<= size, d).

    Rows are sorted by (hash, uid, shard, index). `batches` have the columns uid, shard, index and
    image_embedding; rows without an embedding are none of the sample, and their uids should be none of the first
    pass. Memory: twice the result and one batch. Raises ValueError if there is no sample at all.
    """
    keys: list[pa.Table] = []
    embeddings: list[Floats] = []
    count = 0
    for table in batches:
        batch = table.filter(table[schema.IMAGE_EMBEDDING].is_valid())
        hashes = sample_hash(batch[schema.UID.name])
        rows = batch.append_column(_HASH, pa.array(hashes)).filter(pa.array(hashes <= threshold))
        if not len(rows):
            continue
        keys.append(rows.select(_ORDER))
        embeddings.append(to_matrix(rows[schema.IMAGE_EMBEDDING]))
        count += len(rows)
        if count > 2 * size:  # uids that repeat, as DataComp's may
            keys, embeddings = _first(keys, embeddings, size)
            count = size
    if not count:
        raise ValueError("there are no embeddings to draw a sample from")
    return _first(keys, embeddings, size)[1][0]


def _first(keys: list[pa.Table], embeddings: list[Floats], size: int) -> tuple[list[pa.Table], list[Floats]]:
    """The first `size` rows in order, as one table and one array."""
    table = pa.concat_tables(keys)
    order = pc.sort_indices(table, [(name, "ascending") for name in _ORDER])[:size]
    return [table.take(order)], [np.concatenate(embeddings)[order.to_numpy()]]
