import random

import numpy as np
import pyarrow as pa
import pytest

from pipeline import sampling, schema
from pipeline.sampling import draw_sample, sample_hash, sampling_threshold

DIM = 4


def _splitmix64(state: int) -> int:
    mask = 2**64 - 1
    z = (state + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def _uids(n: int, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return [f"{draw.getrandbits(128):032x}" for _ in range(n)]


def _batches(uids: list[str], rows: int, stored_as: str = "float16", missing: tuple[int, ...] = ()) -> list[pa.Table]:
    """The embedding of row i is i in every dimension, to tell rows apart; rows in `missing` have none."""
    names = ("uid", "shard", "index", "image_embedding")
    fields = [f for f in schema.arrow(schema.embeddings(DIM, stored_as)) if f.name in names]
    tables = []
    for start in range(0, len(uids), rows):
        part = range(start, min(start + rows, len(uids)))
        values = {
            "shard": [f"s{start}"] * len(part),
            "index": [i - start for i in part],
            "uid": [uids[i] for i in part],
            "image_embedding": [None if i in missing else [np.float16(i)] * DIM for i in part],
        }
        tables.append(pa.table(values, pa.schema(fields)))
    return tables


def _draw(tables: list[pa.Table], size: int) -> list[float]:
    sample = draw_sample(tables, size, sampling_threshold((table["uid"] for table in tables), size))
    assert sample.dtype == np.float16
    assert sample.shape[1] == DIM
    return sample[:, 0].tolist()


def test_splitmix64_gives_the_published_sequence_of_seed_0():
    steps = np.arange(3, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    assert [hex(v) for v in sampling._splitmix64(steps)] == [
        "0xe220a8397b1dcdaf",
        "0x6e789e6aa1b965f4",
        "0x6c45d188009454f",
    ]


def test_hash_equals_a_scalar_reference_for_slices_and_chunks():
    uids = _uids(50)
    expected = [_splitmix64(int(uid[:16], 16) ^ _splitmix64(int(uid[16:], 16))) for uid in uids]
    array = pa.array(uids)
    assert sample_hash(array).tolist() == expected
    assert sample_hash(array.slice(7, 20)).tolist() == expected[7:27]
    assert sample_hash(pa.chunked_array([uids[:9], uids[9:]])).tolist() == expected
    assert sample_hash(pa.array([], pa.string())).tolist() == []


@pytest.mark.parametrize("uid", ["", "12", "g" * 32, "0" * 33, " " * 32, "0" * 31 + "é", None])
def test_a_uid_that_is_no_128_bit_number_is_refused(uid):
    with pytest.raises(ValueError):  # noqa: PT011 (Arrow's or binascii's, both are)
        sample_hash(pa.array(["0" * 32, uid], pa.string()))


def test_hashes_of_consecutive_numbers_spread_evenly():
    hashes = sample_hash(pa.array([f"{i:032x}" for i in range(16_000)]))
    counts = np.bincount((hashes >> np.uint64(60)).astype(int), minlength=16)
    assert len(set(hashes.tolist())) == 16_000
    assert np.abs(counts - 1000).max() < 150  # 5 standard deviations


@pytest.mark.parametrize("size", [1, 7, 99, 100])
def test_the_sample_is_the_rows_of_the_smallest_hashes_in_hash_order(size):
    uids = _uids(100)
    hashes = sample_hash(pa.array(uids))
    assert _draw(_batches(uids, 9), size) == np.argsort(hashes)[:size].tolist()


def test_the_sample_does_not_depend_on_the_order_of_shards():
    tables = _batches(_uids(200), 10)
    shuffled = random.Random(1).sample(tables, len(tables))
    assert _draw(tables, 31) == _draw(shuffled, 31)


def test_fewer_samples_than_asked_for_are_all_taken():
    uids = _uids(5)
    assert sampling_threshold([pa.array(uids)], 6) == 2**64 - 1
    assert sorted(_draw(_batches(uids, 2), 6)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("size", [1, 7, 80, 81])
def test_samples_without_an_embedding_are_none_of_the_sample(size):
    uids, missing = _uids(100), tuple(range(0, 100, 5))
    batches = _batches(uids, 9, "float32", missing)
    present = [i for i in range(100) if i not in missing]
    threshold = sampling_threshold([pa.array([uids[i] for i in present])], size)
    sample = draw_sample(batches, size, threshold)
    hashes = sample_hash(pa.array(uids))
    assert sample.dtype == np.float32
    assert sample[:, 0].tolist() == sorted(present, key=lambda i: hashes[i])[:size]


def test_repeated_uids_neither_exceed_the_size_nor_the_memory(monkeypatch):
    held = []
    first = sampling._first

    def counted(keys, embeddings, size):
        held.append(sum(map(len, keys)))
        return first(keys, embeddings, size)

    monkeypatch.setattr(sampling, "_first", counted)
    tables = _batches(["0" * 32] * 300, 10)
    # Equal hash and uid: by shard name, then index. "s0", "s10", "s100", "s110", ...
    assert _draw(tables[::-1], 12) == [*range(10), 10, 11]
    assert len(held) > 5
    assert max(held) <= 2 * 12 + 10


def test_no_embeddings_are_refused():
    with pytest.raises(ValueError, match="no embeddings"):
        draw_sample([], 3, np.uint64(5))
