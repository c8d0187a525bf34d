"""The compact job on a real local Ray: what it does of what it is asked, and how it says what it cannot do."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from jobs.compact import run_compact
from jobs.job import JobError
from pipeline import schema
from pipeline.config_file import parse
from pipeline.datasets import SAMPLES, Dataset, compacted_of
from pipeline.run import Run, RunError

pytestmark = pytest.mark.usefixtures("local_ray")

PROFILES = Dataset("profiles", "main")


@pytest.fixture
def run(tmp_path) -> Run:
    """Samples of twelve shards of twenty rows."""
    run = Run(str(tmp_path / "run"))
    run.write_config(parse({"run": run.url, "input": {"shards": "x"}, "resources": {"gpus_per_actor": 1}}), ())
    write(run, SAMPLES, (schema.SHARD, schema.INDEX))
    return run


def write(run: Run, dataset: Dataset, columns: tuple[schema.Column, ...]) -> None:
    for shard in "abcdefghijkl":
        with run.part(dataset, shard, columns) as part:
            values = {"shard": shard, "cluster_id": 1, "cluster_distance": 0.5}
            part.write([{c.name: i if c is schema.INDEX else values[c.name] for c in columns} for i in range(20)])
            part.describe({"fingerprint": "f", "counts": {"rows": 20}})


def write_profiles(run: Run) -> None:
    write(run, PROFILES, (schema.SHARD, schema.INDEX, *schema.CLUSTER))


def compact(run: Run, *datasets: str, profiles: str | None = None, rows: int = 60, anew: bool = False) -> str:
    """What it says."""
    console = Console(file=io.StringIO(), width=200)
    run_compact(run.url, datasets, profiles, rows, False, anew, console)
    return console.file.getvalue()


def covered(run: Run, dataset: Dataset) -> int:
    """Compacted files in use."""
    return len(run.compacted(dataset, run.done(dataset)))


def test_the_profiles_by_default_and_again_nothing(run) -> None:
    write_profiles(run)
    assert "clusters of profiles/main: 12 shards in 4 files, 4 to make" in compact(run)
    assert (covered(run, PROFILES), covered(run, SAMPLES)) == (4, 0)
    assert "4 files, 0 to make" in compact(run)


def test_a_run_without_profiles_keeps_the_order_of_the_shards(run) -> None:
    assert "samples, in the order of the shards: 12 shards in 4 files, 4 to make" in compact(run, "samples")
    assert covered(run, SAMPLES) == 4
    write_profiles(run)
    with pytest.raises(RunError, match=r"order = 'samples', now it is 'profiles/main'; ask for the same, or .* --anew"):
        compact(run, "samples")
    assert "sorted by the clusters of profiles/main" in compact(run, "samples", anew=True)


def test_anew_makes_files_of_another_size(run) -> None:
    write_profiles(run)
    compact(run)
    assert "4 files, 0 to make" in compact(run, rows=120)
    assert "2 files, 2 to make" in compact(run, rows=120, anew=True)
    assert covered(run, PROFILES) == len(run.done(compacted_of(PROFILES))) == 2


def test_shards_that_wait_are_counted(run) -> None:
    write_profiles(run)
    run.remove(PROFILES, "l.parquet")
    assert "compact: 1 shards of samples wait for parts" in compact(run, "samples", "profiles/main")


def test_a_damaged_part_costs_its_file_alone_and_is_named(run, monkeypatch) -> None:
    monkeypatch.setattr("jobs.pool.BACKOFF_SECONDS", (0.0,))
    write_profiles(run)
    path = Path(run.part_path(PROFILES, "e"))
    data = bytearray(path.read_bytes())
    data[30:40] = bytes(10)
    path.write_bytes(data)
    with pytest.raises(JobError, match=r"1 of 4 files could not be made.*profiles/main/e\.parquet is damaged"):
        compact(run)
    assert run.failed() == set()
    assert covered(run, PROFILES) == 3


@pytest.mark.parametrize("text", ["../x", "profiles/", "profiles/a/b", "", "/etc"])
def test_what_can_be_no_dataset_is_refused(run, text) -> None:
    with pytest.raises(ValueError, match="is no dataset"):
        compact(run, text)


@pytest.mark.parametrize("arguments", [{}, {"profiles": "other"}])
def test_profiles_that_are_not_there_are_named(run, arguments) -> None:
    with pytest.raises(RunError, match=r"has no profiles/\w+ yet"):
        compact(run, **arguments)
    with pytest.raises(RunError, match="has no profiles/other yet"):
        compact(run, "samples", profiles="other")
