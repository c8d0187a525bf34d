"""The profile job: overlap and cluster assignment of every shard, from its parts alone."""

from typing import Any

from rich.console import Console

from jobs.console import say
from jobs.job import Job, JobError, Ready, run_job
from jobs.tasks import Task
from pipeline.claims import claim, resolved
from pipeline.clusters import load_clusters
from pipeline.config import Config
from pipeline.datasets import SAMPLES, embeddings_of, profiles_of, spotted_of
from pipeline.profile import profile_fields, profile_shard
from pipeline.run import Run
from pipeline.shards import Shard
from pipeline.threads import limit_threads


class ProfileActor:
    """Holds the centroids, and profiles one shard a call."""

    def __init__(self, run: Run, config: Config) -> None:
        self._run = run
        self._config = config

    def ready(self) -> Ready:
        limit_threads(self._config.resources.cpus_per_actor)
        self._fields = profile_fields(self._run, self._config)
        self._clusters = load_clusters(self._run, self._config)
        about = f"{len(self._clusters.centroids):,} clusters, fuzzy threshold {self._config.overlap.threshold}"
        return Ready({profiles_of(self._config): self._fields}, about)

    def work(self, board: Any, shard: Shard) -> dict[str, int]:
        counts = profile_shard(self._run, shard, self._config, self._clusters, self._fields)
        board.add.remote(shard.id, counts["rows"], 0, shard.size or 0)
        return counts


def run_profile(config: Config, console: Console) -> None:
    """Profile every shard that is extracted and has no profile of this name.

    Raises:
        JobError: shards were set aside, or are not extracted yet.
        FingerprintError: the profiles were begun otherwise; give the new ones a name.
    """
    run = Run(config.run)
    config = resolved(run, config)
    shards = run.shards()
    # Before a worker is started: what is missing or differs is known here.
    claim(run, config, profiles_of(config), profile_fields(run, config), anew=True)
    inputs = (SAMPLES, embeddings_of(config), spotted_of(config))
    extracted = set.intersection(*(run.done(dataset) for dataset in inputs))
    done = run.done(profiles_of(config))
    todo = [shard for shard in shards if shard.id in extracted and shard.id not in done]
    tasks = [Task(shard.id, (shard,), size=shard.size or 0) for shard in todo]
    say(console, f"profile: {len(shards)} shards, {len(tasks)} to do")
    sections = ("cluster", "overlap", "profile")
    run_job(Job("profile", run, config, sections, shards, (profiles_of(config),), ProfileActor), tasks, console)
    if pending := [shard.id for shard in shards if shard.id not in extracted]:
        raise JobError(f"profile: {len(pending)} shards are not extracted yet, {pending[0]} first.")
