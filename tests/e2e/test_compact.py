"""`parrotscope compact` as a user runs it: over the demo's run, and killed on its way."""

import re
import shutil
import signal
from pathlib import Path

from pipeline import schema
from pipeline.config_file import parse
from pipeline.datasets import REJECTS, SAMPLES, Dataset, compacted_of
from pipeline.run import Run
from tests.benchmarks.query import draw_parts
from tests.e2e.command import parrotscope, start
from tests.e2e.test_resume import end_family, wait_until

PROFILES = Dataset("profiles", "main")
DATASETS = (PROFILES, Dataset("embeddings", "main"), Dataset("spotted", "main"), SAMPLES, REJECTS)
KEYS = [(column.name, "ascending") for column in (schema.SHARD, schema.INDEX)]


def sorted_rows(run: Run, dataset: Dataset):
    return run.dataset(dataset).to_table().sort_by(KEYS)


def assert_compacted(run: Run, dataset: Dataset) -> None:
    """All rows are read from compacted files, and are those of the parts."""
    assert all("compacted" in file for file in run.dataset(dataset).files)
    rows = sorted_rows(run, dataset)
    run.remove(compacted_of(dataset), "_compacted.json")
    assert rows.num_rows > 0
    assert rows.equals(sorted_rows(run, dataset))


def test_the_demo(chain, tmp_path) -> None:
    run = Run(str(tmp_path / "run"))
    shutil.copytree(chain.run.root, run.root)
    options = [option for dataset in DATASETS for option in ("--dataset", str(dataset))]
    before = parrotscope("table1", run.url, folder=tmp_path)
    said = parrotscope("compact", run.url, *options, "--rows", "200", folder=tmp_path)
    assert "profiles/main, sorted by the clusters of profiles/main: 4 shards in 2 files, 2 to make" in said
    assert "rejects, in the order of the shards: 4 shards in 2 files, 2 to make" in said
    assert "10/10 files" in said
    assert "0 to make" in parrotscope("compact", run.url, folder=tmp_path)
    after = parrotscope("table1", run.url, folder=tmp_path)
    assert after.replace("Read from 2 compacted files and 0 parts.\n", "") == before
    assert "compacted: 4 shards of samples in 2 files" in parrotscope("status", run.url, folder=tmp_path)
    refused = parrotscope("compact", run.url, "--dataset", "embeddings/main", "--float32", folder=tmp_path, status=1)
    assert "float32 = False, now it is True" in refused
    parrotscope("compact", run.url, "--dataset", "embeddings/main", "--float32", "--anew", folder=tmp_path)
    for dataset in DATASETS:
        assert_compacted(run, dataset)


def test_killed_and_started_again(tmp_path) -> None:
    run = Run(str(tmp_path / "run"))
    run.write_config(parse({"run": run.url, "input": {"shards": "x"}}), ())
    draw_parts(run, parts=40, part_rows=100)
    command, folder = ("compact", run.url, "--rows", "100"), compacted_of(PROFILES)
    process = start(*command, folder=tmp_path)
    wait_until(lambda: len(run.done(folder)) >= 3, process)
    process.send_signal(signal.SIGKILL)
    end_family(process)
    made = {name: Path(run.part_path(folder, name)).stat() for name in run.done(folder)}
    assert len(made) < 40
    assert run.compacted(PROFILES, run.done(PROFILES)) == {}
    (left,) = re.findall(r"40 files, (\d+) to make", parrotscope(*command, folder=tmp_path))
    assert 0 < int(left) <= 40 - len(made)  # a worker may end its file before it learns that its driver is gone
    assert {name: Path(run.part_path(folder, name)).stat() for name in made} == made
    assert not list(Path(run.root).rglob("*.tmp"))
    assert_compacted(run, PROFILES)
