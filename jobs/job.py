"""What the jobs share: actors claim the datasets they write, a reporter follows, failures end the job."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from rich.console import Console

from jobs.console import say
from jobs.pool import Pool
from jobs.progress import Reporter
from jobs.startup import check_shared, check_storage
from jobs.tasks import Task, Watcher
from pipeline.claims import changed_software, claim, resolved, same_settings
from pipeline.config import Config
from pipeline.datasets import REJECTS, Dataset
from pipeline.fingerprint import Fields
from pipeline.run import Run
from pipeline.shards import Shard
from pipeline.threads import limit_threads


class JobError(RuntimeError):
    """The job ended with shards set aside; the message names them."""


@dataclass(frozen=True)
class Ready:
    """What a worker says when its models are loaded."""

    fields: dict[Dataset, Fields]
    about: str


@dataclass(frozen=True)
class Job:
    """One job over shards: what it is called, who does it, what it writes.

    Attributes:
        title: shown in front of every line.
        run: where the parts go.
        config: `auto` resolved where the run has been begun.
        sections: sections of the configuration the job goes by, to be kept in run.yaml.
        shards: all shards of the run, to be kept in shards.parquet.
        datasets: what it writes.
        actor: class of the workers, made from (run, config, *arguments).
        arguments: what else they are made from.
    """

    title: str
    run: Run
    config: Config
    sections: tuple[str, ...]
    shards: list[Shard]
    datasets: tuple[Dataset, ...]
    actor: type
    arguments: tuple[Any, ...] = ()


def run_job(job: Job, tasks: list[Task], console: Console) -> None:
    """Run tasks on a pool whose actors claim the datasets they write, and report.

    Nothing is written before the first actor is ready, so a mistake in the configuration leaves no trace. With
    nothing to do, an actor is asked only if the configuration differs from the one the datasets were begun by:
    whether it would make the same.

    Raises:
        JobError: shards were set aside.
        PoolError: no worker came up, or the datasets were begun under other settings.
        StartupError: the run cannot be written to, or nodes of the cluster do not see it.
    """
    run, config = job.run, job.config
    said: set[str] = set()

    def admit(ready: Ready) -> None:
        first = not said
        for dataset, fields in ready.fields.items():
            claim(run, config, dataset, fields, anew=first)
        if first:
            run.sweep("errors", REJECTS, *job.datasets)
            run.write_shards(job.shards)
            run.write_config(resolved(run, config), job.sections)
            for dataset in ready.fields:
                for change in changed_software(run, dataset):
                    say(console, f"{job.title}: warning: {dataset} was begun with other software: {change}")
        if ready.about not in said:
            said.add(ready.about)
            say(console, f"{job.title}: {ready.about}")

    if tasks:
        check_storage(run)
        check_shared(run)
    elif all(same_settings(run, config, dataset) for dataset in job.datasets):
        _tidy(job)
        return
    pool = Pool(job.actor, (run, config, *job.arguments), admit, config.resources)
    if not tasks:
        pool.probe()
        _tidy(job)
        return
    with Reporter(job.title, run, [task.arguments[0] for task in tasks], console) as reporter:
        pool.run(tasks, watched(reporter, job, len(tasks)))
    if reporter.failures:
        names = ", ".join(task.shard for task in reporter.failures[:5])
        more = f" and {len(reporter.failures) - 5} more" if len(reporter.failures) > 5 else ""
        raise JobError(
            f"{job.title}: {len(reporter.failures)} of {len(tasks)} shards were set aside: {names}{more}; "
            f"see `parrotscope status {run.url}` and start the same command again."
        )
    for dataset in job.datasets:
        if unseen := {task.shard for task in tasks} - run.done(dataset):
            raise JobError(
                f"{job.title}: the workers wrote {len(unseen)} parts of {dataset} that are not in {run.url} as this "
                "process sees it: put the run on storage that all nodes reach."
            )
    _tidy(job)


def _tidy(job: Job) -> None:
    """Remove what killed workers and drivers left: unfinished files, and errors of shards that are done since."""
    run = job.run
    run.sweep("errors", REJECTS, *job.datasets)
    if failed := run.failed():
        done = set.intersection(*(run.done(dataset) for dataset in job.datasets))
        for name in (f"{shard}.json" for shard in failed & done):
            # Another job's error is that job's.
            if (run.read_json("errors", name) or {}).get("job") == job.title:
                run.remove("errors", name)


def watched(reporter: Reporter, job: Job, shards: int) -> Watcher:
    """The reporter; on a cluster, whose agents export them, with metrics."""
    if job.config.resources.address is None:
        return reporter
    from jobs.metrics import Metrics

    return Metrics(reporter, PurePosixPath(job.run.root).name, job.title, shards)


def run_alone(title: str, config: Config, function: Callable[..., str], *arguments: object) -> str:
    """Call `function(*arguments, threads)` in one process that has every core of the largest node.

    Raises:
        JobError: the process was lost.
        Exception: whatever the function raises.
    """
    nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    # An autoscaled cluster may have its head alone by now, and no CPU there.
    cpus = max(*nodes, config.resources.cpus_per_actor if config.resources.autoscale else 0)
    task = ray.remote(num_cpus=cpus, max_retries=config.resources.attempts)(_call)
    try:
        said: str = ray.get(task.remote(function, arguments, cpus))
    except RayTaskError as error:
        raise error.cause from None
    except RayError as error:
        raise JobError(f"{title}: its process was lost, out of memory perhaps: {error}") from None
    return said


def _call(function: Callable[..., str], arguments: tuple[object, ...], threads: int) -> str:
    limit_threads(threads)
    return function(*arguments, threads)
