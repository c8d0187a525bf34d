import itertools
import os
import time

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.shards import (
    Shard,
    _shard_id,
    list_shards,
    sample_shards,
    sample_uid,
    told_sample,
)
from pipeline.storage import locate
from tests.pipeline.shard_factory import FUZZ


@pytest.fixture
def lay(tmp_path):
    """Create files below tmp_path, each holding its own name; returns the folder."""

    def create(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
        return tmp_path

    return create


def ids(*patterns, root=None):
    return [shard.id for shard in list_shards([str(pattern) for pattern in patterns], root)]


def test_braces(lay):
    base = lay("0008.tar", "0009.tar", "0010.tar", "0011.tar")
    assert ids(base / "{0008..0010}.tar") == ["0008", "0009", "0010"]
    assert ids(base / "00{08,1{0..1}}.tar") == ["0008", "0010", "0011"]


def test_globs_in_order_each_once(lay):
    base = lay("b/1.tar", "a/2.tar", "a/1.tar", "a/10.tar")
    assert ids(base / "*/*.tar", base / "a/1.tar", base / "**/?.tar") == ["a--1", "a--10", "a--2", "b--1"]


def test_braces_with_globs(lay):
    base = lay("a/1.tar", "b/1.tar.gz", "c/1.tgz")
    assert ids(base / "{a,b}/*") == ["a--1", "b--1"]


def test_a_shard_says_where_it_is_and_what_it_was(lay):
    path = lay("0.tar") / "0.tar"
    (shard,) = list_shards([str(path)])
    assert (shard.id, shard.url, shard.size) == ("0", f"file://{path}", 5)
    assert abs(int(shard.etag) - path.stat().st_mtime_ns) < 1000
    with fsspec.open(shard.url) as stream:
        assert stream.read() == b"0.tar"
    os.utime(path, (1, 1))
    assert list_shards([str(path)])[0].etag != shard.etag


def test_a_link_counts_as_its_target(lay):
    base = lay("store/0.tar")
    os.utime(base / "store/0.tar", (7, 7))
    (base / "0.tar").symlink_to(base / "store/0.tar")
    (base / "1.tar").symlink_to(base / "store/0.tar")
    for pattern in ("{0..1}.tar", "*.tar"):
        assert [(one.size, one.etag) for one in list_shards([str(base / pattern)])] == [(11, "7000000000")] * 2


@pytest.mark.parametrize("marked", [True, False])
def test_list_file(lay, marked):
    base = lay("x/0.tar", "x/1.tar", "y/2.tar")
    listed = base / ("list" if marked else "list.txt")
    listed.write_text(f"# shards\n{base}/x/{{0..1}}.tar\n\n  {base}/y/*.tar  \n")
    assert ids(f"@{listed}" if marked else listed) == ["x--0", "x--1", "y--2"]


@pytest.mark.parametrize("line", ["@other", "other.txt"])
def test_a_list_in_a_list_is_refused(lay, line):
    base = lay("other", "other.txt")
    (base / "list").write_text(f"{line}\n")
    with pytest.raises(ValueError, match=rf"list: '{line}' in it is a list itself"):
        ids(f"@{base}/list")


def test_what_is_no_list_is_told_so(lay):
    base = lay("0.tar")
    (base / "0.tar").write_bytes(b"\xff\xd8")
    with pytest.raises(ValueError, match=r"0\.tar: 'utf-8' codec"):
        ids(f"@{base}/0.tar")
    with pytest.raises(FileNotFoundError, match=r"there is no list of shards memory://nowhere\.txt"):
        ids("memory://nowhere.txt")


def test_one_file_is_one_shard_whatever_its_path_goes_through(lay, monkeypatch):
    base = lay("0.tar", "a/1.tar", "~.tar")
    monkeypatch.chdir(base)
    assert ids("0.tar", "./0.tar", "a/../0.tar", "{a,a/.}/../0.tar", f"{base}//*.tar") == ["0", "-.7e"]
    assert ids("a/../a/*.tar", f"../{base.name}/a/1.tar", root="a/..") == ["a--1"]
    (shard,) = list_shards(["~.tar"])
    assert (shard.id, shard.url) == ("-.7e", f"file://{base}/~.tar")


def test_missing_expansions_are_named_and_counted(lay):
    base = lay("0.tar", "2.tar")
    with pytest.raises(FileNotFoundError, match=r"2 shards do not exist, .*/1\.tar"):
        ids(base / "{0..3}.tar")
    lay("4.tar/folder", "5.tar/folder")
    (base / "6.tar").symlink_to(base / "gone")
    with pytest.raises(FileNotFoundError, match="3 shards"):
        ids(base / "{4..6}.tar")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        ids(base / "nowhere/{0..3}.tar")


@pytest.mark.parametrize("pattern", ["*.tgz", "{0,x}*.tar", "none/*"])
def test_a_pattern_that_matches_nothing_is_named(lay, pattern):
    base = lay("0.tar")
    with pytest.raises(ValueError, match="matches nothing") as error:
        ids(base / pattern)
    assert pattern in str(error.value)


@pytest.mark.parametrize("pattern", ["*.tar", "a::b.tar", "x::y/*.tar", "*/0.tar"])
def test_a_name_that_fsspec_would_chain_is_refused(lay, pattern):
    base = lay("a::b.tar", "x::y/0.tar")
    with pytest.raises(ValueError, match=r"(a::b|x::y).*'::' in it"):
        ids(base / pattern)


def test_a_chain_of_file_systems_is_no_name(lay):
    base = lay("0.tar", "c/a::b.tar")
    assert ids(f"simplecache::file://{base}/*.tar") == ["0"]
    with pytest.raises(ValueError, match=r"a::b\.tar' is not UTF-8, or has '::' in it"):
        ids(f"simplecache::file://{base}/c/*.tar")


@pytest.mark.parametrize("pattern", ["*.tar", "b\udcff.tar"])
def test_a_name_that_is_not_utf8_is_refused_and_shown(lay, pattern):
    base = lay("ok.tar")
    (base / "b\udcff.tar").touch()
    with pytest.raises(ValueError, match=r"b\\udcff\.tar' is not UTF-8") as error:
        ids(base / pattern)
    str(error.value).encode()


def test_no_pattern_at_all(lay):
    (lay("empty.txt") / "empty.txt").write_text("# nothing\n")
    for patterns in ([], [str(lay() / "empty.txt")]):
        with pytest.raises(ValueError, match="no shard pattern"):
            list_shards(patterns)


def test_a_glob_may_not_match_what_is_no_tar(lay):
    with pytest.raises(ValueError, match=r"0\.parquet', which is no \.tar"):
        ids(lay("0.tar", "0.parquet") / "*")


@pytest.mark.parametrize(
    "pattern",
    ["{0..10000000}", "{{1..9999}{1..9999},x}", "{1..99999999999999999999}", "{a..z}" * 7, "{0..9,}" * 24],
)
def test_absurd_expansions_are_refused_at_once(pattern):
    start = time.perf_counter()
    with pytest.raises(ValueError, match="more than 10000000"):
        ids(f"/data/{pattern}.tar")
    assert time.perf_counter() - start < 1


def test_bombs_of_many_patterns_or_long_names_are_refused_at_once():
    with pytest.raises(ValueError, match="makes it 12000000 shards to look for, more than 10000000"):
        list_shards(["/data/{1..6000000}.tar"] * 2)
    with pytest.raises(ValueError, match="with too long names"):
        ids(f"/data/{'x' * 1_000_000}{{0..9999}}.tar")


@pytest.mark.parametrize("pattern", ["{0..3", "0}..{3", "}{{1..99999999999}", "{" * 5000 + "}" * 5000])
def test_broken_braces_are_refused(pattern):
    with pytest.raises(ValueError, match="braces"):
        ids(f"/nowhere/{pattern}.tar")


def test_ids_are_paths_below_the_root(lay):
    base = lay("cc/en/0.tar", "cc/de/0.tar")
    assert ids(base / "cc/en/*.tar") == ["0"]
    assert ids(base / "cc/{en,de}/*.tar") == ["de--0", "en--0"]
    assert ids(base / "cc/en/*.tar", root=str(base)) == ["cc--en--0"]
    assert ids(base / "cc/en/*.tar", root=f"{base}/cc/") == ["en--0"]
    with pytest.raises(ValueError, match="not below the root"):
        ids(base / "cc/en/*.tar", root=str(base / "cc/e"))


def test_ids_do_not_depend_on_the_bucket():
    memory = fsspec.filesystem("memory")
    for bucket in ("one", "two/deep"):
        memory.pipe(f"/{bucket}/a/0.tar", b"x")
        memory.pipe(f"/{bucket}/b/0.tar", b"xy")
        shards = list_shards([f"memory://{bucket}/{{a,b}}/0.tar"])
        assert [(one.id, one.size) for one in shards] == [("a--0", 1), ("b--0", 2)]
        assert [one.url for one in shards] == [f"memory://{bucket}/a/0.tar", f"memory://{bucket}/b/0.tar"]


@pytest.mark.parametrize(("one", "other"), [("0.tar", "0.tar.gz"), ("A.tar", "a.tar")])
def test_shards_of_one_id_are_refused_with_both_names(lay, one, other):
    base = lay(one, other, "B.tar")
    if len(os.listdir(base)) < 3:
        pytest.skip("the file system does not tell capitals apart")
    with pytest.raises(ValueError, match="share the shard id") as error:
        ids(base / "*")
    assert one in str(error.value)
    assert other in str(error.value)


def test_ids_are_safe_file_names_and_tell_shards_apart(lay):
    names = [
        "a/b",
        "a--b",
        "a-/b",
        "a-.2d-b",
        "a b",
        "a%20b",
        "ä",
        "_a",
        ".a",
        "-",
        "-/-",
        "a.b-c_d",
        "c" * 230,
    ]
    base = lay(*(f"{name}.tar" for name in names))
    found = ids(base / "**/*.tar", root=str(base))
    assert len(set(found)) == len(names)
    for one in found:
        assert len(one) <= 180
        assert set(one) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
        assert one[0] not in "._"  # hidden from pyarrow
    assert "a.b-c_d" in found


@FUZZ
@given(st.lists(st.text("a-./_2d é", min_size=1, max_size=6), min_size=2, max_size=2, unique=True))
def test_different_paths_have_different_ids(paths):
    one, other = (_shard_id("", f"/{path}.tar", "/") for path in paths)
    assert one != other


class WebServer(fsspec.AbstractFileSystem):
    """Answers for single files only, as many web servers do."""

    protocol = ("shardhttp", "http")

    def info(self, path, **options):
        if "missing" in path:
            raise FileNotFoundError(path)
        if "secret" in path:
            raise FileNotFoundError(path) from OSError("403 Forbidden")
        return {"name": path, "type": "file", "size": 7, "ETag": '"e"'}

    def ls(self, path, detail=True, **options):
        pytest.fail("a web server was asked for a listing")


def test_signed_web_urls(monkeypatch):
    fs = WebServer()
    monkeypatch.setattr("pipeline.shards.locate", lambda url: (fs, url))
    shards = list_shards(["https://host/x/{0..1}.tar?sig=a*b[c"])
    assert shards == [Shard(str(n), f"https://host/x/{n}.tar?sig=a*b[c", 7, '"e"') for n in range(2)]
    with pytest.raises(FileNotFoundError, match="missing"):
        list_shards(["https://host/x/{0,missing}.tar"])
    with pytest.raises(OSError, match=r"^https://host/x/0\.tar: OSError: 403 Forbidden$"):
        list_shards(["https://host/x/{0,secret}.tar"])


class Counting(fsspec.AbstractFileSystem):
    """A flat store of 100,000 shards that counts what it is asked."""

    protocol = "countingstore"
    cachable = False

    def __init__(self, **options):
        super().__init__(**options)
        self.asked = 0
        self.names = [f"bucket/part/{number:06d}.tar" for number in range(100_000)]

    def ls(self, path, detail=True, **options):
        self.asked += 1
        return [{"name": name, "type": "file", "size": 1, "ETag": name} for name in self.names]

    def info(self, path, **options):
        self.asked += 1
        return {"name": path, "type": "directory" if not path.endswith("tar") else "file", "size": 0}


@pytest.mark.parametrize("how", ["braces", "glob", "list"])
def test_listing_asks_a_folder_once(how, monkeypatch, tmp_path):
    fs = Counting()
    monkeypatch.setattr(
        "pipeline.shards.locate",
        lambda url: (fs, url.removeprefix("s3://")) if url.startswith("s3://") else locate(url),
    )
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(f"s3://{name}" for name in fs.names))
    pattern = {
        "braces": "s3://bucket/part/{000000..099999}.tar",
        "glob": "s3://bucket/part/*.tar",
        "list": str(listed),
    }[how]
    shards = list_shards([pattern])
    assert len(shards) == 100_000
    assert shards[-1] == Shard("099999", "s3://bucket/part/099999.tar", 1, "bucket/part/099999.tar")
    assert fs.asked < 10


UID = "0123456789abcdef" * 2


def test_uid_is_stable_and_tells_samples_apart():
    assert sample_uid("00000", 3, "000000003", {}) == "165c499006526329310637479fd2ba51"
    seen = {
        sample_uid(shard, index, key, {})
        for shard, index, key in itertools.product(["1", "11", '1"'], [1, 11], ["1", "11", ", 1"])
    }
    assert len(seen) == 18
    assert all(len(uid) == 32 for uid in seen)


def test_datacomps_uid_is_taken_where_it_is_one():
    assert sample_uid("0", 0, "a", {"uid": UID}) == UID
    own = sample_uid("0", 0, "a", {})
    for other in (UID.upper(), UID + "\n", UID[:-1], 5, None, [UID]):
        assert sample_uid("0", 0, "a", {"uid": other}) == own


def test_a_sample_of_shards_is_a_fixed_share_and_grows_with_it() -> None:
    shards = [Shard(f"{n:05d}", f"s3://b/{n:05d}.tar", 100, "e") for n in range(1000)]
    tenth, fifth = ({s.id for s in sample_shards(shards, share) if s.sampled} for share in (0.1, 0.2))
    assert len(tenth) == 100
    assert len(fifth) == 200
    assert tenth < fifth
    assert {s.id for s in sample_shards(shards[::-1], 0.1) if s.sampled} == tenth
    assert len({id[2] for id in tenth}) == 10  # from all over the collection
    assert [s.sampled for s in sample_shards(shards[:3], 0.001)].count(True) == 1
    assert sample_shards(shards, 1) == shards


def test_a_sample_is_told_with_its_share_of_the_bytes() -> None:
    shards = [Shard("a", "a.tar", 100, None), Shard("b", "b.tar", 300, None, sampled=False)]
    assert told_sample(shards) == "a sample of 1 of 2 shards, 25.00% of their bytes"
    assert told_sample(shards[:1]) is None
    assert told_sample([Shard("a", "a", None, None), Shard("b", "b", None, None, False)]) == "a sample of 1 of 2 shards"
