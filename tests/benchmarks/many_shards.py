"""A run of a hundred thousand shards on a local disk: what it takes to list, resume and report it.

`python -m tests.benchmarks.many_shards`. Shards are empty files, and every part is one file by as many names. How many
calls an object store gets is what `tests/jobs/test_many_shards.py` counts.
"""

import argparse
import io
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from jobs.console import make_console
from jobs.extract import run_extract
from jobs.status import print_status
from pipeline import schema
from pipeline.claims import claim
from pipeline.config_file import parse
from pipeline.datasets import SAMPLES, spotted_of
from pipeline.run import Run
from pipeline.shards import list_shards
from tests.benchmarks.rates import machine
from tests.e2e.command import BLANK

LINKS = 10_000
"""Names that one file is given: file systems have a bound."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shards", type=int, default=100_000)
    asked = parser.parse_args()
    table = Table("what", "seconds", "of the processor", title=f"{asked.shards:,} shards, {machine()}")
    with tempfile.TemporaryDirectory() as folder:
        for what, clock, cpu in measure(Path(folder), asked.shards):
            table.add_row(what, f"{clock:.1f}", f"{cpu:.1f}")
    Console(width=None if os.isatty(1) else 120).print(table)


def measure(folder: Path, shards: int) -> Iterator[tuple[str, float, float]]:
    """What was done, its seconds, and those of them that this process had."""
    shown = {"run": f"{folder}/run", "input": {"shards": f"{folder}/shards/*.tar"}, "spotting": BLANK}
    config, console = parse(shown), make_console()
    console.file = io.StringIO()
    run, names = Run(config.run), [f"{number:06d}" for number in range(shards)]
    run.write_config(config, ())
    with run.part(SAMPLES, "part", schema.SAMPLES) as part:
        part.describe({"counts": {"rows": 7, "rejects": 1, "reject_no_image": 1}})
    data = Path(run.part_path(SAMPLES, "part")).read_bytes()
    os.remove(run.part_path(SAMPLES, "part"))
    _spread(folder / "shards", [f"{name}.tar" for name in names], b"")
    for dataset in (SAMPLES, spotted_of(config)):
        claim(run, config, dataset, {})
        _spread(Path(run.path(dataset)), [f"{name}.parquet" for name in names], data)
    listed = list_shards(config.input.shards)
    steps: dict[str, Callable[[], object]] = {
        "listing the shards": partial(list_shards, config.input.shards),
        "writing them into the run": partial(run.write_shards, listed),
        "merging them with those of the run": partial(run.merged_shards, listed),
        "listing the parts of a dataset": partial(run.done, SAMPLES),
        "resuming an extract that is finished, listing included": partial(run_extract, config, console, ["spot"]),
        "status, no counts kept": partial(print_status, config.run, console),
        "status": partial(print_status, config.run, console),
    }
    for what, step in steps.items():
        start, cpu = time.perf_counter(), time.process_time()
        step()
        yield what, time.perf_counter() - start, time.process_time() - cpu


def _spread(folder: Path, names: list[str], data: bytes) -> None:
    """The same bytes under many names of a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        if number % LINKS == 0:
            first = folder / name
            first.write_bytes(data)
        else:
            os.link(first, folder / name)


if __name__ == "__main__":
    main()
