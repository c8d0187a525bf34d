"""Killed at any moment and started again, a run ends with the rows of an undisturbed one: none lost, none twice."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.datasets import REJECTS, SAMPLES, Dataset
from pipeline.run import Run
from tests.e2e.command import parrotscope, start, truth_spotter, write_config

DATASETS = (
    SAMPLES,
    REJECTS,
    Dataset("embeddings", "main"),
    Dataset("spotted", "main"),
    Dataset("profiles", "main"),
)
SLOW = 0.02
"""Seconds the spotter takes per image here, so that there is time to kill something."""


def parts(run: Run, dataset: Dataset) -> int:
    return len(run.done(dataset))


def spools(run: Run) -> int:
    return sum(1 for _ in Path(run.root).rglob("*.tmp"))


MOMENTS: dict[str, Callable[[Run], bool]] = {
    "while the first shards are read": lambda run: spools(run) > 0,
    "after some shards": lambda run: parts(run, Dataset("spotted", "main")) >= 2,
    "while profiling or before it": lambda run: (Path(run.root) / "clusters").exists(),
    "after some profiles": lambda run: parts(run, Dataset("profiles", "main")) >= 1,
}


def wait_until(happened: Callable[[], bool], process) -> None:
    """Fail, with what the command said, where that does not happen while it runs."""
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        if happened():
            return
        time.sleep(0.005)
    if not happened():
        process.terminate()
        pytest.fail("\n".join(process.communicate(timeout=60)))


def end_family(process) -> None:
    """What a killed driver leaves: Ray ends its own processes; wait for that."""
    process.communicate(timeout=60)


def writers(run: Run, driver: int) -> list[int]:
    """Processes of workers that are within a shard, told by the names of their unfinished parts."""
    spools = (Path(run.root) / "samples").glob(".*.tmp")
    return [pid for pid in (int(spool.name.split("~")[1]) for spool in spools) if pid != driver]


def assert_same_rows(run: Run, chain) -> None:
    for dataset in DATASETS:
        assert run.done(dataset) == chain.run.done(dataset)
        for shard in sorted(run.done(dataset)):
            # Also the embeddings: the same machine gives the same bytes.
            assert run.read_part(dataset, shard).equals(chain.run.read_part(dataset, shard)), (dataset, shard)


@pytest.fixture
def config(demo, tmp_path) -> Path:
    return write_config(tmp_path, f"{demo}/*.tar", truth_spotter(demo, SLOW))


@pytest.mark.parametrize("moment", MOMENTS)
def test_driver_killed(chain, config, tmp_path, moment) -> None:
    run = Run(str(tmp_path / "run"))
    process = start("profile", str(config), folder=tmp_path)
    wait_until(lambda: MOMENTS[moment](run), process)
    process.send_signal(signal.SIGKILL)
    end_family(process)
    parrotscope("profile", str(config), folder=tmp_path)
    assert_same_rows(run, chain)


def test_worker_killed(chain, config, tmp_path) -> None:
    """The driver replaces the worker by itself: one command, and it ends well."""
    run = Run(str(tmp_path / "run"))
    process = start("profile", str(config), folder=tmp_path)
    found: list[int] = []
    wait_until(lambda: bool(found.extend(writers(run, process.pid)) or found), process)
    os.kill(found[0], signal.SIGKILL)
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    assert "to be tried again" in out
    assert_same_rows(run, chain)
    assert run.failed() == set()


def test_driver_stopped_by_hand(chain, config, tmp_path) -> None:
    run = Run(str(tmp_path / "run"))
    process = start("profile", str(config), folder=tmp_path)
    wait_until(lambda: spools(run) > 0, process)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command resumes" in error
    assert "Traceback" not in error
    parrotscope("profile", str(config), folder=tmp_path)
    assert_same_rows(run, chain)


def test_clip_and_spotter_may_run_apart(chain, config, tmp_path) -> None:
    run = Run(str(tmp_path / "run"))
    parrotscope("extract", str(config), "--only", "spot", folder=tmp_path)
    assert run.done(Dataset("embeddings", "main")) == set()
    refused = parrotscope("cluster", str(config), folder=tmp_path, status=1)
    assert "4 shards have no embeddings yet" in refused
    parrotscope("extract", str(config), "--only", "clip", folder=tmp_path)
    parrotscope("profile", str(config), folder=tmp_path)
    assert_same_rows(run, chain)
