"""The compact job: files of a million rows beside the parts, a task for each file of each dataset."""

import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from rich.console import Console

from jobs.console import say
from jobs.job import JobError
from jobs.pool import Pool
from jobs.progress import Reporter
from jobs.tasks import Task
from pipeline.compacted_file import write_compacted
from pipeline.compaction import Compaction, Group, check_same_settings, clear, commit, forget, plan, plan_groups
from pipeline.config import ResourcesConfig
from pipeline.datasets import SAMPLES, Dataset
from pipeline.run import Run
from pipeline.section import NAME_PATTERN
from pipeline.shards import Shard


class CompactActor:
    """Writes one compacted file a call."""

    def __init__(self, run: Run, threads: int) -> None:
        self._run = run
        self._threads = threads

    def ready(self) -> None:
        pa.set_cpu_count(self._threads)

    def work(self, board: Any, name: str, compaction: Compaction, group: Group) -> dict[str, int]:
        def report(rows: int, position: int) -> None:
            board.add.remote(name, rows, 0, position)

        return write_compacted(self._run, compaction, group, report)


class FileReporter(Reporter):
    """Follows files in the place of shards; what is wrong with one is told, and not kept as a shard's error."""

    def retried(self, task: Task) -> None:
        self._say(f"{task.shard}: {task.errors[-1]}; to be tried again")

    def failed(self, task: Task) -> None:
        self.failures.append(task)

    def _line(self, rows: int, rejects: int) -> str:
        return f"{rows:,} rows, {rows / max(self._elapsed(), 1):,.0f}/s, {self._done_shards}/{len(self._sizes)} files"


def run_compact(
    url: str,
    datasets: Sequence[str],
    profiles: str | None,
    rows: int,
    float32: bool,
    anew: bool,
    console: Console,
) -> None:
    """Bring the compacted files of datasets up to their parts.

    Args:
        url: folder or URL of the run, whose run.yaml says where Ray is and how many CPUs an actor gets.
        datasets: as "kind/name" or "kind"; none: the profiles that give the order.
        profiles: name of the profiles whose clusters give the order. None: main, or the order of the samples
            where there are no such profiles.
        rows: of a file, at least.
        float32: widen vectors of float16.
        anew: forget the compacted files of the datasets first.
        console: where to show.

    Raises:
        JobError: files could not be made; those that could be are in use.
        RunError: there is no run, or no such dataset yet, or its files were asked for otherwise.
        ValueError: no dataset can have that name.
    """
    run = Run(url)
    # The run's GPUs are for models.
    resources = run.config().resources.model_copy(update={"gpus_per_actor": 0})
    order = _dataset(f"profiles/{profiles or 'main'}")
    chosen = [_dataset(text) for text in dict.fromkeys(datasets)] or [order]
    if profiles is None and order not in chosen and not run.done(order):
        order = SAMPLES
    compactions = [plan(run, dataset, order, float32) for dataset in chosen]
    for compaction in compactions:
        if anew:
            forget(run, compaction.dataset)
        check_same_settings(run, compaction)
    groups = plan_groups(run, order, rows)
    tasks = [task for compaction in compactions for task in _tasks(run, compaction, groups, console)]
    try:
        if tasks:
            _write(run, tasks, resources, console)
    finally:
        commit(run, compactions, groups)


def _dataset(text: str) -> Dataset:
    kind, _, name = text.partition("/")
    if not all(re.fullmatch(NAME_PATTERN, part) for part in text.split("/")) or "/" in name:
        raise ValueError(f"{text!r} is no dataset: samples, rejects, profiles/main and embeddings/main are some.")
    return Dataset(kind, name)


def _tasks(run: Run, compaction: Compaction, groups: Sequence[Group], console: Console) -> list[Task]:
    """A task for each file of a dataset that can be made and is not there."""
    dataset, order = compaction.dataset, compaction.order
    run.sweep(compaction.folder)
    clear(run, compaction, groups)
    done, there = run.done(dataset), run.done(compaction.folder)
    ready = {compaction.file(group): group for group in groups if done.issuperset(group.shards)}
    missing = {name: group for name, group in ready.items() if name not in there}
    joined = sum(len(group.shards) for group in ready.values())
    way = f"sorted by the clusters of {order}" if compaction.by_cluster else "in the order of the shards"
    say(console, f"compact: {dataset}, {way}: {joined:,} shards in {len(ready):,} files, {len(missing):,} to make")
    if joined < len(done):
        say(console, f"compact: {len(done) - joined:,} shards of {dataset} wait for parts of their group or of {order}")
    return [Task(name := f"{dataset}/{file}", (name, compaction, group)) for file, group in missing.items()]


def _write(run: Run, tasks: list[Task], resources: ResourcesConfig, console: Console) -> None:
    """Run the tasks on a pool.

    Raises:
        JobError: files could not be made.
        PoolError: no worker came up.
    """
    pool = Pool(CompactActor, (run, resources.cpus_per_actor), lambda _: None, resources)
    # Rows are read, then written.
    lengths = [Shard(task.shard, "", 2 * task.arguments[2].rows, None) for task in tasks]
    with FileReporter("compact", run, lengths, console) as reporter:
        pool.run(tasks, reporter)
    if failures := reporter.failures:
        raise JobError(
            f"compact: {len(failures):,} of {len(tasks):,} files could not be made, the first for "
            f"{failures[0].errors[-1]} The others are in use, and the same command goes on."
        )
    made = [(compaction, group) for _, compaction, group in (task.arguments for task in tasks)]
    there = {compaction: run.done(compaction.folder) for compaction, _ in made}
    if unseen := sum(compaction.file(group) not in there[compaction] for compaction, group in made):
        raise JobError(
            f"compact: the workers wrote {unseen:,} files that are not in {run.url} as this process sees it: put the "
            "run on storage that all nodes reach."
        )
