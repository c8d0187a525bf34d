"""Samples that kill their worker, in real workers: each becomes a reject, and costs no other sample a byte."""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from PIL import Image
from rich.console import Console

from jobs.extract import run_extract
from jobs.job import JobError
from pipeline.config_file import load
from pipeline.datasets import REJECTS, SAMPLES, Dataset
from pipeline.run import Run
from tests.e2e.command import write_config
from tests.e2e.poison_spotter import DEADLY
from tests.pipeline.shard_factory import Members, encode, sample, tar

pytestmark = pytest.mark.usefixtures("local_ray")

EMBEDDINGS, SPOTTED = Dataset("embeddings", "main"), Dataset("spotted", "main")
BATCH = 4


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch) -> None:
    monkeypatch.setattr("jobs.pool.BACKOFF_SECONDS", (0.0,))


def shard(count: int, deadly: dict[int, str]) -> Members:
    """`count` samples, of which some have a deadly picture."""
    members: list[tuple[str, bytes]] = []
    for number in range(count):
        image, *rest = sample(number)
        if number in deadly:
            image = (image[0], encode(Image.new("RGB", (8, 6), DEADLY[deadly[number]]), "PNG"))
        members += [image, *rest]
    return members


def extract(folder: Path, armed: bool, parts=("spot",), **resources) -> tuple[Run, str]:
    """Extract the shards in `folder`; the run and what was said."""
    name = "armed" if armed else "undisturbed"
    spotting = {
        "engine": "custom",
        "target": "tests.e2e.poison_spotter:PoisonSpotter",
        "settings": {"armed": armed},
    }
    sections = {
        "clip": {"model": "embedded", "batch_size": BATCH, "device": "cpu"},
        "resources": {"attempts": 1, **resources},
    }
    config = load(str(write_config(folder, f"{folder}/*.tar", spotting, name, **sections)), ())
    out = io.StringIO()
    run_extract(config, Console(file=out, width=1000), parts)
    return Run(config.run), out.getvalue()


def without(table: pa.Table, indexes: list[int]) -> pa.Table:
    return table.filter(pc.invert(pc.is_in(table["index"], pa.array(indexes, pa.int32()))))


def test_each_way_to_die_costs_its_sample_alone(tmp_path) -> None:
    """In one shard each: two in a batch, of them the first of the shard; the last; one as it is decoded; a batch."""
    shards = {
        "two": {0: "segfault", 2: "exit"},
        "last": {9: "killed"},
        "memory": {6: "memory"},
        "decoded": {4: "decode"},
        "heavy": {5: "heavy"},
        "sound": {},
    }
    for name, deadly in shards.items():
        (tmp_path / f"{name}.tar").write_bytes(tar(shard(10, deadly)))
    undisturbed, _ = extract(tmp_path, armed=False)
    run, said = extract(tmp_path, armed=True)
    for name, deadly in shards.items():
        crashed = [] if name == "heavy" else list(deadly)
        for dataset in (SAMPLES, SPOTTED):
            whole = undisturbed.read_part(dataset, name)
            assert whole.num_rows == 10
            assert run.read_part(dataset, name).equals(without(whole, crashed)), (name, dataset)
        rejects = run.read_part(REJECTS, name).to_pylist()
        assert [(row["index"], row["key"], row["reason"]) for row in rejects] == [
            (index, f"{index:09d}", "crashed") for index in crashed
        ]
        told = "MemoryError; it was running alone" if name == "memory" else "the worker process died: "
        assert all(row["message"].startswith(told) for row in rejects)
    assert run.failed() == set()
    assert "55 samples" in said.splitlines()[-1]


def test_embeddings_beside_a_crash_are_those_of_an_undisturbed_run(tmp_path) -> None:
    (tmp_path / "a.tar").write_bytes(tar(shard(7, {5: "segfault"})))
    undisturbed, _ = extract(tmp_path, armed=False, parts=("clip", "spot"))
    run, _ = extract(tmp_path, armed=True, parts=("clip", "spot"), max_actors=1)
    for dataset in (SAMPLES, EMBEDDINGS, SPOTTED):
        assert run.read_part(dataset, "a").equals(without(undisturbed.read_part(dataset, "a"), [5]))


def test_a_sample_that_kills_a_later_pass_stays_a_row(tmp_path) -> None:
    (tmp_path / "a.tar").write_bytes(tar(shard(6, {1: "segfault"})))
    extract(tmp_path, armed=True, parts=())
    run, _ = extract(tmp_path, armed=True, max_actors=1)
    spotted = run.read_part(SPOTTED, "a").to_pylist()
    assert [row["index"] for row in spotted] == run.read_part(SAMPLES, "a")["index"].to_pylist() == list(range(6))
    assert [row["spot_status"] for row in spotted] == ["ok", "failed", *["ok"] * 4]
    assert "the worker process died" in spotted[1]["spot_message"]
    assert run.read_part(REJECTS, "a").num_rows == 0


def test_a_sample_that_hangs_is_as_one_that_kills(tmp_path) -> None:
    (tmp_path / "a.tar").write_bytes(tar(shard(6, {2: "hang"})))
    run, said = extract(tmp_path, armed=True, max_actors=1, stall_seconds=3)
    assert run.read_part(SAMPLES, "a")["index"].to_pylist() == [0, 1, 3, 4, 5]
    (reject,) = run.read_part(REJECTS, "a").to_pylist()
    assert (reject["index"], reject["reason"]) == (2, "crashed")
    assert "nothing was heard of the worker for 3 s" in reject["message"]
    assert "nothing was heard of the worker for 3 s" in said


def test_a_shard_of_which_every_sample_kills_is_set_aside(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("jobs.search.MAX_FOUND", 0)
    (tmp_path / "a.tar").write_bytes(tar(shard(4, dict.fromkeys(range(4), "exit"))))
    (tmp_path / "b.tar").write_bytes(tar(shard(4, {})))
    with pytest.raises(JobError, match="1 of 2 shards were set aside: a"):
        extract(tmp_path, armed=True)
    run = Run(str(tmp_path / "armed"))
    assert run.done(SPOTTED) == {"b"}
    assert "more than 0 samples end their workers (0)" in run.read_json("errors", "a.json")["errors"][-1]
