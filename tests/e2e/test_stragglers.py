"""The tail of an extract job on a real local Ray: a slow worker holds it up no longer than a copy takes."""

import io
import time
from pathlib import Path

import pytest
from rich.console import Console

from jobs.extract import run_extract
from pipeline.config_file import load
from pipeline.datasets import REJECTS, SAMPLES, Dataset
from pipeline.run import Run
from tests.e2e.command import BLANK, write_config
from tests.pipeline.shard_factory import samples, tar

pytestmark = pytest.mark.usefixtures("local_ray")

SPOTTED = Dataset("spotted", "main")
SLOW_SECONDS = 20.0


def extract(folder: Path, spotting: dict, **resources: object) -> tuple[Run, str]:
    config = load(str(write_config(folder, f"{folder}/*.tar", spotting, resources=resources)), ())
    out = io.StringIO()
    run_extract(config, Console(file=out, width=1000), ("spot",))
    return Run(config.run), out.getvalue()


def test_a_slow_worker_is_overtaken_and_the_display_names_its_shard(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("jobs.stragglers.MIN_SECONDS", 2.0)
    monkeypatch.setattr("jobs.progress.LOG_SECONDS", 0.5)
    for number in range(6):
        (tmp_path / f"{number}.tar").write_bytes(tar(samples(5)))
    settings = {"folder": str(tmp_path), "seconds": SLOW_SECONDS}
    start = time.monotonic()
    run, said = extract(
        tmp_path, {"engine": "custom", "target": "tests.e2e.slow_spotter:SlowSpotter", "settings": settings}
    )
    # Alone, the slow worker would need 100 s for its shard.
    assert time.monotonic() - start < 60
    assert run.done(SPOTTED) == {str(number) for number in range(6)}
    one = run.read_part(SPOTTED, "0").drop_columns(["shard", "uid"])
    for number in range(6):
        assert run.read_part(SPOTTED, str(number)).drop_columns(["shard", "uid"]).equals(one)
        assert run.read_part(SAMPLES, str(number)).num_rows == 5
        assert run.read_part(REJECTS, str(number)).num_rows == 0
    assert "1 at work, 1 idle" in said
    assert ", slowest " in said
    assert "to be tried again" not in said


def test_the_largest_shards_come_first(tmp_path) -> None:
    sizes = {"a": 2, "b": 30, "c": 9, "d": 90}
    for name, count in sizes.items():
        (tmp_path / f"{name}.tar").write_bytes(tar(samples(count)))
    run, _ = extract(tmp_path, BLANK, max_actors=1)
    ended = {name: Path(run.part_path(SPOTTED, name)).stat().st_mtime_ns for name in sizes}
    assert sorted(ended, key=ended.__getitem__) == ["d", "b", "c", "a"]
