"""Shard patterns: random ones give shards that are each one file under one safe name, or one clear sentence."""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobs.console import printable
from pipeline.braces import count_expansions, expand
from pipeline.shards import list_shards
from tests.fuzz import fuzz

FILES = [
    *("0.tar", "1.tar", "10.tar", "a.tar.gz", "b.tgz", "a/0.tar", "a/1.tar", "a/b/0.tar", "b/0.tar", "b/.0.tar"),
    *("[x].tar", "{0,1}.tar", "back\\slash.tar", "what?.tar", "*.tar", "~.tar", "@.tar", "#.tar", "é 🙂.tar"),
    *("A.tar", "line\nbreak.tar", "folder.tar/0.tar", "none.parquet"),
]
LISTS = {
    "list.txt": b"0.tar\n# comment\n\n a/{0..1}.tar \n",
    "itself.txt": b"itself.txt\n",
    "marked.txt": b"@list.txt\n",
    "missing.txt": b"nowhere.tar\n",
    "binary.txt": bytes(range(256)),
    "zeros.txt": bytes(10_000),
    "empty.txt": b"# nothing\n",
    "broken.txt": b"{0..\n",
    "long.txt": b"x" * 100_000,
    "chain.txt": b"zip://0.tar::file.zip\n",
}
SAFE_ID = re.compile(r"[A-Za-z0-9-][A-Za-z0-9._-]{0,179}")


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Iterator[str]:
    """A folder of shards as working folder and home; the same files in memory."""
    base = tmp_path_factory.mktemp("shards")
    memory = fsspec.filesystem("memory")
    for name in (*FILES, *LISTS):
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(LISTS.get(name, name.encode()))
        memory.pipe(f"/fuzz/{name}", LISTS.get(name, name.encode()))
    (base / "link.tar").symlink_to(base / "0.tar")
    (base / "dangling.tar").symlink_to(base / "nowhere")
    (base / "loop").symlink_to(base / "loop")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(base)
        patch.setenv("HOME", str(base))
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("caches")))
        patch.setattr("pipeline.shards.MAX_EXPANSIONS", 1000)
        yield str(base)
    memory.rm("/fuzz", recursive=True)


PLACES = st.one_of(
    st.sampled_from("| |{home}/|./|~/|file://|file://{home}/|local://|memory://fuzz/|memory:///fuzz/".split("|")),
    st.sampled_from(
        "simplecache::|simplecache::memory://fuzz/|filecache::file://{home}/|filecache::memory://".split("|")
    ),
    st.sampled_from("zip:// tar:// dir:// reference:// data: data:, nofs:// git:// simplecache:// cached::".split()),
    st.sampled_from(":: x:: a: :// file: memory:// memory:: @ @memory://fuzz/".split()),
)
PIECES = st.one_of(
    st.sampled_from("0 1 a b x link .tar .tar .tar.gz .tgz folder.tar ~ é 🙂".split()),
    st.sampled_from("* ? [0-1] [!0] [ ] [z-a] [] ** *** \\ \\* \\{ | ( $ ?x=1 # %2e".split()),
    st.sampled_from(
        "{ } , .. {0..1} {1..0..0} {a,b} {a,b/0} {,x} {{0..1},a} {0..99999} {1..99999999999999999999}".split()
    ),
    st.sampled_from(["{0..1\n}", "{a..z}" * 9, "{" * 30, "{" * 30 + "}" * 30, "{0..1" + "0" * 5000 + "}", "9" * 5000]),
    st.sampled_from(["::", "\0", "\n", " ", "\ud800", "\udcff", "x" * 300]),
    st.sampled_from([*FILES, *LISTS, "loop", "dangling.tar", "::file.zip", "::0.tar", "::memory://fuzz/0.tar"]),
    st.text(max_size=3),
)
UP = st.sampled_from(["/", "//", "/../", "/./", "/..", "..", "/a/../"])


@st.composite
def patterns(draw: st.DrawFn) -> str:
    """Pieces behind a place. `**` and the way up are kept apart: together they would walk this machine."""
    pieces = draw(st.lists(st.one_of(PIECES, PIECES, UP, st.just("/")), min_size=1, max_size=7))
    place, path = draw(PLACES), "".join(pieces)
    if "*" in path and (".." in path or path.startswith("/") or "//" in path):
        path = path.replace("*", "?").replace("..", ".,").replace("//", "/").lstrip("/")
    return place + path


# What names files that are there, in many ways.
PLAUSIBLE = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["", "./", "{home}/", "~/", "file://{home}/", "memory://fuzz/", "simplecache::memory://fuzz/"]),
        st.sampled_from(["", "", "./", "a/../", "a/", "a//", "b/", "*/", "**/", "{a,b}/", "a/b/../../", "nowhere/../"]),
        st.sampled_from(FILES) | st.sampled_from(["{0..1}.tar", "{1,0}.tar", "?.tar", "[0-9].tar", "*.tgz", "li*.tar"]),
    ),
)


def outcome(home: str, given: list[str], root: str | None) -> str:
    """The error's text, or "" after the shards were held against their files."""
    given = [pattern.replace("{home}", home) for pattern in given]
    try:
        shards = list_shards(given, root and root.replace("{home}", home))
    except (ValueError, OSError, ImportError) as error:
        text = printable(str(error))
        assert text.strip()
        assert len(text.splitlines()) == 1
        return text
    assert shards
    assert len({shard.id.casefold() for shard in shards}) == len(shards)
    files = set()
    for shard in shards:
        assert SAFE_ID.fullmatch(shard.id)
        with fsspec.open(shard.url) as stream:
            content = stream.read()
        assert len(content) == shard.size
        place, _, _ = shard.url.partition("://")
        # Every file holds its own name: none comes twice, whatever its path went through.
        assert (place, content) not in files or "link" in shard.url
        files.add((place, content))
    return ""


ROOTS = st.one_of(st.none(), st.none(), PLACES, st.sampled_from(["{home}", "{home}/a", "a", "/", "..", "~"]))


@fuzz(1500)
@given(st.lists(PLAUSIBLE | patterns(), min_size=1, max_size=3) | st.lists(PLAUSIBLE, min_size=1, max_size=4), ROOTS)
@example(["0.tar", "./a/../0.tar", "{home}//0.tar", "file://0.tar"], None)
@example(["~.tar", "@.tar"], "{home}")
@example(["zip://0.tar::{home}/file.zip"], None)
@example(["@list.txt", "memory://fuzz/*.tgz"], "/")
def test_patterns(home, given_patterns, root) -> None:
    outcome(home, given_patterns, root)


@fuzz(300)
@given(
    st.binary(max_size=40)
    | st.lists(PLAUSIBLE | patterns(), max_size=4).map(lambda lines: "\n".join(lines).encode(errors="replace")),
    st.sampled_from(["@", ""]),
)
def test_list_files(home, content, mark) -> None:
    Path(home, "drawn.txt").write_bytes(content)
    outcome(home, [f"{mark}drawn.txt"], None)


BRACES = st.lists(
    st.one_of(
        st.sampled_from([*"{}{},..", "..", "\\", "a", "z", "A", "Z", "0", "9", "-", "01", "１", "٣", "\n", "x"]),
        st.sampled_from(["{1..3}", "{a,b}", "{a..e..2}", "{3..-2}", "{1..3\n}", "{0..1..0}"]),
    ),
    max_size=12,
).map("".join)


@fuzz(1500)
@given(BRACES)
def test_expansions_are_never_counted_short(pattern) -> None:
    try:
        most = count_expansions(pattern)
    except ValueError:
        return
    assert sum(1 for _ in expand(pattern)) <= most
