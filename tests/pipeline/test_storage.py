"""Places in storage: what is none is told in a sentence that names the URL."""

import pytest
from fsspec.implementations.cached import SimpleCacheFileSystem
from fsspec.implementations.local import LocalFileSystem

from pipeline.storage import canonical, locate, storage_errors


def test_local_paths_are_absolute(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/x")
    for url in ("a/b", "./a/b", "file://a/b", f"{tmp_path}/a/b"):
        fs, path = locate(url)
        assert isinstance(fs, LocalFileSystem)
        assert path == f"{tmp_path}/a/b"
    assert locate("~/a")[1] == "/home/x/a"
    assert locate("~.tar")[1] == f"{tmp_path}/~.tar"
    assert locate("a/../b")[1] == f"{tmp_path}/a/../b"
    assert canonical(*locate("a/../b")) == f"{tmp_path}/b"


def test_a_url_may_stand_behind_caches() -> None:
    assert locate("memory://a/b")[1] == "/a/b"
    fs, path = locate("simplecache::memory://a/../b")
    assert isinstance(fs, SimpleCacheFileSystem)
    assert canonical(fs, path) == path == "/a/../b"


@pytest.mark.parametrize(
    "url",
    [
        "zip://*.tar::a.zip",
        "tar://0.tar",
        "dir://a::/b",
        "reference://x",
        "a::b",
        "::",
        "simplecache::zip://a::b",
        "data:,x",
    ],
)
def test_nothing_inside_of_another_url_is_looked_into(url: str) -> None:
    with pytest.raises(ValueError, match=r"'::' in it can only put a cache, as in simplecache::URL") as error:
        locate(url)
    assert url in str(error.value)


@pytest.mark.parametrize("url", ["a\0b", "\udcff.tar", "memory://\ud800", "simplecache::memory://a\0"])
def test_names_that_no_storage_holds(url: str) -> None:
    with pytest.raises(ValueError, match="is not UTF-8, or has '::' in it, or a null byte"):
        locate(url)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("nofs://x", "nofs://x: Protocol not known: nofs"),
        ("github://x", r"github://x: TypeError: .* 'org' and 'repo'"),
        ("simplecache://x", "simplecache://x: Please provide filesystem"),
    ],
)
def test_what_fsspec_cannot_open_is_named(url: str, sentence: str) -> None:
    with pytest.raises((OSError, ValueError), match=sentence):
        locate(url)


@pytest.mark.parametrize("error", [FileNotFoundError("x"), ImportError("x"), OSError(28, "full", "x")])
def test_errors_that_tell_all_stay(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, storage_errors("s3://b"):
        raise error
    assert raised.value is error


def test_errors_of_a_library_name_the_url() -> None:
    class NoCredentialsError(Exception):
        pass

    with pytest.raises(OSError, match=r"^s3://b: NoCredentialsError: none$"), storage_errors("s3://b"):
        raise NoCredentialsError("none")
