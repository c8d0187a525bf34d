import hashlib
import io
import json
import tarfile
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.demo.shards import TRUTH, DemoTruth, draw_demo
from pipeline.schema import RejectReason


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoTruth:
    return draw_demo(tmp_path_factory.mktemp("demo"), shards=2, samples_per_shard=20, seed=3)


def members(shard: Path) -> dict[str, bytes]:
    with tarfile.open(shard) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


def test_the_same_seed_writes_the_same_bytes(demo: DemoTruth, tmp_path: Path) -> None:
    again = draw_demo(tmp_path, shards=2, samples_per_shard=20, seed=3)
    for name in [*(shard.name for shard in demo.shards), "truth.parquet", "hostile.json"]:
        first, second = (folder / name for folder in (demo.truth.parent, tmp_path))
        assert hashlib.sha256(first.read_bytes()).digest() == hashlib.sha256(second.read_bytes()).digest(), name
    assert again.sound_samples == demo.sound_samples


def test_every_sound_sample_is_in_its_shard_with_its_caption_and_size(demo: DemoTruth) -> None:
    truth = pq.read_table(demo.truth)
    assert truth.schema.equals(TRUTH)
    assert len(truth) == demo.sound_samples == 40
    files = {shard.name: members(shard) for shard in demo.shards}
    for row in truth.to_pylist():
        held = {
            name.partition(".")[2]: data for name, data in files[row["file"]].items() if name.startswith(row["key"])
        }
        assert held["txt"].decode() == row["caption"] == json.loads(held["json"])["caption"]
        image = held[next(extension for extension in ("jpg", "png", "webp") if extension in held)]
        assert sorted(Image.open(io.BytesIO(image)).size) == sorted((row["width"], row["height"]))
        for word in row["words"]:
            assert len(word["polygon"]) == 4
            assert all(0 <= p["x"] < row["width"] and 0 <= p["y"] < row["height"] for p in word["polygon"])


def test_hostile_samples_are_named_with_their_reason(demo: DemoTruth) -> None:
    hostile = json.loads(demo.hostile.read_text())
    assert len(hostile) == demo.hostile_samples
    assert Counter(entry["reason"] for entry in hostile) == {
        RejectReason.UNDECODABLE_IMAGE: 3,
        RejectReason.DECOMPRESSION_BOMB: 1,
        RejectReason.ABSURD_SIZE: 1,
        RejectReason.MISSING_CAPTION: 2,
        RejectReason.CAPTION_NOT_UTF8: 1,
        RejectReason.BAD_JSON: 1,
        RejectReason.HALF_SAMPLE: 1,
        RejectReason.DUPLICATE_KEY: 1,
    }
    sound = {(row["file"], row["key"]) for row in pq.read_table(demo.truth, columns=["file", "key"]).to_pylist()}
    duplicates = [entry for entry in hostile if (entry["file"], entry["key"]) in sound]
    assert [entry["reason"] for entry in duplicates] == [RejectReason.DUPLICATE_KEY]


def test_the_archives_hold_nothing_else(demo: DemoTruth) -> None:
    for shard in demo.shards:
        with tarfile.open(shard) as tar:
            keys = [member.name.partition(".")[0] for member in tar]
        groups = 1 + sum(previous != key for previous, key in pairwise(keys))
        rows = pq.read_table(demo.truth, filters=[("file", "==", shard.name)]).num_rows
        spoilt = sum(entry["file"] == shard.name for entry in json.loads(demo.hostile.read_text()))
        assert groups == rows + spoilt
        assert shard.read_bytes()[-1024:] == bytes(1024)


def test_too_few_samples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 12"):
        draw_demo(tmp_path / "demo", shards=1, samples_per_shard=5)
    assert not (tmp_path / "demo").exists()
