"""Profiles of LAION's proportions, as many as asked for: what tables over them take in time and memory.

`python -m tests.benchmarks.scale FOLDER --parts 10000 --part-rows 10000` draws a hundred million rows into FOLDER, asks
them as parts, compacts them, and asks again. Started again it goes on where it was. `--lean` empties parts as they are
compacted, for want of disk.
"""

import argparse
import os
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import pyarrow.dataset as ds
from rich.console import Console
from rich.table import Table

from pipeline.compacted_file import write_compacted
from pipeline.compaction import ROWS, Group, commit, plan, plan_groups
from pipeline.run import Run
from pipeline.tables.clusters import cluster_tables
from pipeline.tables.connection import connected, select
from pipeline.tables.figure4 import WORDS
from pipeline.tables.table1 import check_identities, table1
from tests.benchmarks.query import COLUMNS, PROFILES, draw_profiles
from tests.benchmarks.rates import record

WORKERS = len(os.sched_getaffinity(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--parts", type=int, default=100)
    parser.add_argument("--part-rows", type=int, default=10_000)
    parser.add_argument("--lean", action="store_true")
    asked = parser.parse_args()
    console = Console(width=None if os.isatty(1) else 120)
    table = Table("what", "seconds", "peak memory, GB", title=f"{asked.parts * asked.part_rows:,} profiles")
    rows, tables = asked.parts * asked.part_rows, 0.0
    for what, seconds, peak in measure(asked.folder, asked.parts, asked.part_rows, asked.lean):
        tables += seconds if what.endswith(" over compacted") else 0
        if what == "compaction":
            workers = max(1, min(WORKERS, rows // ROWS))
            record(what, rows / seconds / workers, f"parts of {asked.part_rows:,} profiles, {rows:,} in all")
        console.print(f"{what}: {seconds:.1f} s")  # some take an hour
        table.add_row(what, f"{seconds:,.1f}", f"{peak:.2f}")
    console.print(table)
    record("tables", rows / tables / WORKERS, f"{', '.join(QUESTIONS)} over {rows:,} compacted profiles")


def measure(folder: str, parts: int, part_rows: int, lean: bool = False) -> Iterator[tuple[str, float, float]]:
    """What was done, its seconds, and the most memory (GB) that one of its processes held."""
    run = Run(folder)
    lacking = sorted(set(range(parts)) - set(map(int, run.done(PROFILES))))
    yield (f"drawing {len(lacking):,} parts", *_each(partial(draw, folder, part_rows), lacking))
    for layout in ("parts", "compacted"):
        if layout == "compacted":
            groups = plan_groups(run, PROFILES, ROWS)
            yield ("compaction", *_each(partial(compact, folder, lean), groups))
            commit(run, [plan(run, PROFILES, PROFILES)], groups)
        for name in QUESTIONS:
            yield (f"{name} over {layout}", *_each(partial(ask, folder, layout), [name]))


def draw(folder: str, part_rows: int, number: int) -> None:
    with Run(folder).part(PROFILES, f"{number:05d}", COLUMNS) as part:
        part.write(draw_profiles(1, part_rows, number))
        part.describe({"fingerprint": "drawn", "counts": {"rows": part_rows}})


def compact(folder: str, lean: bool, group: Group) -> None:
    run = Run(folder)
    compaction = plan(run, PROFILES, PROFILES)
    if compaction.file(group) not in run.done(compaction.folder):
        write_compacted(run, compaction, group, lambda rows, position: None)
    # The first part of all goes on telling the schema.
    for shard in group.shards[group.shards[0] == min(run.done(PROFILES)) :] if lean else ():
        os.truncate(run.part_path(PROFILES, shard), 0)


def ask(folder: str, layout: str, question: str) -> None:
    run = Run(folder)
    done = run.done(PROFILES)
    files = [*run.compacted(PROFILES, done)] if layout == "compacted" else [run.part_path(PROFILES, s) for s in done]
    QUESTIONS[question](ds.dataset(files, run.part_schema(PROFILES, min(done)), "parquet"))


def _words(profiles: ds.Dataset) -> None:
    with connected(profiles) as connection:
        select(connection, WORDS)


QUESTIONS: Mapping[str, Callable[[ds.Dataset], object]] = {
    "Table 1": lambda profiles: check_identities(table1(profiles)),
    "tables of clusters": cluster_tables,
    "Figure 4a": _words,
}


def _each(work: Callable[..., None], items: list[object]) -> tuple[float, float]:
    """Do them all, in as many new processes as there are cores: seconds, and the peak memory of one in GB."""
    start, peaks = time.perf_counter(), [0.0]
    with ProcessPoolExecutor(min(WORKERS, max(1, len(items))), get_context("spawn")) as workers:
        peaks += workers.map(partial(_peak_of, work), items)
    return time.perf_counter() - start, max(peaks)


def _peak_of(work: Callable[..., None], item: object) -> float:
    work(item)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
