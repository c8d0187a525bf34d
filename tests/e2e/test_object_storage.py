"""Shards and runs on a real S3 server on the loopback address: the rows are those of a local run."""

import io
import random
import signal
import tarfile
import tempfile
import uuid
from pathlib import Path

import fsspec
import pytest

from pipeline.datasets import REJECTS, SAMPLES, Dataset
from pipeline.run import Run
from pipeline.shards import list_shards
from tests.e2e.command import BLANK, parrotscope, start, write_config
from tests.e2e.test_resume import wait_until
from tests.faulty_proxy import FaultyProxy, StorageFault
from tests.pipeline.shard_factory import encode, samples, tar
from tests.s3_server import s3_server

DATASETS = (SAMPLES, REJECTS, *(Dataset(kind, "main") for kind in ("embeddings", "spotted", "profiles")))
CLUSTER = {"k": 2, "pca_dim": 8, "min_points_per_centroid": 5}


def noisy(number: int) -> list[tuple[str, bytes]]:
    """Samples of pictures that do not compress: shards large enough to be cut in the middle."""
    from PIL import Image

    pixels = [Image.effect_noise((96, 96), 80 + i).convert("RGB") for i in range(20)]
    members = []
    for i, picture in enumerate(pixels):
        key = f"{number:05d}{i:04d}"
        members += [(f"{key}.jpg", encode(picture)), (f"{key}.txt", f"noise {i}".encode())]
    return members


@pytest.fixture(scope="module")
def shards() -> dict[str, bytes]:
    return {"a/00000.tar": tar(noisy(0)), "a/00001.tar": tar(noisy(1)), "b/00000.tar": tar(samples(12))}


@pytest.fixture(scope="module")
def server(shards):
    """The port of an S3 server that holds the shards."""
    with s3_server() as port:
        fs = fsspec.filesystem("s3", skip_instance_cache=True)
        for name, data in shards.items():
            fs.pipe_file(f"bucket/shards/{name}", data)
        yield port


@pytest.fixture(scope="module")
def local(shards, tmp_path_factory) -> Run:
    """The same shards profiled on the local disk."""
    folder = tmp_path_factory.mktemp("local")
    for name, data in shards.items():
        path = folder / "shards" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    config = write_config(folder, f"{folder}/shards/**/*.tar", BLANK, cluster=CLUSTER)
    parrotscope("profile", str(config), folder=folder)
    return Run(str(folder / "run"))


def on_s3(folder: Path) -> tuple[str, Run]:
    """A config of a new run on S3, and the run."""
    url = f"s3://bucket/runs/{uuid.uuid4().hex}"
    file = write_config(folder, "s3://bucket/shards/**/*.tar", BLANK, cluster=CLUSTER)
    file.write_text(file.read_text().replace(str(folder / "run"), url))
    return str(file), Run(url)


def assert_same_rows(run: Run, local: Run) -> None:
    for dataset in DATASETS:
        assert run.done(dataset) == local.done(dataset)
        for shard in local.done(dataset):
            assert run.read_part(dataset, shard).equals(local.read_part(dataset, shard)), (dataset, shard)


def test_ids_do_not_depend_on_the_bucket(server, local) -> None:
    listed = list_shards(["s3://bucket/shards/**/*.tar"])
    assert [shard.id for shard in listed] == [shard.id for shard in local.shards()]
    assert all(shard.etag for shard in listed)


@pytest.fixture
def ray_folder(monkeypatch):
    """Where Ray keeps its logs; not below tmp_path, for a socket's path has at most 107 characters."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        yield Path(folder)


def test_a_run_on_s3_has_the_rows_of_a_local_one(server, local, ray_folder, tmp_path) -> None:
    config, run = on_s3(tmp_path)
    output = parrotscope("profile", config, folder=tmp_path)
    assert_same_rows(run, local)
    assert run.config().run == run.url
    kept = output + run.fs.cat_file(run.path("run.yaml")).decode() + parrotscope("status", run.url, folder=tmp_path)
    logs = "".join(file.read_text(errors="replace") for file in ray_folder.rglob("*.*") if file.is_file())
    assert "worker" in logs
    for credential in ("the-test-secret", "the-test-id"):
        assert credential not in kept
        assert credential not in logs
    assert "extract: 3 shards, 0 to do" in parrotscope("profile", config, folder=tmp_path)


def test_images_are_read_by_range(server, local) -> None:
    fs = fsspec.filesystem("s3")
    for row in local.read_part(SAMPLES, "a--00001").to_pylist():
        start_, end = row["image_offset"], row["image_offset"] + row["image_size"]
        image = fs.cat_file("bucket/shards/a/00001.tar", start=start_, end=end)
        with tarfile.open(fileobj=io.BytesIO(fs.cat_file("bucket/shards/a/00001.tar"))) as whole:
            assert image == whole.extractfile(f"{row['key']}.jpg").read()


def test_a_killed_driver_leaves_no_half_object_and_its_run_resumes(server, local, tmp_path) -> None:
    config, run = on_s3(tmp_path)
    process = start("profile", config, folder=tmp_path)
    wait_until(lambda: len(run.done(SAMPLES)) > 0, process)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    parrotscope("profile", config, folder=tmp_path)
    assert_same_rows(run, local)


@pytest.fixture
def proxy(server):
    """In front of the server, for who takes its port."""
    proxy = FaultyProxy(server)
    yield proxy
    proxy.close()


@pytest.mark.parametrize("seed", [1, 2])
def test_connections_cut_at_random_offsets_lose_nothing(proxy, local, tmp_path, monkeypatch, seed) -> None:
    rng = random.Random(seed)
    cuts = [StorageFault(kind, rng.randrange(40), rng.random()) for kind in ("cut answer", "cut upload") * 6]
    proxy.arm(cuts)
    config, run = on_s3(tmp_path)
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
        parrotscope("extract", config, folder=tmp_path)
    assert {fault.kind for fault in proxy.struck} == {"cut answer", "cut upload"}
    parrotscope("profile", config, folder=tmp_path)
    assert_same_rows(run, local)


@pytest.mark.parametrize("member", [4, 21])
def test_a_connection_cut_where_a_member_begins_loses_nothing(
    proxy, local, shards, tmp_path, monkeypatch, member
) -> None:
    """What came is a sound beginning of a tar, and only its length tells that it is not the whole."""
    with tarfile.open(fileobj=io.BytesIO(shards["a/00000.tar"])) as archive:
        boundary = archive.getmembers()[member].offset
    proxy.arm([StorageFault("cut answer", 0, name="a/00000.tar", at=boundary)] * 2)
    config, run = on_s3(tmp_path)
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
        parrotscope("extract", config, folder=tmp_path)
    assert len(proxy.struck) == 2
    assert "no_end_marker" not in {row["reason"] for row in run.dataset(REJECTS).to_table().to_pylist()}
    parrotscope("profile", config, folder=tmp_path)
    assert_same_rows(run, local)
