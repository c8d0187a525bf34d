"""Shards with any damage: every sample group is a sample or a reject, in bounded time and memory."""

import gzip
import io
import json

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline import schema
from pipeline.config import DEFAULT_METADATA, InputLimits
from pipeline.config_file import parse
from pipeline.datasets import REJECTS, SAMPLES, spotted_of
from pipeline.extract import Extractor
from pipeline.metadata import parse_metadata, typed_metadata
from pipeline.run import Run
from pipeline.samples import IMAGE_SUFFIXES, RawSample, ReadCounts, Reject, read_samples
from pipeline.shards import list_shards
from pipeline.tar import Member, read_members
from tests.e2e.blank_spotter import BlankSpotter
from tests.fuzz import fuzz
from tests.fuzz.archives import EDITS, JSONS, Archive, damaged, edited, entries
from tests.fuzz.bounds import bounded
from tests.pipeline.shard_factory import Forward, samples, tar

LIMITS = InputLimits(max_image_bytes=100_000, max_text_bytes=200_000, max_pixels=1_000_000)
STREAMS = st.sampled_from([io.BytesIO, Forward])
ARCHIVES = st.one_of(
    st.just(tar(samples(3))),
    st.lists(entries(), max_size=8).map(lambda found: b"".join(entry.raw for entry in found) + bytes(1024)),
)


def read(data: bytes, stream=io.BytesIO) -> tuple[list[RawSample | Reject], ReadCounts]:
    counts = ReadCounts()
    with bounded(5, 64):
        return list(read_samples(stream(data), len(data), LIMITS, counts=counts)), counts


def accounted(items: list[RawSample | Reject]) -> list[RawSample | Reject]:
    """The items that are sample groups, each index once and in order; the others are of the archive."""
    groups = [item for item in items if item.index is not None]
    assert [item.index for item in groups] == list(range(len(groups)))
    for item in items:
        if isinstance(item, Reject):
            assert (item.key is None) == (item.index is None)
            assert item.reason in schema.RejectReason
            pa.array([item.key, item.message])  # no lone surrogate
    return groups


@fuzz(250)
@given(damaged(), STREAMS, st.booleans())
def test_groups_are_those_that_the_damage_leaves(archive: Archive, stream, compressed: bool) -> None:
    items, _ = read(gzip.compress(archive.data, 1) if compressed else archive.data, stream)
    found = accounted(items)
    groups = archive.groups()
    assert [item.key for item in found] == [key for key, _ in groups]
    for item, (_, parts) in zip(found, groups, strict=True):
        if isinstance(item, RawSample):
            assert item.image == next(data for suffix, data in parts.items() if suffix in IMAGE_SUFFIXES)
            assert archive.data[item.image_offset :][: item.image_size] == item.image
            if "txt" in parts:
                assert item.caption.encode() == parts["txt"].removeprefix(b"\xef\xbb\xbf")


@fuzz(400)
@given(ARCHIVES, st.lists(EDITS, min_size=1, max_size=5), STREAMS, st.booleans())
def test_no_damage_crashes_hangs_or_loses_a_member(data: bytes, edits, stream, compressed: bool) -> None:
    if compressed:
        data = gzip.compress(data, 1)
    data = edited(data, edits)
    items, counts = read(data, stream)
    accounted(items)
    members = sum(isinstance(item, Member) for item in read_members(io.BytesIO(data), len(data)))
    assert counts.members_used + counts.members_skipped + counts.members_rejected == members


JSON_VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from([2**63, -(2**63), 10**4000, 1e308, -0.0]),
        st.floats(),
        st.text(st.characters(), max_size=6),
        st.sampled_from(["5", "1e400", "nan", "٥", "\ud800", "9" * 400, " 7 ", "0x1", "True"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=8,
)
JSON_TEXTS = st.one_of(
    st.dictionaries(st.sampled_from([*DEFAULT_METADATA, "caption", "url", "uid"]), JSON_VALUES).map(
        lambda value: json.dumps(value).encode()
    ),
    st.tuples(st.sampled_from(JSONS), st.integers(0, 50), st.binary(max_size=4)).map(
        lambda edit: edit[0][: edit[1]] + edit[2] + edit[0][edit[1] :]
    ),
    st.binary(max_size=40),
)


@fuzz(400)
@given(JSON_TEXTS)
@example(b'{"a":' * 100_000)
@example(b"[" * 100_000)
@example(b'{"hash": ' + b"1" * 400_000 + b"}")
@example(b'{"caption": "' + b"\\ud800" * 60_000 + b'"}')
def test_no_json_breaks_a_row(text: bytes) -> None:
    with bounded(5, 512):
        metadata, status = parse_metadata(text)
        values, _ = typed_metadata(metadata, {"url": "string", **DEFAULT_METADATA})
        columns = schema.metadata_columns({"url": "string", **DEFAULT_METADATA})
        table = pa.Table.from_pylist([values], schema.arrow(columns))
    assert table.num_rows == 1
    assert isinstance(metadata, dict)
    assert status in schema.MetadataStatus


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@fuzz(100)
@given(
    st.one_of(
        damaged().map(lambda archive: archive.data),
        st.builds(edited, ARCHIVES, st.lists(EDITS, max_size=4)),
    )
)
def test_parts_of_any_shard_agree(folder, data: bytes) -> None:
    (folder / "a.tar").write_bytes(data)
    config = parse(
        {
            "run": str(folder / "run"),
            "input": {"shards": str(folder / "a.tar"), "limits": LIMITS.model_dump()},
            "clip": {"batch_size": 3},
            "spotting": {"engine": "custom", "target": "tests.e2e.blank_spotter:BlankSpotter"},
        }
    )
    run, (shard,) = Run(config.run), list_shards(config.input.shards)
    reported = [0, 0]

    def report(rows: int, rejects: int, position: int, after: int) -> None:
        reported[0] += rows
        reported[1] += rejects
        assert 0 <= position <= len(data)

    lacking = [SAMPLES, spotted_of(config)]
    with bounded(10, 512):
        counts = Extractor(config, None, BlankSpotter(1, "cpu")).extract(run, shard, lacking, report)
    rows, rejects = run.read_part(SAMPLES, "a"), run.read_part(REJECTS, "a")
    groups = accounted(read(data)[0])
    indexes = [*rows["index"].to_pylist(), *rejects["index"].drop_null().to_pylist()]
    assert sorted(indexes) == list(range(len(groups)))
    assert run.read_part(spotted_of(config), "a")["uid"].equals(rows["uid"])
    assert [counts["rows"], counts["rejects"]] == [rows.num_rows, rejects.num_rows] == reported
