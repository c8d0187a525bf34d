"""The cluster job: one fit on one node, over the embeddings of the whole run."""

import ray
from ray.exceptions import RayError, RayTaskError
from rich.console import Console

from jobs.console import say
from jobs.job import JobError
from pipeline.claims import claim, resolved
from pipeline.clusters import cluster_fields, fit_clusters
from pipeline.config import Config
from pipeline.datasets import CLUSTER_FACTS, clusters_of, embeddings_of
from pipeline.run import Run
from pipeline.threads import limit_threads


def run_cluster(config: Config, console: Console, partial: bool = False) -> None:
    """Fit the clusters of this name, unless they are there.

    Args:
        config: the run's configuration.
        console: where to show.
        partial: fit on what is extracted so far, instead of refusing while shards are pending.

    Raises:
        JobError: shards are pending and `partial` is not given.
        FingerprintError: clusters of this name were fitted otherwise.
        ValueError, MemoryError: too few embeddings or too little memory for k; the message says what is needed.
    """
    run = Run(config.run)
    config = resolved(run, config)
    shards = run.shards()
    if not shards:
        raise JobError(f"cluster: {config.run} has no shards yet: extract first.")
    done = run.done(embeddings_of(config))
    pending = [shard.id for shard in shards if shard.id not in done]
    if pending and not partial:
        raise JobError(
            f"cluster: {len(pending)} shards have no embeddings yet, {pending[0]} first; "
            "extract them, or fit on the others with --partial."
        )
    clusters = clusters_of(config)
    claim(run, config, clusters, cluster_fields(run, config), anew=True)
    run.sweep(clusters)
    if run.read_json(clusters, CLUSTER_FACTS):
        say(console, f"cluster: {clusters} is fitted")
        return
    # Fitting wants every core of the largest node.
    cpus = max(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
    fit = ray.remote(num_cpus=cpus, max_retries=config.resources.attempts)(_fit)
    try:
        say(console, f"cluster: {ray.get(fit.remote(run, config, sorted(done), cpus))}")
    except RayTaskError as error:
        raise error.cause from None
    except RayError as error:
        raise JobError(f"cluster: the process that fits was lost, out of memory perhaps: {error}") from None
    run.write_config(config, ("cluster",))


def _fit(run: Run, config: Config, shards: list[str], threads: int) -> str:
    limit_threads(threads)
    return fit_clusters(run, config, shards, threads)
