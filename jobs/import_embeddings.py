"""The import job: embeddings that are already there take the place of CLIP, one shard at a time."""

from typing import Any

from rich.console import Console

from jobs.console import say
from jobs.job import Job, Ready, run_alone, run_job
from jobs.status import say_import
from jobs.tasks import Task
from pipeline.claims import claim, resolved, same_settings
from pipeline.config import Config
from pipeline.datasets import SAMPLES, embeddings_of
from pipeline.imported.embeddings import Importer, import_fields, prepare_import
from pipeline.run import Run
from pipeline.shards import Shard
from pipeline.threads import limit_threads


class ImportActor:
    """Holds the import's index, and imports the embeddings of one shard a call."""

    def __init__(self, run: Run, config: Config) -> None:
        self._run = run
        self._config = config

    def ready(self) -> Ready:
        limit_threads(self._config.resources.cpus_per_actor)
        self._importer = Importer(self._run, self._config)
        return Ready({embeddings_of(self._config): self._importer.fields}, f"embeddings of {self._config.clip.model}")

    def work(self, board: Any, shard: Shard) -> dict[str, int]:
        def report(rows: int) -> None:
            board.add.remote(shard.id, rows, 0, shard.size or 0)

        return self._importer.import_shard(shard, report)


def run_import(config: Config, console: Console) -> None:
    """Import the embeddings of every shard that has samples and lacks them.

    Args:
        config: the run's configuration, with `clip.imported`.
        console: where to show.

    Raises:
        ImportedError: the files are damaged or do not fit each other, or have nothing of any sample.
        JobError: shards were set aside.
        FingerprintError: the embeddings were begun otherwise, or the import's files have changed since.
    """
    run = Run(config.run)
    config = resolved(run, config)
    dataset, shards = embeddings_of(config), run.shards()
    extracted, done = run.done(SAMPLES), run.done(dataset)
    tasks = [Task(shard.id, (shard,)) for shard in shards if shard.id in extracted and shard.id not in done]
    say(console, f"import: {len(shards)} shards, {len(tasks)} to do")
    if tasks or not same_settings(run, config, dataset):
        # Before a worker is started: what is missing or differs is known here.
        claim(run, config, dataset, import_fields(run, config), anew=True)
    if not tasks:
        return
    pending = [task.shard for task in tasks]
    say(console, f"import: {run_alone('import', config, prepare_import, run, config, pending)}")
    run_job(Job("import", run, config, ("clip",), shards, (dataset,), ImportActor), tasks, console)
    say_import("import", run, config, console)
