"""The clusters of a run: fitted once from its embeddings or imported, stored, and loaded to assign every sample."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import schema
from pipeline.claims import input_digest
from pipeline.clustering import ClusterModel, available_memory, fit, fit_memory
from pipeline.config import Config
from pipeline.datasets import CLUSTER_FACTS, Dataset, clusters_of, embeddings_of, settings_of
from pipeline.fingerprint import Fields, FingerprintError
from pipeline.imported import ImportedError
from pipeline.imported.clusters import read_clusters
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
        **settings_of(config, clusters_of(config)),
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
            table = run.read_part(dataset, shard, [schema.UID.name, schema.CLIP_STATUS.name])
            column = table.filter(pc.field(schema.CLIP_STATUS.name) == schema.ClipStatus.OK)[schema.UID.name]
            rows += len(column)
            yield column

    def embeddings() -> Iterator[pa.Table]:
        columns = [schema.SHARD.name, schema.INDEX.name, schema.UID.name, schema.IMAGE_EMBEDDING]
        for shard in shards:
            yield from run.read_batches(dataset, shard, columns)

    threshold = sampling_threshold(uids(), settings.sample_size)
    size = min(rows, settings.sample_size)
    if not rows:
        raise RunError(f"{run.url} has no embedding in {len(shards)} shards; see `parrotscope status {run.url}`.")
    _check_memory(run, dataset, shards[0], size, config)
    model = fit(draw_sample(embeddings(), settings.sample_size, threshold), settings, threads)
    facts = {
        **model.facts,
        "embeddings_seen": rows,
        "shards": len(shards),
        "shards_digest": hashlib.blake2b("\n".join(sorted(shards)).encode(), digest_size=16).hexdigest(),
    }
    _store(run, config, model, facts)
    return (
        f"{settings.k:,} clusters fitted to {facts['samples']:,} of {rows:,} embeddings, "
        f"{facts['explained_variance']:.1%} of the variance in {facts['pca_dim']} dimensions"
    )


def import_clusters(run: Run, config: Config) -> str:
    """Store the imported PCA and centroids, unless they are there; says in a line what they are.

    Raises:
        ImportedError: they belong to another model or dimension, or cannot be used.
        FingerprintError: clusters of this name were imported from other files.
    """
    imported, embeddings = config.cluster.imported, embeddings_of(config)
    if imported is None:
        raise ValueError("cluster.imported is not set")
    theirs, ours = (f"{made.model} (pretrained {made.pretrained})" for made in (imported, config.clip))
    if theirs != ours:
        raise ImportedError(
            f"cluster.imported names centroids of {theirs}, and {embeddings} are of {ours}: distances between them "
            "mean nothing. If both are one model, give it the same names."
        )
    shard = next(iter(sorted(run.done(embeddings))), None)
    if shard is None:
        raise RunError(f"{run.url} has no part of {embeddings} yet: extract first.")
    model = read_clusters(imported, _width(run, embeddings, shard))
    stored = run.read_json(clusters_of(config), CLUSTER_FACTS)
    if stored is not None and stored["digest"] != _digest(model.to_bytes()):
        raise FingerprintError(
            f"{run.url}: {clusters_of(config)} were imported from other files than {imported.centroids} and "
            f"{imported.pca}; restore them, or give the dataset another name."
        )
    if stored is None:
        _store(run, config, model, model.facts)
    told = f"{len(model.centroids):,} clusters in {len(model.pca_components):,} dimensions are imported"
    given = config.cluster.k if "k" in config.cluster.model_fields_set else len(model.centroids)
    return told if given == len(model.centroids) else f"{told}; cluster.k = {given:,} is not used"


def load_clusters(run: Run, config: Config) -> ClusterModel:
    """The clusters of the configuration's name.

    Raises:
        RunError: they are not there yet.
    """
    facts = cluster_facts(run, config)
    return ClusterModel.from_bytes(run.fs.cat_file(run.path(clusters_of(config), MODEL)), facts)


def cluster_facts(run: Run, config: Config) -> Mapping[str, Any]:
    """How the clusters were made, and `digest`, the hash of what they are; RunError if they are not there yet."""
    facts: Mapping[str, Any] | None = run.read_json(clusters_of(config), CLUSTER_FACTS)
    if facts is None:
        raise RunError(f"{run.url} has no {clusters_of(config)} yet: cluster first.")
    return facts


def _store(run: Run, config: Config, model: ClusterModel, facts: Mapping[str, Any]) -> None:
    data = model.to_bytes()
    # The facts are written last: with them the clusters are there.
    run.write_bytes(data, clusters_of(config), MODEL)
    run.write_json({**facts, "digest": _digest(data)}, clusters_of(config), CLUSTER_FACTS)


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _width(run: Run, embeddings: Dataset, shard: str) -> int:
    """Dimensions of the embeddings, by the part of one shard."""
    width: int = run.part_schema(embeddings, shard).field(schema.IMAGE_EMBEDDING).type.list_size
    return width


def _check_memory(run: Run, dataset: Dataset, shard: str, size: int, config: Config) -> None:
    """Refuse before the sample is read, not when memory ends in the middle of it."""
    vector = run.part_schema(dataset, shard).field(schema.IMAGE_EMBEDDING).type
    width = vector.list_size
    sample = 2 * size * width * vector.value_type.bit_width // 8  # twice while it is sorted
    needed = sample + fit_memory(size, width, min(config.cluster.pca_dim, width), config.cluster.k)
    if needed > (free := available_memory()):
        raise MemoryError(
            f"A sample of {size:,} embeddings of {width} dimensions and {config.cluster.k:,} clusters need "
            f"{needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free: lower cluster.sample_size, or use a "
            "larger node."
        )
