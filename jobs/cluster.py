"""The cluster job: one fit on one node, over the embeddings of the whole run, or an import in its place."""

from rich.console import Console

from jobs.console import say
from jobs.job import JobError, run_alone
from pipeline.claims import claim, resolved
from pipeline.clusters import cluster_fields, fit_clusters, import_clusters
from pipeline.config import Config
from pipeline.datasets import CLUSTER_FACTS, clusters_of, embeddings_of
from pipeline.run import Run


def run_cluster(config: Config, console: Console, partial: bool = False) -> None:
    """Fit or import the clusters of this name, unless they are there.

    Args:
        config: the run's configuration.
        console: where to show.
        partial: fit on what is extracted so far, instead of refusing while shards are pending.

    Raises:
        JobError: shards are pending and `partial` is not given.
        FingerprintError: clusters of this name were fitted or imported otherwise.
        ValueError, MemoryError: too few embeddings or too little memory for k; the message says what is needed.
        ImportedError: the clusters to import are of another model or dimension, or damaged.
    """
    run = Run(config.run)
    config = resolved(run, config)
    shards = run.shards()
    if not shards:
        raise JobError(f"cluster: {config.run} has no shards yet: extract first.")
    done = run.done(embeddings_of(config))
    pending = [shard.id for shard in shards if shard.id not in done]
    if pending and not partial and not config.cluster.imported:
        raise JobError(
            f"cluster: {len(pending)} shards have no embeddings yet, {pending[0]} first; "
            "extract them, or fit on the others with --partial."
        )
    clusters = clusters_of(config)
    claim(run, config, clusters, cluster_fields(run, config), anew=True)
    run.sweep(clusters)
    if config.cluster.imported:
        say(console, f"cluster: {import_clusters(run, config)}")
        run.write_config(config, ("cluster",))
        return
    if run.read_json(clusters, CLUSTER_FACTS):
        say(console, f"cluster: {clusters} is fitted")
        return
    say(console, f"cluster: {run_alone('cluster', config, fit_clusters, run, config, sorted(done))}")
    run.write_config(config, ("cluster",))
