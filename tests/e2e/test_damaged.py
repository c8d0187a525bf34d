"""Damaged shards beside sound ones, through the real command: what is lost is told, what is whole is kept."""

import gzip
from pathlib import Path

import pytest

from pipeline.datasets import REJECTS, SAMPLES, Dataset
from pipeline.run import Run
from tests.e2e.command import BLANK, parrotscope, write_config
from tests.pipeline.shard_factory import offsets, picture, sample, samples, tar

GOOD = tar(samples(10))
PLACES = offsets(GOOD)


def key(number: int) -> str:
    return f"{number:09d}"


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


# Name → bytes, keys kept, and reasons of the rejects (with a sample: index not null) in order.
SHARDS: dict[str, tuple[bytes, list[str], list[tuple[str | None, str]]]] = {
    "good": (GOOD, [key(n) for n in range(10)], []),
    "zipped": (gzip.compress(GOOD, mtime=0), [key(n) for n in range(10)], []),
    "cut-at-member": (
        GOOD[: PLACES[f"{key(5)}.jpg"].offset],
        [key(n) for n in range(5)],
        [(None, "no_end_marker")],
    ),
    "cut-in-member": (
        GOOD[: PLACES[f"{key(5)}.jpg"].offset_data + 100],
        [key(n) for n in range(5)],
        [(key(5), "truncated"), (None, "no_end_marker")],
    ),
    "cut-between-jpg-and-txt": (
        GOOD[: PLACES[f"{key(5)}.txt"].offset],
        [key(n) for n in range(5)],
        [(key(5), "truncated"), (None, "no_end_marker")],
    ),
    "bad-header": (
        flip(GOOD, PLACES[f"{key(5)}.jpg"].offset + 150),
        [key(n) for n in range(10) if n != 5],
        [(None, "bad_header"), (key(5), "half_sample")],
    ),
    "duplicate-key": (
        tar([*samples(3), *sample(1), *sample(3)]),
        [key(n) for n in range(4)],
        [(key(1), "duplicate_key")],
    ),
    "no-image": (
        tar([*sample(0), (f"{key(1)}.jpg", b"GIF89a?"), (f"{key(1)}.txt", b"x"), ("2.cls", b"3"), *sample(3)]),
        [key(0), key(3)],
        [(key(1), "undecodable_image"), ("2", "half_sample")],
    ),
    "no-caption": (tar([("0.jpg", picture()), *sample(1)]), [key(1)], [("0", "missing_caption")]),
    "end-blocks-only": (bytes(10240), [], []),
    "zero-bytes": (b"", [], [(None, "no_end_marker")]),
    "not-a-tar": (b"<html>not found</html>" * 100, [], [(None, "bad_header"), (None, "no_end_marker")]),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("damaged")
    for name, (data, _, _) in SHARDS.items():
        suffix = ".tar.gz" if name == "zipped" else ".tar"
        Path(folder, name + suffix).write_bytes(data)
    config = write_config(folder, f"{folder}/*.tar*", BLANK)
    parrotscope("extract", str(config), folder=folder)
    return Run(str(folder / "run"))


@pytest.mark.parametrize("shard", SHARDS)
def test_whole_samples_are_kept_and_the_rest_has_its_reason(run, shard) -> None:
    _, kept, rejected = SHARDS[shard]
    assert run.read_part(SAMPLES, shard)["key"].to_pylist() == kept
    rejects = run.read_part(REJECTS, shard).to_pylist()
    assert sorted((r["key"] or "", r["reason"]) for r in rejects) == sorted((k or "", r) for k, r in rejected)
    assert all((r["index"] is None) == (r["key"] is None) for r in rejects)
    for dataset in (Dataset("embeddings", "main"), Dataset("spotted", "main")):
        assert run.read_part(dataset, shard)["key"].to_pylist() == kept


def test_a_shard_that_vanished_is_set_aside_and_the_job_names_it(tmp_path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.tar").write_bytes(tar(samples(3)))
    config = write_config(tmp_path, f"{tmp_path}/*.tar", BLANK, resources={"attempts": 1})
    run = Run(str(tmp_path / "run"))
    parrotscope("extract", str(config), "--only", "spot", folder=tmp_path)
    (tmp_path / "a.tar").unlink()
    said = parrotscope("extract", str(config), folder=tmp_path, status=1)
    assert "1 of 2 shards were set aside: a;" in said
    assert run.done(Dataset("embeddings", "main")) == {"b"}
    status = parrotscope("status", run.url, folder=tmp_path)
    assert "failed shards: 1" in status
    assert "FileNotFoundError" in status
    (tmp_path / "a.tar").write_bytes(tar(samples(3)))


def test_an_attempt_that_made_nothing_binds_nobody(tmp_path) -> None:
    """A mistake in the configuration can be mended in the same run; lost and damaged parts are made again."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.tar").write_bytes(tar(samples(12)))
    run = Run(str(tmp_path / "run"))
    broken = write_config(tmp_path, f"{tmp_path}/*.tar", {"engine": "custom", "target": "tests.e2e.nowhere:No"})
    assert "tests.e2e.nowhere:No" in parrotscope("profile", str(broken), folder=tmp_path, status=1)
    assert not Path(run.root).exists()
    config = str(write_config(tmp_path, f"{tmp_path}/*.tar", BLANK))
    assert "4 clusters need 156 embeddings" in parrotscope("profile", config, folder=tmp_path, status=1)
    smaller = ["--set", "cluster.k=2", "--set", "cluster.min_points_per_centroid=5"]
    parrotscope("profile", config, *smaller, folder=tmp_path)
    profiles = Dataset("profiles", "main")
    whole = run.read_part(profiles, "a")
    Path(run.part_path(profiles, "a")).unlink()
    Path(run.part_path(Dataset("spotted", "main"), "a")).write_bytes(b"PAR1 damaged PAR1")
    said = parrotscope("profile", config, *smaller, folder=tmp_path, status=1)
    assert "spotted/main/a.parquet is damaged" in said
    Path(run.part_path(Dataset("spotted", "main"), "a")).unlink()
    parrotscope("profile", config, *smaller, folder=tmp_path)
    assert run.read_part(profiles, "a").equals(whole)


def test_no_shard_at_all_is_an_error(tmp_path) -> None:
    config = write_config(tmp_path, f"{tmp_path}/*.tar", BLANK)
    said = parrotscope("extract", str(config), folder=tmp_path, status=1)
    assert f"{tmp_path}/*.tar" in said
    assert "Traceback" not in said
