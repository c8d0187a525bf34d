"""Which shards a run reads: patterns resolved to URLs, and ids that depend on no bucket and no machine."""

import contextlib
import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from pipeline.braces import count_expansions, expand
from pipeline.storage import canonical, etag_of, locate, refuse_unreadable, storage_errors

MAX_EXPANSIONS = 10_000_000
MAX_CHARACTERS = 1 << 31

_MAX_ID = 180  # a file name may have 255 bytes, and parts add a suffix
_HTTP_REQUESTS = 32
_SUFFIX = re.compile(r"\.(tar|tar\.gz|tgz)$", re.IGNORECASE)
_GLOB = re.compile(r"[*?\[]")
_PATTERN = re.compile(r"[*?\[{\\]")
# A leading dot or underscore hides a file from pyarrow's datasets. The first alternative keeps the escapes
# ("--" and "-.xx") apart from names that look like them.
_UNSAFE = re.compile(rb"-(?=[^A-Za-z0-9_])|^[._]|[^A-Za-z0-9._-]")
_DATACOMP_UID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Shard:
    """One tar: file name in a run, URL, size in bytes, and ETag (a modification time if there is none).

    `sampled`: the run reads it; one that is not is known, so that statistics know what they are a sample of.
    """

    id: str
    url: str
    size: int | None
    etag: str | None
    sampled: bool = True


@dataclass(frozen=True)
class _Pattern:
    """One pattern on its file system; `path` is absolute, without protocol, its braces and globs as given."""

    text: str
    fs: Any
    path: str

    def paths(self) -> Iterator[str]:
        """Its paths, braces expanded."""
        return (canonical(self.fs, path) for path in expand(self.path))

    def url(self, path: str) -> str:
        """The URL of a path this pattern led to."""
        protocol = self.text.removesuffix(self.path)
        if protocol == self.text or isinstance(self.fs, LocalFileSystem):
            return str(self.fs.unstrip_protocol(path))
        return protocol + path  # with the host, which sftp's or hdfs's paths lack


def list_shards(patterns: Sequence[str], root: str | None = None) -> list[Shard]:
    """The shards of some patterns, sorted by URL, each once.

    A pattern is a path or fsspec URL with braces, globs or both, or a list file (`@file`, or a name ending in
    .txt) of a pattern a line, `#` for comments. A folder is listed once, not asked for file by file. `..` in a
    local path goes by names, whatever is a link.

    A shard's id is its path below `root` (the common parent of the patterns' fixed parts if None; name it if
    patterns may be added later) without .tar, .tar.gz or .tgz, "/" written as "--", other characters than
    [A-Za-z0-9._-] as "-.xx".

    Raises ValueError for a pattern that matches nothing, more than MAX_EXPANSIONS names to look for, a URL that
    `locate` refuses, a shard outside `root`, a name that is not UTF-8 or has "::" in it, and two shards of one id
    (case aside); FileNotFoundError for a URL or brace expansion that is not there; OSError for what storage says.
    """
    entries = [_Pattern(text, *locate(text)) for given in patterns for text in pattern_lines(given)]
    if not entries:
        raise ValueError(f"no shard pattern in {list(patterns)}")
    _refuse_bombs(entries)
    base = _common_parent(entries) if root is None else _folder(canonical(*locate(root)))
    found: dict[str, tuple[str, Mapping[str, Any]]] = {}  # URL to path and fsspec's info
    literals: dict[tuple[Any, str], dict[str, str]] = {}  # file system and folder to paths and their URLs
    for entry in entries:
        for path in entry.paths():
            if _GLOB.search(_location(path)):
                found |= {entry.url(match): (match, info) for match, info in _glob(entry, path)}
            else:
                where = (entry.fs, path.rpartition("/")[0])
                literals.setdefault(where, {})[path] = entry.url(path)
    missing = []
    for (fs, folder), files in literals.items():
        with storage_errors(next(iter(files.values()))):
            infos = _infos(fs, folder, list(files))
        missing += [url for path, url in files.items() if path not in infos]
        found |= {url: (path, infos[path]) for path, url in files.items() if path in infos}
    if missing:
        many = f"{len(missing)} shards do not exist, the first of them"
        raise FileNotFoundError(f"{many if len(missing) > 1 else 'there is no shard'} {missing[0]}")
    refuse_unreadable(path for path, _ in found.values())
    shards = [
        Shard(_shard_id(url, path, base), url, info.get("size"), etag_of(info))
        for url, (path, info) in sorted(found.items())
    ]
    _refuse_collisions(shards)
    return shards


def sample_shards(shards: Sequence[Shard], share: float) -> list[Shard]:
    """The shards, marked: `sampled` are ceil(share * n) of them, those of the smallest hashes of their ids.

    A larger share of the same shards takes in all of a smaller one.
    """
    ranks = sorted(shards, key=lambda shard: hashlib.blake2b(shard.id.encode(), digest_size=16).digest())
    chosen = {shard.id for shard in ranks[: math.ceil(share * len(shards))]}
    return [replace(shard, sampled=shard.id in chosen) for shard in shards]


def told_sample(collection: Sequence[Shard]) -> str | None:
    """What the sampled shards are of the collection, in words; None if they are all of it."""
    sampled = [shard for shard in collection if shard.sampled]
    if len(sampled) == len(collection):
        return None
    part, whole = (sum(shard.size or 0 for shard in shards) for shards in (sampled, collection))
    told = f"a sample of {len(sampled):,} of {len(collection):,} shards"
    return f"{told}, {part / whole:.2%} of their bytes" if whole else told


def sample_uid(shard_id: str, index: int, key: str, metadata: Mapping[str, Any]) -> str:
    """32 hex digits: DataComp's own uid if the json has one, else blake2b of shard id, index and key."""
    uid = metadata.get("uid")
    if isinstance(uid, str) and _DATACOMP_UID.fullmatch(uid):
        return uid
    return hashlib.blake2b(json.dumps([shard_id, index, key]).encode(), digest_size=16).hexdigest()


def pattern_lines(pattern: str) -> Iterator[str]:
    """The pattern, or the patterns in the list file it names."""
    if not pattern.startswith("@") and not pattern.endswith(".txt"):
        yield pattern
        return
    fs, path = locate(file := pattern.removeprefix("@"))
    try:
        with storage_errors(file), fs.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                if (text := line.strip()) and not text.startswith("#"):
                    if text.startswith("@") or text.endswith(".txt"):
                        raise ValueError(f"{text!r} in it is a list itself: name it beside this one")
                    yield text
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no list of shards {file}") from None


def _refuse_bombs(entries: Sequence[_Pattern]) -> None:
    names = characters = 0
    for entry in entries:
        names += (count := count_expansions(entry.path))
        characters += count * len(entry.path)
        if names > MAX_EXPANSIONS or characters > MAX_CHARACTERS:
            raise ValueError(
                f"{entry.text} makes it {names} shards to look for, more than {MAX_EXPANSIONS}, or with too long names"
            )


def _glob(entry: _Pattern, path: str) -> list[tuple[str, Mapping[str, Any]]]:
    with storage_errors(entry.text):
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
    web = "http" in fs.protocol

    def ask(path: str) -> Mapping[str, Any]:
        try:
            return fs.info(path)  # type: ignore[no-any-return]
        except FileNotFoundError as error:
            # Of a web file fsspec says so whatever went wrong.
            if web and (cause := error.__cause__) and getattr(cause, "status", None) != HTTPStatus.NOT_FOUND:
                raise cause from None
            return {"type": "directory"}

    infos: dict[str, Mapping[str, Any]] = {}
    if len(paths) == 1 or web:  # a web server lists no sizes, if it lists at all
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
    fixed = {
        canonical(entry.fs, _PATTERN.split(_location(entry.path), maxsplit=1)[0].rpartition("/")[0])
        for entry in entries
    }
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


def _refuse_collisions(shards: Sequence[Shard]) -> None:
    ordered = sorted(shards, key=lambda shard: shard.id.lower())
    for one, other in itertools.pairwise(ordered):
        if one.id.lower() == other.id.lower():
            raise ValueError(f"{one.url} and {other.url} would share the shard id {one.id}")
