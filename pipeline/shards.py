"""Which shards a run reads: patterns resolved to URLs, and ids that depend on no bucket and no machine."""

import contextlib
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import fsspec
from braceexpand import braceexpand
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

MAX_EXPANSIONS = 10_000_000

_MAX_ID = 180  # a file name may have 255 bytes, and parts add a suffix
_MAX_DEPTH = 20
_HTTP_REQUESTS = 32
_SUFFIX = re.compile(r"\.(tar|tar\.gz|tgz)$", re.IGNORECASE)
_GLOB = re.compile(r"[*?\[]")
_PATTERN = re.compile(r"[*?\[{\\]")
# A leading dot or underscore hides a file from pyarrow's datasets. The first alternative keeps the escapes
# ("--" and "-.xx") apart from names that look like them.
_UNSAFE = re.compile(rb"-(?=[^A-Za-z0-9_])|^[._]|[^A-Za-z0-9._-]")
_UNREADABLE = re.compile("::|[\ud800-\udfff]")  # a byte that is not UTF-8 becomes half a surrogate pair
_RANGE = re.compile(r"(-?\d+|[A-Za-z])\.\.(-?\d+|[A-Za-z])(?:\.\.-?(\d+))?")
_DATACOMP_UID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Shard:
    """One tar: file name in a run, URL, size in bytes, and ETag (a modification time if there is none)."""

    id: str
    url: str
    size: int | None
    etag: str | None


@dataclass(frozen=True)
class _Pattern:
    """One pattern on its file system; `path` is absolute, without protocol, its braces and globs as given."""

    text: str
    fs: Any
    path: str

    def url(self, path: str) -> str:
        """The URL of a path this pattern led to."""
        protocol = self.text.removesuffix(self.path)
        if protocol == self.text or isinstance(self.fs, LocalFileSystem):
            return str(self.fs.unstrip_protocol(path))
        return protocol + path  # with the host, which sftp's or hdfs's paths lack


def list_shards(patterns: Sequence[str], root: str | None = None) -> list[Shard]:
    """The shards of some patterns, sorted by URL, each once.

    A pattern is a path or fsspec URL with braces, globs or both, or a list file (`@file`, or a name ending in
    .txt) of a pattern a line, `#` for comments. A folder is listed once, not asked for file by file.

    A shard's id is its path below `root` (the common parent of the patterns' fixed parts if None; name it if
    patterns may be added later) without .tar, .tar.gz or .tgz, "/" written as "--", other characters than
    [A-Za-z0-9._-] as "-.xx".

    Raises ValueError for a pattern that matches nothing or expands to more than MAX_EXPANSIONS, a shard
    outside `root`, a name that is not UTF-8 or has "::" in it, and two shards of one id (case aside);
    FileNotFoundError for a URL or brace expansion that is not there.
    """
    entries = [_Pattern(text, *url_to_fs(text)) for given in patterns for text in _lines(given)]
    if not entries:
        raise ValueError(f"no shard pattern in {list(patterns)}")
    _refuse_unreadable(entry.text for entry in entries if isinstance(entry.fs, LocalFileSystem))
    base = _common_parent(entries) if root is None else _folder(url_to_fs(root)[1])
    found: dict[str, tuple[str, Mapping[str, Any]]] = {}  # URL to path and fsspec's info
    literals: dict[tuple[Any, str], list[tuple[str, str]]] = {}  # file system and folder to URLs and paths
    for entry in entries:
        for path in _expand(entry.path):
            if _GLOB.search(_location(path)):
                found |= {entry.url(match): (match, info) for match, info in _glob(entry, path)}
            else:
                where = (entry.fs, path.rpartition("/")[0])
                literals.setdefault(where, []).append((entry.url(path), path))
    missing = []
    for (fs, folder), files in literals.items():
        infos = _infos(fs, folder, [path for _, path in files])
        missing += [url for url, path in files if path not in infos]
        found |= {url: (path, infos[path]) for url, path in files if path in infos}
    if missing:
        raise FileNotFoundError(f"{len(missing)} shards do not exist, the first of them {missing[0]}")
    _refuse_unreadable(path for path, _ in found.values())
    shards = [
        Shard(_shard_id(url, path, base), url, info.get("size"), _etag(info))
        for url, (path, info) in sorted(found.items())
    ]
    _refuse_collisions(shards)
    return shards


def sample_uid(shard_id: str, index: int, key: str, metadata: Mapping[str, Any]) -> str:
    """32 hex digits: DataComp's own uid if the json has one, else blake2b of shard id, index and key."""
    uid = metadata.get("uid")
    if isinstance(uid, str) and _DATACOMP_UID.fullmatch(uid):
        return uid
    return hashlib.blake2b(json.dumps([shard_id, index, key]).encode(), digest_size=16).hexdigest()


def _lines(pattern: str) -> Iterator[str]:
    """The pattern, or the patterns in the list file it names."""
    if not pattern.startswith("@") and not pattern.endswith(".txt"):
        yield pattern
        return
    with fsspec.open(pattern.removeprefix("@"), "rt", encoding="utf-8") as lines:
        for line in lines:
            if (text := line.strip()) and not text.startswith("#"):
                yield text


def _expand(path: str) -> Iterable[str]:
    if "{" not in path:
        return (path,)
    if (count := _count_expansions(path)) > MAX_EXPANSIONS:
        raise ValueError(f"{path} expands to {count} shards, more than {MAX_EXPANSIONS}")
    return braceexpand(path)


def _count_expansions(path: str) -> int:
    """How many strings braceexpand would give, without expanding (it holds every range in memory at once)."""
    sums, products, starts = [0], [1], [0]
    escaped = False
    for at, character in enumerate(path):
        if escaped or character == "\\":
            escaped = not escaped
        elif character == "{":
            sums.append(0)
            products.append(1)
            starts.append(at + 1)
            if len(starts) > _MAX_DEPTH:  # braceexpand recurses
                raise ValueError(f"braces nested too deep in {path[:200]}")
        elif character == "," and len(starts) > 1:
            sums[-1] += products[-1]
            products[-1] = 1
        elif character == "}":
            if len(starts) == 1:
                raise ValueError(f"unbalanced braces in {path}")
            alternatives = _count_range(path[starts.pop() : at]) or sums[-1] + products[-1]
            del sums[-1], products[-1]
            products[-1] *= alternatives
    if len(starts) > 1:
        raise ValueError(f"unbalanced braces in {path}")
    return products[0]


def _count_range(text: str) -> int:
    """The length of a braceexpand range such as 00..99 or a..z..2, 0 for what is none."""
    match = _RANGE.fullmatch(text)
    if not match:
        return 0
    first, last = (ord(end) if end.isalpha() else int(end) for end in match.group(1, 2))
    return abs(last - first) // (int(match[3] or 1) or 1) + 1


def _glob(entry: _Pattern, path: str) -> list[tuple[str, Mapping[str, Any]]]:
    matches = entry.fs.glob(path, detail=True)
    files = [(name, info) for name, info in matches.items() if info["type"] != "directory"]
    if not files:
        raise ValueError(f"{entry.text} matches nothing" + (f" at {path}" if path != entry.path else ""))
    for name, _ in files:
        if not _SUFFIX.search(name):
            raise ValueError(f"{entry.text} matches {name!r}, which is no .tar, .tar.gz or .tgz")
    return [(name, entry.fs.info(name) if info.get("islink") else info) for name, info in files]


def _infos(fs: Any, folder: str, paths: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """fsspec's info of those of `paths`, all in `folder`, that are files."""

    def ask(path: str) -> Mapping[str, Any]:
        try:
            return fs.info(path)  # type: ignore[no-any-return]
        except FileNotFoundError:
            return {"type": "directory"}

    infos: dict[str, Mapping[str, Any]] = {}
    if len(paths) == 1 or "http" in fs.protocol:  # a web server lists no sizes, if it lists at all
        with ThreadPoolExecutor(_HTTP_REQUESTS) as pool:
            infos = dict(zip(paths, pool.map(ask, paths), strict=True))
    else:
        wanted = set(paths)
        with contextlib.suppress(FileNotFoundError):
            listed = fs.ls(folder or fs.root_marker, detail=True)
            infos = {info["name"]: info for info in listed if info["name"] in wanted}
        infos |= {path: ask(path) for path, info in infos.items() if info.get("islink")}
    return {path: info for path, info in infos.items() if info["type"] != "directory"}


def _location(path: str) -> str:
    """A path without the query of a web URL, which may hold a signature."""
    return path.partition("?")[0] if path.startswith(("http://", "https://")) else path


def _common_parent(entries: Sequence[_Pattern]) -> str:
    """The folder that the fixed part of every pattern is below, with a closing slash."""
    fixed = {_PATTERN.split(_location(entry.path), maxsplit=1)[0].rpartition("/")[0] for entry in entries}
    levels = zip(*(folder.split("/") for folder in fixed), strict=False)
    common = [level[0] for level in itertools.takewhile(lambda level: len(set(level)) == 1, levels)]
    if not common:
        raise ValueError(f"shards in {sorted(fixed)[0]} and {sorted(fixed)[-1]} have no common root: name one")
    return _folder("/".join(common))


def _folder(path: str) -> str:
    return path.rstrip("/") + "/" if path else ""


def _shard_id(url: str, path: str, base: str) -> str:
    location = _location(path)
    if not location.startswith(base):
        raise ValueError(f"shard {url} is not below the root {base}")
    below = location.removeprefix(base)
    name = _SUFFIX.sub("", below) or below
    safe = _UNSAFE.sub(_escape, name.encode()).decode("ascii")
    if len(safe) > _MAX_ID:
        digest = hashlib.blake2b(safe.encode(), digest_size=16).hexdigest()
        safe = f"{safe[: _MAX_ID - len(digest) - 1]}-{digest}"
    return safe


def _escape(match: re.Match[bytes]) -> bytes:
    return b"--" if match[0] == b"/" else b"-.%02x" % ord(match[0])


def _etag(info: Mapping[str, Any]) -> str | None:
    """The ETag, else the modification time (local: nanoseconds), else None."""
    for key in ("ETag", "etag", "mtime", "LastModified", "last_modified"):
        if (value := info.get(key)) is not None:
            return str(int(value * 1e9)) if isinstance(value, float) else str(value)
    return None


def _refuse_unreadable(names: Iterable[str]) -> None:
    for name in names:
        if _UNREADABLE.search(name):
            raise ValueError(f"the name {name!r} is not UTF-8, or has '::' in it, fsspec's chain of file systems")


def _refuse_collisions(shards: Sequence[Shard]) -> None:
    ordered = sorted(shards, key=lambda shard: shard.id.lower())
    for one, other in itertools.pairwise(ordered):
        if one.id.lower() == other.id.lower():
            raise ValueError(f"{one.url} and {other.url} would share the shard id {one.id}")
