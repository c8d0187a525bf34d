import gzip
import io
import itertools
import json
import tarfile
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from webdataset.tariterators import base_plus_ext, group_by_keys, tar_file_iterator

from pipeline.config import InputLimits
from pipeline.images import decode
from pipeline.metadata import typed_metadata
from pipeline.samples import RawSample, ReadCounts, Reject, read_samples
from pipeline.schema import MetadataStatus, RejectReason
from pipeline.source import ShortReadError
from pipeline.tar import Member, read_members
from tests.pipeline.shard_factory import END, FUZZ, Forward, header, offsets, picture, sample, samples, tar

R = RejectReason


def read(archive, limits=None, **options):
    """Samples by index, rejected groups as index to reason, damage as reasons."""
    limits = limits or InputLimits()
    good, rejected, damage = {}, {}, []
    for item in read_samples(io.BytesIO(archive), len(archive), limits, **options):
        if isinstance(item, RawSample):
            assert item.index not in good
            good[item.index] = item
        elif item.index is None:
            damage.append(item.reason)
        else:
            assert item.index not in rejected
            rejected[item.index] = item.reason
    return good, rejected, damage


def outcome(members, **options):
    """What becomes of a sound archive's only group: a sample or a reject's reason."""
    good, rejected, damage = read(tar(members), **options)
    assert damage == []
    (only,) = [*good.values(), *rejected.values()]
    return only


IMAGE = picture()


def with_webdataset(archive):
    files = tar_file_iterator(io.BytesIO(archive))
    return list(group_by_keys({**file, "__url__": ""} for file in files))


def assert_parity(archive):
    """webdataset finds the same samples, with the same bytes."""
    ours, rejected, damage = read(archive)
    theirs = with_webdataset(archive)
    assert (rejected, damage) == ({}, [])
    assert [one.key for one in ours.values()] == [other["__key__"] for other in theirs]
    for one, other in zip(ours.values(), theirs, strict=True):
        image = next(other[suffix] for suffix in ("jpg", "jpeg", "png", "webp") if suffix in other)
        assert one.image == image
        assert archive[one.image_offset : one.image_offset + one.image_size] == image
        assert one.caption.encode() == other["txt"]
        assert one.metadata == json.loads(other["json"])


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_reads_what_webdataset_reads(kind):
    plain = samples(5)
    foreign = [(f"{'ordner' * 15}é/{'x' * 60}{name}", data) for name, data in samples(3)]
    assert_parity(tar(plain + foreign, kind))


def test_real_shards_are_whole_and_every_image_decodes(shared_data):
    count = 0
    limits = InputLimits()
    shards = sorted((shared_data / "real").glob("*.tar"))
    for path in shards:
        with path.open("rb") as stream:
            for item in read_samples(stream, path.stat().st_size, limits):
                assert isinstance(item, RawSample)
                image = decode(item.image, limits.max_pixels, limits.max_side)
                # The json has the sides of the stored image, before its EXIF orientation.
                sides = {item.metadata["height"], item.metadata["width"]}
                assert set(image.pixels.shape[:2]) == sides
                count += 1
    assert count == 1469
    assert_parity(shards[0].read_bytes())


def test_real_shards_without_captions(shared_data):
    reasons = []
    for path in sorted((shared_data / "no-caption").glob("*.tar")):
        good, rejected, damage = read(path.read_bytes())
        assert (good, damage) == ({}, [])
        reasons += rejected.values()
    assert reasons == [R.MISSING_CAPTION] * 11


def test_members_webdataset_ignores_are_skipped():
    ignored = [("._000000000.jpg", b"x"), ("README", b"x"), ("__meta__", b"x"), ("__meta__/a.jpg", b"x")]
    counts = ReadCounts()
    good, rejected, _ = read(tar([*ignored, ("d/._a.jpg", b"x"), *sample(0)]), counts=counts)
    assert [one.key for one in good.values()] == ["000000000"]
    assert rejected == {}
    assert counts.members_skipped == 5


def test_suffixes_in_capitals_and_further_images():
    members = [
        ("A.JPG", IMAGE),
        ("A.png", b"other"),
        ("A.seg.png", b"x"),
        ("A.TXT", b"caption"),
        ("A.npy", b""),
    ]
    counts = ReadCounts()
    good, _, _ = read(tar(members), counts=counts)
    assert (good[0].key, good[0].image, good[0].caption) == ("A", IMAGE, "caption")
    assert asdict(counts) == {
        "members_used": 2,
        "members_skipped": 3,
        "members_rejected": 0,
        "bytes_used": len(IMAGE) + 7,
    }


def test_first_image_in_tar_order_is_used():
    assert outcome([("a.png", b"first"), ("a.jpg", b"second"), ("a.txt", b"")]).image == b"first"


@pytest.mark.parametrize(
    ("txt", "caption"),
    [
        (b"", ""),
        (b" two \r\n lines\n", " two \r\n lines\n"),
        ("﻿with a byte order mark".encode(), "with a byte order mark"),
        ("日本 🎉".encode(), "日本 🎉"),
        (b"caf\xe9", R.CAPTION_NOT_UTF8),
        (b"\xed\xa0\x80", R.CAPTION_NOT_UTF8),
    ],
)
def test_caption_of_txt_as_it_stands(txt, caption):
    result = outcome([("a.jpg", IMAGE), ("a.txt", txt), ("a.json", b'{"caption": "of json"}')])
    assert getattr(result, "caption", result) == caption


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        (b'{"caption": "of json"}', "of json"),
        (b'{"caption": ""}', ""),
        (b'\xef\xbb\xbf{"caption": "x"}', "x"),
        (b'{"caption": "a", "caption": "b"}', "b"),
        (b'{"caption": "x", "score": NaN}', "x"),
        (b'{"caption": "\\ud83c\\udf89"}', "🎉"),
        (b'{"caption": "\\ud83c"}', R.CAPTION_NOT_UTF8),
        (b'{"caption": null}', R.MISSING_CAPTION),
        (b'{"caption": 5}', R.MISSING_CAPTION),
        (b"{}", R.MISSING_CAPTION),
        (b"[1]", R.BAD_JSON),
        (b"", R.BAD_JSON),
        (b'{"caption": "cut', R.BAD_JSON),
        (b'{"caption": "\xff"}', R.BAD_JSON),
        ('{"caption": "x"}'.encode("utf-16"), R.BAD_JSON),
        (b"[" * 100_000, R.BAD_JSON),
        (b'{"caption": ' + b"[" * 1_000_000, R.BAD_JSON),
        (b'{"caption": "x", "n": ' + b"9" * 1_000_000 + b"}", R.BAD_JSON),
    ],
)
def test_caption_of_json_where_there_is_no_txt(text, caption):
    result = outcome([("a.jpg", IMAGE), ("a.json", text)])
    assert getattr(result, "caption", result) == caption


def test_caption_key_names_another_field():
    text = b'{"caption": "x", "alt": "y"}'
    assert outcome([("a.jpg", IMAGE), ("a.json", text)], caption_key="alt").caption == "y"


@pytest.mark.parametrize("text", [b"{", b"[]", b"[" * 100_000, b'{"n": ' + b"1" * 10_000 + b"}"])
def test_bad_json_beside_a_txt_keeps_the_sample(text):
    result = outcome([("a.jpg", IMAGE), ("a.txt", b"caption"), ("a.json", text)])
    assert (result.caption, result.metadata, result.metadata_status) == (
        "caption",
        {},
        MetadataStatus.INVALID,
    )


def test_no_json_is_absent_metadata():
    assert outcome([("a.jpg", IMAGE), ("a.txt", b"")]).metadata_status is MetadataStatus.ABSENT


def test_groups_without_an_image_or_a_caption():
    good, rejected, _ = read(tar([("a.txt", b""), ("a.json", b"{}"), ("b.jpg", IMAGE), ("c.npy", b"")]))
    assert good == {}
    assert rejected == {0: R.HALF_SAMPLE, 1: R.MISSING_CAPTION, 2: R.HALF_SAMPLE}


def test_the_reject_says_what_was_there_and_where():
    archive = tar([*sample(0), ("a.txt", b""), ("a.json", b"{}")])
    *_, reject = read_samples(io.BytesIO(archive), len(archive), InputLimits())
    where = offsets(archive)["a.txt"].offset_data
    assert reject == Reject(1, "a", R.HALF_SAMPLE, "no image, only txt, json", where)


def test_duplicate_keys_adjacent_and_later():
    adjacent = [("a.jpg", IMAGE), ("a.txt", b"first"), ("a.jpg", b"x"), ("a.txt", b"second")]
    later = [*sample(1), ("a.jpg", b"y"), ("a.txt", b"third"), *sample(2)]
    good, rejected, damage = read(tar(adjacent + later))
    assert {index: one.caption for index, one in good.items()} == {
        0: "first",
        2: "caption 1",
        4: "caption 2",
    }
    assert rejected == {1: R.DUPLICATE_KEY, 3: R.DUPLICATE_KEY}
    assert damage == []


def test_members_over_their_limit_are_not_read():
    limits = InputLimits(max_image_bytes=100, max_text_bytes=50)
    big, small = bytes(101), bytes(100)
    archive = tar(
        [
            *[("a.jpg", big), ("a.txt", b"")],
            *[("b.jpg", small), ("b.txt", b"x" * 51)],
            *[("c.jpg", small), ("c.json", b'{"caption": "x"}' + b" " * 50)],
            *[("d.jpg", small), ("d.json", b" " * 51), ("d.txt", b"kept")],
        ]
    )
    good, rejected, _ = read(archive, limits)
    assert rejected == dict.fromkeys(range(3), R.ABSURD_SIZE)
    assert (good[3].caption, good[3].metadata_status) == ("kept", MetadataStatus.INVALID)


def test_absurd_sizes_of_headers_are_not_allocated():
    assert read(header("a.jpg", 2**80) + END) == ({}, {0: R.ABSURD_SIZE}, [R.NO_END_MARKER])


SOUND = tar(samples(4))
WHERE = offsets(SOUND)


@pytest.mark.parametrize(
    ("cut", "kept", "last"),
    [
        (WHERE["000000002.jpg"].offset, 2, None),
        (WHERE["000000002.jpg"].offset + 100, 2, None),
        (WHERE["000000002.jpg"].offset_data + 100, 2, R.TRUNCATED),
        (WHERE["000000002.txt"].offset, 2, R.TRUNCATED),
        (WHERE["000000002.txt"].offset_data + 3, 2, R.TRUNCATED),
        (WHERE["000000002.json"].offset, 3, None),
        (WHERE["000000002.json"].offset_data + 9, 2, R.TRUNCATED),
        (WHERE["000000003.jpg"].offset, 3, None),
    ],
    ids=["between samples", "header", "image", "before txt", "txt", "before json", "json", "after json"],
)
def test_cut_archive_keeps_whole_samples_and_reports_the_cut_one(cut, kept, last):
    good, rejected, damage = read(SOUND[:cut])
    assert [one.caption for one in good.values()] == [f"caption {number}" for number in range(kept)]
    assert rejected == ({} if last is None else {kept: last})
    assert damage == [R.NO_END_MARKER]


@pytest.mark.parametrize(
    ("member", "kept"),
    [("000000001.jpg", {1: R.HALF_SAMPLE}), ("000000001.txt", {}), ("000000001.json", {})],
)
def test_samples_after_a_bad_header_survive(member, kept):
    at = WHERE[member].offset
    good, rejected, damage = read(SOUND[:at] + b"\xff" + SOUND[at + 1 :])
    assert [one.key for one in good.values()][-2:] == ["000000002", "000000003"]
    assert rejected == kept
    assert len(good) + len(rejected) == 4
    assert damage == [R.BAD_HEADER]


def test_short_read_reaches_the_caller():
    with pytest.raises(ShortReadError):
        list(read_samples(Forward(SOUND[:5000]), len(SOUND), InputLimits()))


ODD = tar(
    [
        *samples(2),
        ("._x.jpg", b"x"),
        ("c.jpg", IMAGE),
        ("d.txt", b"no image"),
        *sample(1),
        ("e" * 120 + ".jpg", IMAGE),
        ("e" * 120 + ".json", b'{"caption": "x"}'),
    ],
    tarfile.PAX_FORMAT,
)
EDIT = st.tuples(
    st.integers(0, len(ODD)),
    st.sampled_from(["flip", "delete", "insert", "copy"]),
    st.integers(1, 1500),
    st.binary(min_size=1, max_size=8),
)


def mutate(data, edits):
    for at, what, length, junk in edits:
        at %= len(data) + 1
        before, after = data[:at], data[at:]
        if what == "flip":
            data = before + junk + after[len(junk) :]
        elif what == "delete":
            data = before + after[length:]
        elif what == "insert":
            data = before + (junk * length)[:length] + after
        else:
            data = before + data[:length] + after
    return data


@FUZZ
@given(st.lists(EDIT, min_size=1, max_size=4))
def test_no_mutation_of_a_compressed_shard_crashes(edits):
    archive = mutate(gzip.compress(ODD), edits)
    good, rejected, _ = read(archive)
    assert sorted([*good, *rejected]) == list(range(len(good) + len(rejected)))


@FUZZ
@given(st.lists(EDIT, min_size=1, max_size=4))
def test_no_mutation_crashes_or_loses_a_group(edits):
    archive = mutate(ODD, edits)
    names = [
        item.name if item.is_file else ""
        for item in read_members(Forward(archive, 4096), len(archive))
        if isinstance(item, Member)
    ]
    counts = ReadCounts()
    good, rejected, _ = read(archive, counts=counts)
    indexes = sorted([*good, *rejected])
    assert indexes == list(range(len(indexes)))
    assert counts.members_used + counts.members_skipped + counts.members_rejected == len(names)
    keyed = [base_plus_ext(name) for name in names if not name.rpartition("/")[2].startswith(".")]
    runs = itertools.groupby((pair for pair in keyed if pair[0] is not None), key=lambda pair: pair[0])
    groups = 0
    for _, run in runs:
        suffixes = set()
        groups += 1
        for _, suffix in run:
            if suffix.lower() in suffixes:
                suffixes = set()
                groups += 1
            suffixes.add(suffix.lower())
    assert len(indexes) == groups


NAN = float("nan")


@pytest.mark.parametrize(
    ("kind", "value", "read_as", "mismatch"),
    [
        ("int64", 5, 5, False),
        ("int64", 5.0, 5, False),
        ("int64", "5", 5, False),
        ("int64", "-5.0", -5, False),
        ("int64", -(2**63), -(2**63), False),
        ("int64", 2**63, None, True),
        ("int64", 1e300, None, True),
        ("int64", "9" * 10_000, None, True),
        ("int64", float("inf"), None, True),
        ("int64", 5.5, None, True),
        ("int64", "1_0", None, True),
        ("int64", "٥", None, True),
        ("int64", True, None, True),
        ("int64", [5], None, True),
        ("int64", NAN, None, False),
        ("int64", None, None, False),
        ("float64", 1, 1.0, False),
        ("float64", "0.25", 0.25, False),
        ("float64", "x", None, True),
        ("float64", 10**400, None, True),
        ("float64", "1e999", None, True),
        ("float64", "nan", None, False),
        ("float64", {}, None, True),
        ("bool", True, True, False),
        ("bool", 1, None, True),
        ("bool", "true", None, True),
        ("string", "é", "é", False),
        ("string", 5, "5", False),
        ("string", 0.5, "0.5", False),
        ("string", False, "false", False),
        ("string", {"é": [1]}, '{"é": [1]}', False),
        ("string", "\ud83c", None, True),
        ("string", ["\ud83c"], None, True),
        ("string", NAN, None, False),
    ],
)
def test_kept_keys_are_read_as_their_type(kind, value, read_as, mismatch):
    values, found_mismatch = typed_metadata({"k": value, "other": 1}, {"k": kind})
    assert values == {"k": read_as}
    assert type(values["k"]) is type(read_as)
    assert found_mismatch is mismatch


def test_absent_keys_are_null():
    assert typed_metadata({}, {"a": "int64", "b": "string"}) == ({"a": None, "b": None}, False)
