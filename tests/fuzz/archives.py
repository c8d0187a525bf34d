"""Archives with planned damage, of which is known what they still hold, and others with any damage."""

import tarfile
from dataclasses import dataclass, field

from hypothesis import strategies as st
from PIL import Image
from webdataset.tariterators import base_plus_ext

from tests.pipeline.shard_factory import encode, picture

BLOCK = 512
IMAGES = [
    picture(7),
    encode(Image.new("RGBA", (5, 4), (9, 9, 9, 90)), "PNG"),
    encode(Image.new("L", (6, 3), 40), "WEBP"),
    b"GIF89a?",
    b"",
    picture(9)[:200],
]
TEXTS = [
    b"a caption",
    b"",
    "été 🙂".encode(),
    b"\xff\xfe",
    b"\xef\xbb\xbfmarked",
    b"\xed\xa0\x80",
    b"x" * 5000,
    b"\0\x1b[2J",
]
JSONS = [
    b'{"caption": "c", "url": "http://x/1", "width": 3}',
    b"",
    b"{",
    b"[]",
    b"nul",
    b'{"caption": NaN}',
    b'{"caption": "\\ud800"}',
    b'{"caption": "a", "caption": 5}',
    b'{"width": 1e400, "hash": 99999999999999999999999, "caption": ["x"]}',
    b'{"uid": "0123456789abcdef0123456789abcdef", "caption": "has a uid"}',
    b'{"a":' * 3000 + b"1" + b"}" * 3000,
    b"[" * 100_000,
    b'{"hash": ' + b"9" * 5000 + b"}",
]
LONG_KEYS = ["x" * 120, "d" * 90 + "/" + "e" * 90, "n" * 300]
KEYS = ["0", "1", "000000002", "a/b/c", "a/../0", "/0", "ü", " ", "-", "a\nb", *LONG_KEYS]
SUFFIXES = ["jpg", "JPG", "png", "webp", "txt", "json", "cls", "seg.png", "jpg.txt", ""]
ODD_NAMES = ["noext", ".hidden", "__meta__/x.jpg", "a/.jpg", "dir/", "..", "0."]
KINDS = [tarfile.REGTYPE] * 12 + [
    tarfile.AREGTYPE,
    tarfile.CONTTYPE,
    tarfile.DIRTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.FIFOTYPE,
    b"Z",
]
FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)


@dataclass(frozen=True)
class Entry:
    """One member: its name, its data, its type, and its extended headers with its own header (a block, the last)."""

    name: str
    data: bytes
    kind: bytes
    head: bytes

    @property
    def raw(self) -> bytes:
        return self.head + self.data + bytes(-len(self.data) % BLOCK)


@dataclass
class Archive:
    """Bytes of an archive, and the entries that are whole in it up to their data, which may be cut."""

    data: bytes = b""
    readable: list[Entry] = field(default_factory=list)

    def groups(self) -> list[tuple[str, dict[str, bytes]]]:
        """Its sample groups, key and data by suffix, by webdataset's own rule for names: runs of a key in which no
        suffix comes again."""
        groups: list[tuple[str, dict[str, bytes]]] = []
        for entry in self.readable:
            key, suffix = base_plus_ext(entry.name)
            hidden = entry.name.rpartition("/")[2].startswith(".")
            if entry.kind not in FILES or key is None or hidden or entry.name.startswith("__meta__/"):
                continue
            if not groups or key != groups[-1][0] or suffix.lower() in groups[-1][1]:
                groups.append((key, {}))
            groups[-1][1][suffix.lower()] = entry.data
        return groups


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    """Any member that tarfile can write."""
    suffix = draw(st.sampled_from(SUFFIXES))
    name = draw(st.one_of(st.sampled_from(KEYS), st.integers(0, 3).map(str))) + "." + suffix
    name = draw(st.sampled_from([*[name] * 9, *ODD_NAMES]))
    pool = JSONS if suffix == "json" else TEXTS if suffix in ("txt", "cls") else IMAGES
    kind = draw(st.sampled_from(KINDS))
    data = draw(st.one_of(st.sampled_from(pool), st.binary(max_size=30))) if kind in (*FILES, b"Z") else b""
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, "0.jpg" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
    try:
        head = info.tobuf(draw(st.sampled_from(FORMATS)))
    except ValueError:  # ustar holds no such name
        head = info.tobuf(tarfile.GNU_FORMAT)
    # An old archive's empty type with a name that ends in "/" is a folder.
    if name.endswith("/") and kind == tarfile.AREGTYPE:
        kind = tarfile.DIRTYPE
    return Entry(name.rstrip("/") if kind == tarfile.DIRTYPE else name, data, kind, head)


@st.composite
def damaged(draw: st.DrawFn) -> Archive:
    """An archive with damage of which is known what it costs: spoilt headers, headers without a member, junk and zeros
    between members, a cut."""
    archive = Archive()
    for entry in draw(st.lists(entries(), max_size=12)):
        match draw(st.sampled_from(["whole"] * 7 + ["spoilt", "junk", "orphan", "zeros", "flipped"])):
            case "spoilt":  # its checksum
                at = len(entry.head) - BLOCK + 148
                archive.data += entry.raw[:at] + b"\xff" * 8 + entry.raw[at + 8 :]
                continue
            case "junk":
                junk = draw(st.binary(min_size=1, max_size=40)).replace(b"ustar", b"other")
                # About a chunk that is read, or less.
                length = draw(st.one_of(st.integers(1, 2000), st.integers(65_000, 66_000)))
                archive.data += (junk * length)[:length]
            case "orphan":  # an extended header whose member is gone
                name = draw(st.sampled_from(LONG_KEYS)) + "/x.jpg"
                archive.data += tarfile.TarInfo(name).tobuf(draw(st.sampled_from(FORMATS[1:])))[:-BLOCK]
                archive.data += draw(st.sampled_from([bytes(BLOCK), bytes(2 * BLOCK), b"\xff" * BLOCK]))
            case "zeros":
                archive.data += bytes(draw(st.sampled_from([512, 1024, 10_240, 700])))
            case "flipped" if entry.data:
                at = len(entry.head) + draw(st.integers(0, len(entry.data) - 1))
                raw = bytearray(entry.raw)
                raw[at] ^= draw(st.integers(1, 255))
                entry = Entry(entry.name, bytes(raw[len(entry.head) :][: len(entry.data)]), entry.kind, entry.head)
        archive.data += entry.raw
        archive.readable.append(entry)
    match draw(st.sampled_from(["end", "end", "none", "one", "cut", "more"])):
        case "end":
            archive.data += bytes(10_240)
        case "one":
            archive.data += bytes(BLOCK)
        case "more":
            archive.data += bytes(1024) + b"more" * 100
        case "cut" if archive.readable:
            last = archive.readable[-1]
            cut = draw(st.integers(0, len(last.raw) - len(last.head)))
            archive.data = archive.data[: len(archive.data) - cut] if archive.data.endswith(last.raw) else archive.data
    return archive


def with_checksum(header: bytearray) -> bytes:
    """A header block with the checksum that it should have."""
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


FIELDS = {
    "name": (0, 100),
    "mode": (100, 8),
    "size": (124, 12),
    "type": (156, 1),
    "link": (157, 100),
    "rest": (257, 255),
}
"""Of a header: offset and size."""
NUMBERS = [
    b"77777777777\0",
    b"-0000000001\0",
    b"\x80" + b"\xff" * 11,
    b"\xff" * 12,
    b"\x80" + bytes(10) + b"\x01",
    b"\x80\0\0\0\x7f" + b"\xff" * 7,
    b"            ",
    b"00000001000\0",
    b"9",
    bytes(12),
]
EDITS = st.tuples(
    st.sampled_from(["flip", "delete", "insert", "copy", "cut", *FIELDS, "pax", "longname", "sparse"]),
    st.integers(0, 1 << 16),
    st.integers(1, 1500),
    st.one_of(st.sampled_from(NUMBERS), st.binary(min_size=1, max_size=16)),
)
PAX = [
    b"20 path=a/b/c/d.jpg\n",
    b"12 size=99\n",
    b"19 size=9999999999\n",
    b"25 GNU.sparse.major=1\n 5",
    b"9999999 path=x\n",
    b"0 path=\n",
    b"11 path=a\0\n",
    b"13 path=\xff\xfe\n",
    b"",
]


def edited(data: bytes, edits: list[tuple[str, int, int, bytes]]) -> bytes:
    """Any damage, headers with checksums that hold included."""
    for what, at, length, junk in edits:
        block = at % (len(data) // BLOCK + 1) * BLOCK
        at %= len(data) + 1
        if what == "flip":
            data = data[:at] + junk + data[at + len(junk) :]
        elif what == "delete":
            data = data[:at] + data[at + length :]
        elif what == "insert":
            data = data[:at] + (junk * length)[:length] + data[at:]
        elif what == "copy":
            data = data[:at] + data[:length] + data[at:]
        elif what == "cut":
            data = data[:at]
        elif what in FIELDS and len(data) >= block + BLOCK:
            header = bytearray(data[block : block + BLOCK])
            start, size = FIELDS[what]
            start += length % size if what == "rest" else 0
            header[start : start + size] = (junk + bytes(header[start + len(junk) : start + size]))[:size]
            data = data[:block] + with_checksum(header[:BLOCK].ljust(BLOCK, b"\0")) + data[block + BLOCK :]
        else:
            kind = {"pax": b"x", "longname": b"L", "sparse": b"S"}.get(what, b"g")
            info = tarfile.TarInfo("extended")
            payload = PAX[length % len(PAX)] if what == "pax" else junk * (length % 400)
            info.size, info.type = len(payload), kind
            data = data[:block] + info.tobuf() + payload + bytes(-len(payload) % BLOCK) + data[block:]
    return data
