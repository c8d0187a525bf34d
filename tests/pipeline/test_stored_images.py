"""Images in their tars: the bytes that were stored, or a reason, and never other bytes."""

import gzip
import os
import re
import uuid
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest

from pipeline.shards import Shard, list_shards
from pipeline.stored_images import Span, StoredImages, Unavailable, read_spans
from tests.pipeline.runs import write_run
from tests.pipeline.shard_factory import offsets, samples, tar
from tests.s3_server import s3_server

MEMBERS = samples(6)
ARCHIVE = tar(MEMBERS)
IMAGES = {name: data for name, data in MEMBERS if name.endswith(".jpg")}
SPANS = [Span(offsets(ARCHIVE)[name].offset_data, len(data)) for name, data in IMAGES.items()]
EXPECTED = list(IMAGES.values())


@pytest.fixture(scope="module")
def bucket():
    with s3_server():
        yield "s3://bucket"


@pytest.fixture(params=["local", "memory", "s3"])
def folder(request, tmp_path) -> str:
    if request.param == "local":
        return str(tmp_path)
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}"
    return f"{request.getfixturevalue('bucket')}/{uuid.uuid4().hex}"


def put(folder: str, data: bytes, name: str = "a.tar") -> Shard:
    with fsspec.open(f"{folder}/{name}", "wb") as file:
        file.write(data)
    (shard,) = list_shards([f"{folder}/{name}"])
    return shard


def reason(found: list[bytes | Unavailable]) -> str:
    """Of bytes that are all unavailable."""
    assert all(isinstance(one, Unavailable) for one in found)
    return found[0].reason


def test_spans_are_read_in_any_order_and_twice(folder) -> None:
    shard = put(folder, ARCHIVE)
    assert read_spans(shard, SPANS) == EXPECTED
    assert read_spans(shard, [SPANS[4], SPANS[1], SPANS[4]]) == [EXPECTED[4], EXPECTED[1], EXPECTED[4]]
    assert read_spans(shard, []) == []


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tar"])
def test_a_compressed_tar_is_inflated_whatever_its_name(folder, name) -> None:
    shard = put(folder, gzip.compress(ARCHIVE), name)
    assert read_spans(shard, SPANS) == EXPECTED
    assert read_spans(shard, [SPANS[4], SPANS[1], SPANS[4]]) == [EXPECTED[4], EXPECTED[1], EXPECTED[4]]


def test_a_shard_that_is_gone_gives_a_reason(folder) -> None:
    shard = put(folder, ARCHIVE)
    fs, path = fsspec.url_to_fs(shard.url)
    fs.rm(path)
    assert reason(read_spans(shard, SPANS)) == f"{shard.url} is not there any more"


@pytest.mark.parametrize("compressed", [False, True])
def test_a_shard_that_has_changed_gives_a_reason(folder, compressed) -> None:
    """Other pictures at the same places, of the same sizes, in a tar of the same size: the etag tells."""
    archives = [ARCHIVE, tar([(name, data[:-9] + b"other" + data[-4:]) for name, data in MEMBERS])]
    first, second = (gzip.compress(archive, 0) if compressed else archive for archive in archives)
    shard = put(folder, first)
    put(folder, second)
    if folder.startswith("memory"):  # it has no etags: only the size tells
        put(folder, second + bytes(10_240))
    assert re.search("the run has seen|bytes, .* were expected", reason(read_spans(shard, SPANS)))
    changed = put(folder, first)
    assert read_spans(changed, SPANS) == EXPECTED
    assert "the run has seen" in reason(read_spans(replace(changed, etag="other"), SPANS))


def test_a_touched_file_counts_as_changed(tmp_path) -> None:
    shard = put(str(tmp_path), ARCHIVE)
    os.utime(tmp_path / "a.tar", ns=(0, 0))
    assert "the run has seen" in reason(read_spans(shard, SPANS))


@pytest.mark.parametrize("data", [ARCHIVE, gzip.compress(ARCHIVE)])
def test_what_is_beyond_the_end_gives_a_reason(tmp_path, data) -> None:
    shard = put(str(tmp_path), data)
    found = read_spans(shard, [SPANS[0], Span(len(ARCHIVE) - 10, 20), Span(10 * len(ARCHIVE), 20)])
    assert found[0] == EXPECTED[0]
    assert "gave 10 of 20 bytes" in reason(found[1:2])
    assert "gave 0 of 20 bytes" in reason(found[2:])


def test_a_cut_gzip_gives_a_reason(tmp_path) -> None:
    data = gzip.compress(ARCHIVE)
    shard = put(str(tmp_path), data[: len(data) // 2])
    assert "bytes" in reason(read_spans(shard, SPANS[-1:]))


@pytest.mark.parametrize("url", ["nofs://x/a.tar", "/nowhere/a.tar", "http://127.0.0.1:9/a.tar", "a::b", "a\0b", ""])
def test_a_place_that_is_none_gives_a_reason(url, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert reason(read_spans(Shard("a", url, 1, None), SPANS))


def test_only_the_images_are_read(tmp_path, monkeypatch) -> None:
    shard = put(str(tmp_path), ARCHIVE)
    read = []
    fs = fsspec.filesystem("file")
    cat_file = type(fs).cat_file

    def counted(self, path, start=None, end=None, **options):
        read.append(end - start)
        return cat_file(self, path, start, end, **options)

    monkeypatch.setattr(type(fs), "cat_file", counted)
    assert read_spans(shard, SPANS[:2]) == EXPECTED[:2]
    assert sum(read) <= sum(span.size for span in SPANS[:2]) + 2
    assert Path(tmp_path, "a.tar").stat().st_size > sum(read)


def test_images_of_rows_come_in_their_order_however_many_are_fetched_together(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("pipeline.stored_images.IMAGES_AT_ONCE", 4)
    shards, rows = [], []
    for name, start in {"a": 0, "b": 100}.items():
        archive = tar(samples(6, start))
        shards.append(put(str(tmp_path), archive, f"{name}.tar"))
        images = [info for member, info in offsets(archive).items() if member.endswith(".jpg")]
        for number, info in enumerate(images, start):
            row = {"shard": name, "image_offset": info.offset_data, "image_size": info.size, "image_format": "JPEG"}
            rows.append(row | {"width": 8, "height": 6, "red": number})  # as `picture` draws it
    rows.sort(key=lambda row: (row["red"] % 100, row["shard"]))
    rows[5] |= {"width": 9}
    found = list(StoredImages(write_run(f"{tmp_path}/run", shards=shards)).of(iter(rows)))
    assert "the profile says ((6, 9), 'JPEG')" in found[5].reason
    del found[5], rows[5]
    assert [image.shape for image in found] == [(6, 8, 3)] * 11
    assert all(abs(int(image[0, 0, 0]) - row["red"]) <= 3 for image, row in zip(found, rows, strict=True))
