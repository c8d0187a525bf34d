"""Thousands of shards on object storage: a resumed job and `status` list them, and make no call for each."""

from collections import Counter
from pathlib import Path

import pytest

from jobs.console import make_console
from jobs.extract import run_extract
from jobs.status import print_status
from pipeline import schema
from pipeline.claims import claim
from pipeline.config import Config
from pipeline.config_file import parse
from pipeline.datasets import SAMPLES, spotted_of
from pipeline.part_counts import KEPT_FROM
from pipeline.run import Run
from pipeline.shards import list_shards
from tests.e2e.command import BLANK
from tests.s3_requests import counted_requests, put
from tests.s3_server import s3_server

PAGE = 1_000
"""Keys that S3 gives in one answer."""

ROWS = 7
OTHER_CALLS = 30
"""Requests for what there is one of in a run, at most."""


@pytest.fixture(scope="module")
def server():
    with s3_server():
        yield


def finished_run(name: str, shards: int, folder: Path) -> Config:
    """A run on S3 that has spotted all of its shards, which are empty files; every part is one and the same."""
    values = {"run": f"s3://bucket/runs/{name}", "input": {"shards": f"s3://bucket/{name}/*.tar"}, "spotting": BLANK}
    config = parse(values)
    put((f"{name}/{number:06d}.tar" for number in range(shards)), b"")
    run = Run(config.run)
    run.write_config(config, ())
    run.write_shards(list_shards(config.input.shards))
    local = Run(str(folder))
    with local.part(SAMPLES, "part", schema.SAMPLES) as part:
        part.describe({"counts": {"rows": ROWS, "rejects": 1, "reject_no_image": 1}})
    data = Path(local.part_path(SAMPLES, "part")).read_bytes()
    for dataset in (SAMPLES, spotted_of(config)):
        claim(run, config, dataset, {})
        paths = (run.part_path(dataset, f"{number:06d}") for number in range(shards))
        put((path.removeprefix("bucket/") for path in paths), data)
    run.fs.invalidate_cache()  # as in a new process
    return config


def listings(requests: Counter[str]) -> Counter[str]:
    """Pages by what was listed."""
    return Counter({what.removeprefix("LIST "): n for what, n in requests.items() if what.startswith("LIST ")})


def test_a_resumed_extract_with_all_parts_lists_each_folder_once(server, tmp_path, capsys) -> None:
    shards = 3 * PAGE
    config = finished_run("resumed", shards, tmp_path)
    with counted_requests() as requests:
        run_extract(config, make_console(), ["spot"])
    assert f"{shards} shards, 0 to do" in capsys.readouterr().out
    pages = listings(requests)
    assert pages["resumed/"] == 3
    # With `_dataset.json` there is a key more than fits into three.
    assert pages["runs/resumed/samples/"] == pages["runs/resumed/spotted/main/"] == 4
    assert requests.total() <= 3 + 4 + 4 + OTHER_CALLS


def test_status_reads_a_footer_a_shard_once_and_then_only_those_of_new_parts(server, tmp_path, capsys) -> None:
    shards = KEPT_FROM + 10
    config = finished_run("counted", shards, tmp_path)
    with counted_requests() as first:
        print_status(config.run, make_console())
    assert first.total() > shards
    samples = f"samples: {ROWS * shards:,} kept, {shards:,} rejects\n  no_image: {shards:,}\n"
    assert samples in capsys.readouterr().out
    with counted_requests() as again:
        print_status(config.run, make_console())
    assert samples in capsys.readouterr().out
    assert again.total() <= OTHER_CALLS
    put(["runs/counted/samples/000005.parquet"], b"PAR1 another part PAR1")
    with counted_requests() as changed:
        print_status(config.run, make_console())
    assert "not counted: 1 parts of samples that cannot be read" in capsys.readouterr().out
    assert changed.total() <= OTHER_CALLS
