"""The clusters of a run: fitted once from its embeddings, stored, and loaded to assign every sample."""

import hashlib
from collections.abc import Iterator, Sequence

import pyarrow as pa

from pipeline import schema
from pipeline.claims import input_digest
from pipeline.clustering import ClusterModel, available_memory, fit, fit_memory
from pipeline.config import Config
from pipeline.datasets import CLUSTER_FACTS, Dataset, clusters_of, embeddings_of
from pipeline.fingerprint import Fields
from pipeline.run import Run, RunError
from pipeline.sampling import draw_sample, sampling_threshold

MODEL = "model.safetensors"


def cluster_fields(run: Run, config: Config) -> Fields:
    """What the clusters depend on beside the shards they saw: settings and the embeddings' fingerprint.

    Raises:
        RunError: the embeddings are not there yet.
        FingerprintError: they were made by another configuration.
    """
    return {
        **config.cluster.model_dump(exclude={"name"}),
        "embeddings": input_digest(run, config, embeddings_of(config)),
    }


def fit_clusters(run: Run, config: Config, shards: Sequence[str], threads: int) -> str:
    """Fit PCA and centroids on a sample of the shards' embeddings and store them; says in a line what came out.

    The sample depends on the uids alone, not on the order of the shards.

    Raises:
        RunError: there is no usable sample at all.
        ValueError: too few embeddings for k.
        MemoryError: the sample or the fit would not fit into memory.
    """
    settings, dataset = config.cluster, embeddings_of(config)
    rows = 0

    def uids() -> Iterator[pa.ChunkedArray]:
        nonlocal rows
        for shard in shards:
            column = run.read_part(dataset, shard, [schema.UID.name])[schema.UID.name]
            rows += len(column)
            yield column

    def embeddings() -> Iterator[pa.Table]:
        columns = [schema.SHARD.name, schema.INDEX.name, schema.UID.name, schema.IMAGE_EMBEDDING]
        for shard in shards:
            yield from run.read_batches(dataset, shard, columns)

    threshold = sampling_threshold(uids(), settings.sample_size)
    size = min(rows, settings.sample_size)
    if not rows:
        raise RunError(f"{run.url} has no usable sample in {len(shards)} shards; see `parrotscope status {run.url}`.")
    _check_memory(run, dataset, shards[0], size, config)
    model = fit(draw_sample(embeddings(), settings.sample_size, threshold), settings, threads)
    facts = {
        **model.facts,
        "embeddings_seen": rows,
        "shards": len(shards),
        "shards_digest": hashlib.blake2b("\n".join(sorted(shards)).encode(), digest_size=16).hexdigest(),
    }
    # The facts are written last: with them the clusters are there.
    run.write_bytes(model.to_bytes(), clusters_of(config), MODEL)
    run.write_json(facts, clusters_of(config), CLUSTER_FACTS)
    return (
        f"{settings.k:,} clusters fitted to {facts['samples']:,} of {rows:,} embeddings, "
        f"{facts['explained_variance']:.1%} of the variance in {facts['pca_dim']} dimensions"
    )


def load_clusters(run: Run, config: Config) -> ClusterModel:
    """The fitted clusters of the configuration's name.

    Raises:
        RunError: they are not fitted yet.
    """
    facts = run.read_json(clusters_of(config), CLUSTER_FACTS)
    if facts is None:
        raise RunError(f"{run.url} has no {clusters_of(config)} yet: cluster first.")
    return ClusterModel.from_bytes(run.fs.cat_file(run.path(clusters_of(config), MODEL)), facts)


def _check_memory(run: Run, dataset: Dataset, shard: str, size: int, config: Config) -> None:
    """Refuse before the sample is read, not when memory ends in the middle of it."""
    width = run.part_schema(dataset, shard).field(schema.IMAGE_EMBEDDING).type.list_size
    sample = 2 * size * width * 2  # float16, twice while it is sorted
    needed = sample + fit_memory(size, width, min(config.cluster.pca_dim, width), config.cluster.k)
    if needed > (free := available_memory()):
        raise MemoryError(
            f"A sample of {size:,} embeddings of {width} dimensions and {config.cluster.k:,} clusters need "
            f"{needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free: lower cluster.sample_size, or use a "
            "larger node."
        )
