"""A real shard beside the checkout through the whole chain, with the default spotter."""

import hashlib
import json
import tarfile

import pytest

from pipeline.datasets import REJECTS, Dataset
from pipeline.run import Run
from tests.e2e.command import parrotscope, write_config

SHARD = "00006"


@pytest.fixture(scope="module")
def members(shared_data):
    with tarfile.open(shared_data / f"real/{SHARD}.tar") as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}


@pytest.fixture(scope="module")
def run(shared_data, tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("real")
    shards = str(shared_data / f"real/{SHARD}.tar")
    config = write_config(folder, shards, {"engine": "rapidocr"}, cluster={"k": 3, "pca_dim": 16})
    parrotscope("profile", str(config), folder=folder)
    return Run(str(folder / "run"))


def test_every_pair_is_a_row(run, members) -> None:
    rows = run.dataset(Dataset("profiles", "main")).to_table().to_pylist()
    captions = {name[:-4]: data.decode() for name, data in members.items() if name.endswith(".txt")}
    assert {row["key"]: row["caption"] for row in rows} == captions
    assert len(rows) == len(captions)
    assert run.dataset(REJECTS).count_rows() == 0
    assert all(row["spot_status"] == "ok" for row in rows)
    assert any(row["text_class"] == "co_emb" for row in rows)


def test_images_are_found_again_by_offset_and_size(run, members, shared_data) -> None:
    with (shared_data / f"real/{SHARD}.tar").open("rb") as tar:
        for row in run.dataset(Dataset("profiles", "main")).to_table().to_pylist():
            tar.seek(row["image_offset"])
            image = tar.read(row["image_size"])
            assert hashlib.sha256(image).hexdigest() == json.loads(members[f"{row['key']}.json"])["sha256"]


def test_polygons_lie_in_their_image(run) -> None:
    for row in run.dataset(Dataset("profiles", "main")).to_table().to_pylist():
        points = [point for word in row["spotted"] for point in word["polygon"]]
        assert all(0 <= p["x"] < row["width"] and 0 <= p["y"] < row["height"] for p in points)
        assert 0 <= row["text_area"] <= 1
