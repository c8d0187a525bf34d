import gzip
import io
import tarfile
import time
import tracemalloc

import pytest

from pipeline.schema import RejectReason as R
from pipeline.source import ShortReadError
from pipeline.tar import MAX_EXTENDED_HEADER, Damage, Member, TruncatedMemberError, read_members
from tests.pipeline.shard_factory import END, Forward, entry, header, offsets, samples, tar


def read(data, length=None, stream=io.BytesIO):
    """(name, data) of the members, TRUNCATED for one that is cut; reasons and offsets of the damage."""
    members, damage = [], []
    for item in read_members(stream(data), len(data) if length is None else length):
        if isinstance(item, Damage):
            damage.append((item.reason, item.offset))
        elif item.is_file:
            try:
                members.append((item.name, item.read()))
            except TruncatedMemberError:
                members.append((item.name, R.TRUNCATED))
    return members, damage


STREAMS = pytest.mark.parametrize("stream", [io.BytesIO, Forward], ids=["seekable", "forward"])
MEMBERS = samples(4)
SOUND = tar(MEMBERS)
WHERE = offsets(SOUND)


@STREAMS
@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_sound_archive_gives_every_member_and_no_damage(stream, kind):
    assert read(tar(MEMBERS, kind), stream=stream) == (MEMBERS, [])


@STREAMS
def test_offset_and_size_point_at_the_data(stream):
    for item in read_members(stream(SOUND), len(SOUND)):
        assert isinstance(item, Member)
        assert SOUND[item.offset : item.offset + item.size] == dict(MEMBERS)[item.name]


def test_unread_members_are_not_read():
    big = tar([("a.bin", bytes(50_000_000)), ("b.txt", b"b")])

    class Counting(io.BytesIO):
        count = 0

        def read(self, size=-1):
            data = super().read(size)
            self.count += len(data)
            return data

    stream = Counting(big)
    assert [item.name for item in read_members(stream, len(big))] == ["a.bin", "b.txt"]
    assert stream.count < 200_000


def test_a_member_is_read_before_the_next_is_asked_for():
    members = list(read_members(io.BytesIO(SOUND), None))
    with pytest.raises(ValueError, match="moved past"):
        members[0].read()


@STREAMS
@pytest.mark.parametrize("length", [len(SOUND) + 1, len(SOUND) - 1])
def test_another_length_than_expected_is_transient(stream, length):
    with pytest.raises(ShortReadError):
        read(SOUND, length, stream)


def test_short_read_of_a_compressed_object_is_transient():
    packed = gzip.compress(SOUND)
    with pytest.raises(ShortReadError):
        read(packed[:-100], len(packed), Forward)


def test_empty_object_has_no_end_marker():
    assert read(b"") == ([], [(R.NO_END_MARKER, 0)])


def test_end_blocks_alone_are_a_complete_empty_archive():
    assert read(END) == ([], [])
    assert read(bytes(10240)) == ([], [])


def test_one_zero_block_is_no_end_marker():
    assert read(bytes(512)) == ([], [(R.NO_END_MARKER, 512)])


@STREAMS
def test_cut_at_a_member_boundary(stream):
    cut = WHERE["000000002.jpg"].offset
    assert read(SOUND[:cut], stream=stream) == (MEMBERS[:6], [(R.NO_END_MARKER, cut)])


@STREAMS
def test_cut_inside_a_member(stream):
    cut = WHERE["000000002.jpg"].offset_data + 100
    members, damage = read(SOUND[:cut], stream=stream)
    assert members == [*MEMBERS[:6], ("000000002.jpg", R.TRUNCATED)]
    assert damage == [(R.NO_END_MARKER, cut)]


@STREAMS
def test_cut_inside_an_unread_member_is_reported_with_its_name(stream):
    cut = WHERE["000000002.jpg"].offset_data + 100
    *_, last = read_members(stream(SOUND[:cut]), cut)
    assert last.reason is R.NO_END_MARKER
    assert "inside member '000000002.jpg'" in last.message


@STREAMS
def test_bad_header_costs_its_member_only(stream):
    at = WHERE["000000001.txt"].offset
    damaged = SOUND[: at + 3] + b"\xff" + SOUND[at + 4 :]
    members, damage = read(damaged, stream=stream)
    assert members == [member for member in MEMBERS if member[0] != "000000001.txt"]
    assert damage == [(R.BAD_HEADER, at)]


def test_adjacent_bad_headers_are_one_damage():
    at, end = WHERE["000000001.jpg"].offset, WHERE["000000002.jpg"].offset
    damaged = SOUND[:at] + b"\xaa" * (end - at) + SOUND[end:]
    assert read(damaged) == (MEMBERS[:3] + MEMBERS[6:], [(R.BAD_HEADER, at)])


def test_bad_last_header_does_not_hide_the_end_marker():
    at = WHERE["000000003.json"].offset
    damaged = SOUND[:at] + b"\xff" + SOUND[at + 1 :]
    assert read(damaged) == (MEMBERS[:-1], [(R.BAD_HEADER, at)])


def test_negative_size_is_a_bad_header():
    archive = header("a.jpg", -512) + tar([("b.txt", b"b")])
    assert read(archive) == ([("b.txt", b"b")], [(R.BAD_HEADER, 0)])


def test_resynchronises_where_bytes_are_missing():
    """A header that is no longer at a multiple of 512 bytes is found."""
    at = WHERE["000000001.jpg"].offset
    damaged = SOUND[:at] + SOUND[at + 77 :]
    members, damage = read(damaged)
    assert members == MEMBERS[:3] + MEMBERS[4:]
    assert damage == [(R.BAD_HEADER, at)]


def test_garbage_is_one_damage_and_no_member():
    garbage = b"ustar\x0000" * 5000
    members, damage = read(garbage)
    assert members == []
    assert damage == [(R.BAD_HEADER, 0), (R.NO_END_MARKER, len(garbage))]


@pytest.mark.parametrize("length", [2**16 - 512, 2**16 - 256, 2**16 - 1, 2**16, 2**17 - 300])
def test_resynchronises_wherever_the_header_lies_in_what_is_read(length):
    assert read(b"x" * length + SOUND) == (MEMBERS, [(R.BAD_HEADER, 0)])


@STREAMS
def test_concatenated_archives_are_both_read(stream):
    second = tar(samples(2, start=10))
    content = WHERE["000000003.json"].offset_data + 512
    members, damage = read(SOUND + second, stream=stream)
    assert members == [*MEMBERS, *samples(2, start=10)]
    assert damage == [(R.DATA_AFTER_END, len(SOUND))]
    cut = len(second) - 9000
    assert read(SOUND + second[:cut], stream=stream)[1] == [
        (R.DATA_AFTER_END, len(SOUND)),
        (R.NO_END_MARKER, len(SOUND) + cut),
    ]
    lone = SOUND[:content] + bytes(512) + second
    assert read(lone, stream=stream)[1] == [(R.DATA_AFTER_END, content + 512)]


def test_partial_download_with_a_whole_one_behind():
    cut = WHERE["000000002.json"].offset_data + 33
    members, damage = read(SOUND[:cut] + SOUND)
    assert [name for name, _ in members[:8]] == [name for name, _ in MEMBERS[:8]]
    assert members[-len(MEMBERS) + 1 :] == MEMBERS[1:]  # the first header was read as data
    assert [reason for reason, _ in damage] == [R.BAD_HEADER]


def test_garbage_after_the_end():
    assert read(SOUND + b"spam") == (MEMBERS, [(R.DATA_AFTER_END, len(SOUND))])
    assert read(SOUND + b"spam" + bytes(4096)) == (MEMBERS, [(R.DATA_AFTER_END, len(SOUND))])


@STREAMS
def test_gzip_is_known_by_its_bytes_and_may_have_many_parts(stream):
    packed = gzip.compress(SOUND[:1500]) + gzip.compress(SOUND[1500:]) + bytes(100)
    assert read(packed, stream=stream) == (MEMBERS, [])


@STREAMS
def test_cut_gzip_gives_what_came_before(stream):
    packed = gzip.compress(SOUND[:5120]) + gzip.compress(SOUND[5120:])[:40]
    members, damage = read(packed, stream=stream)
    whole = [member for member in members if member[1] is not R.TRUNCATED]
    assert whole == MEMBERS[: len(whole)]
    assert len(whole) >= 3
    assert [reason for reason, _ in damage] == [R.CORRUPT_STREAM]


@pytest.mark.parametrize("at", [-8, -4], ids=["crc", "length"])
def test_gzip_with_a_wrong_checksum(at):
    packed = bytearray(gzip.compress(SOUND))
    packed[at] ^= 1
    members, damage = read(bytes(packed))
    assert [reason for reason, _ in damage] == [R.CORRUPT_STREAM]
    assert members[:3] == MEMBERS[:3]


def test_garbage_behind_gzip():
    members, damage = read(gzip.compress(SOUND) + b"spam")
    assert [reason for reason, _ in damage] == [R.CORRUPT_STREAM]
    assert members == MEMBERS


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names(kind):
    members = [("d/" * 200 + "a.jpg", b"1"), ("日本語.txt", b"2"), ("b.txt", b"3")]
    assert read(tar(members, kind)) == (members, [])


def pax(records: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = kind, len(records)
    return entry(info, records)


def record(key: str, value: str) -> bytes:
    body = f" {key}={value}\n".encode()
    length = len(body) + 1
    while len(body) + len(str(length)) != length:
        length += 1
    return str(length).encode() + body


def test_pax_size_overrides_the_header():
    archive = pax(record("size", "5") + record("mtime", "1.5")) + header("a.txt", 0) + b"hello" + bytes(507)
    assert read(archive + tar([("b.txt", b"b")])) == ([("a.txt", b"hello"), ("b.txt", b"b")], [])


def test_global_pax_records_hold_for_all_and_yield_to_a_members_own():
    archive = pax(record("path", "all.txt"), tarfile.XGLTYPE)
    archive += header("a", 0) + pax(record("path", "own.txt")) + header("b", 0) + header("c", 0) + END
    assert [name for name, _ in read(archive)[0]] == ["all.txt", "own.txt", "all.txt"]


def test_extended_headers_are_merged_as_tarfile_does():
    archive = pax(record("path", "first.txt")) + pax(record("path", "second.txt")) + header("a", 0) + END
    assert [name for name, _ in read(archive)[0]] == list(offsets(archive)) == ["first.txt"]


def test_an_extended_header_is_not_applied_beyond_damage():
    archive = pax(record("path", "gone.txt")) + b"x" * 512 + header("a.txt", 0) + END
    assert read(archive) == ([("a.txt", b"")], [(R.BAD_HEADER, 1024)])


@pytest.mark.parametrize(
    "records",
    [
        record("path", "x" * (MAX_EXTENDED_HEADER + 10)),
        record("path", "x" * 5000),
        record("size", "-5"),
        record("size", "9" * 400),
        b"99 path=a\n",
        b"0 path=a\n",
        b"path",
    ],
    ids=["too large", "long name", "negative", "huge", "length too long", "length 0", "no length"],
)
def test_bad_extended_header_costs_its_member_only(records):
    archive = pax(records) + header("lost.txt", 1) + b"a" + bytes(511) + tar([("b.txt", b"b")])
    assert read(archive) == ([("b.txt", b"b")], [(R.BAD_HEADER, 0)])


def test_oversized_extended_headers_take_no_memory():
    bomb = header("././@LongLink", 200_000_000, tarfile.GNUTYPE_LONGNAME) + bytes(200_000_000)
    archive = bomb + header("a", 0) + END
    for stream in (io.BytesIO(archive), Forward(archive, step=2**20)):
        tracemalloc.start()
        list(read_members(stream, len(archive)))
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
        tracemalloc.stop()


def test_absurd_size_swallows_the_rest_without_reading_or_looping():
    archive = header("a.jpg", 2**80) + SOUND
    for stream in (io.BytesIO, Forward):
        start = time.perf_counter()
        *_, last = read_members(stream(archive), len(archive))
        assert last.reason is R.NO_END_MARKER
        assert time.perf_counter() - start < 5


def test_many_tiny_pax_records_take_linear_time():
    records = b"6 a=b\n" * (MAX_EXTENDED_HEADER // 6)
    archive = (pax(records) + header("a.txt", 0)) * 3 + END
    start = time.perf_counter()
    assert len(read(archive)[0]) == 3
    assert time.perf_counter() - start < 20


def test_links_folders_devices_and_sparse_files_are_no_files():
    kinds = [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
    archive = b"".join(header("x.jpg", 0, kind) for kind in kinds)
    archive += pax(record("GNU.sparse.major", "1")) + header("x.jpg", 0)
    sparse = bytearray(header("x.jpg", 512, tarfile.GNUTYPE_SPARSE))
    sparse[482] = 1  # an extension block follows
    sparse[148:156] = b"%06o\0 " % tarfile.calc_chksums(sparse)[0]
    archive += bytes(sparse) + bytes(512) + b"s" * 512 + tar([("a.txt", b"a")])
    items = list(read_members(io.BytesIO(archive), len(archive)))
    assert [item.is_file for item in items] == [False] * 7 + [True]


def test_names_that_are_not_utf8_become_text_arrow_takes():
    info = tarfile.TarInfo("\udcff\udced\udca0\udc80.jpg")
    archive = entry_surrogate(info) + END
    (name, _), *_ = read(archive)[0]
    assert name == "\\xff\\xed\\xa0\\x80.jpg"


def entry_surrogate(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
