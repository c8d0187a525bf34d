"""What the shard jobs share: actors claim the datasets they write, a reporter follows, failures end the job."""

from dataclasses import dataclass
from typing import Any

from rich.console import Console

from jobs.pool import Pool, Task
from jobs.progress import Reporter
from pipeline.config import Config
from pipeline.datasets import Dataset
from pipeline.fingerprint import Fields
from pipeline.run import Run


class JobError(RuntimeError):
    """The job ended with shards set aside; the message names them."""


@dataclass(frozen=True)
class Ready:
    """What a worker says when its models are loaded."""

    fields: dict[Dataset, Fields]
    about: str


def run_job(
    config: Config,
    run: Run,
    title: str,
    actor: type,
    arguments: tuple[Any, ...],
    tasks: list[Task],
    console: Console,
) -> None:
    """Run tasks on a pool whose actors claim the datasets they write, and report.

    With nothing to do, one actor is still asked whether a changed configuration would make the same datasets.

    Raises:
        JobError: shards were set aside.
        PoolError: no worker came up, or the datasets were begun under other settings.
    """
    said: set[str] = set()

    def admit(ready: Ready) -> None:
        for dataset, fields in ready.fields.items():
            run.claim(dataset, fields)
            if said:
                continue
            run.sweep(dataset)
            for change in run.changed_software(dataset):
                console.print(f"{title}: warning: {dataset} was begun with other software: {change}", markup=False)
        if ready.about not in said:
            said.add(ready.about)
            run.write_config(run.resolved(config))
            console.print(f"{title}: {ready.about}", markup=False)

    if not tasks and run.exists() and run.config() == config:
        return
    pool = Pool(actor, arguments, admit, config.resources)
    if not tasks:
        pool.probe()
        return
    with Reporter(title, run, [task.arguments[0] for task in tasks], console) as reporter:
        pool.run(tasks, reporter)
    if reporter.failures:
        names = ", ".join(task.shard for task in reporter.failures[:5])
        more = f" and {len(reporter.failures) - 5} more" if len(reporter.failures) > 5 else ""
        raise JobError(
            f"{title}: {len(reporter.failures)} of {len(tasks)} shards were set aside: {names}{more}; "
            f"see `parrotscope status {config.run}` and start the same command again."
        )
