"""Embeddings that no model made, and centroids that no fit found: unit vectors of normal numbers."""

import numpy as np
import pyarrow as pa

from pipeline.claims import claim
from pipeline.clustering import ClusterModel
from pipeline.clusters import MODEL, cluster_fields
from pipeline.config import Config
from pipeline.datasets import CLUSTER_FACTS, SAMPLES, clusters_of, embeddings_of
from pipeline.fingerprint import digest
from pipeline.run import Run
from pipeline.schema import IDENTITY_NAMES, ClipStatus, arrow, embeddings
from pipeline.vectors import to_column


def draw_embeddings(run: Run, config: Config, dim: int) -> None:
    """Write the embeddings dataset of the shards that have samples: of image and text the same vector."""
    dataset, columns, fields = embeddings_of(config), embeddings(dim), {"drawn": dim}
    names = arrow(columns).names
    claim(run, config, dataset, fields)
    for number, shard in enumerate(sorted(run.done(SAMPLES))):
        rng = np.random.default_rng(number)
        with run.part(dataset, shard, columns) as part:
            for samples in run.read_batches(SAMPLES, shard, IDENTITY_NAMES):
                rows = samples.num_rows
                vectors = rng.normal(size=(rows, dim))
                column = to_column(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), "float16")
                drawn = ([ClipStatus.OK] * rows, np.full(rows, 0.25), np.zeros(rows, bool), column, column)
                part.write(pa.table([*samples.columns, *map(pa.array, drawn)], names))
            part.describe({"fingerprint": digest(fields)})


def draw_clusters(run: Run, config: Config, dim: int) -> None:
    """Store `cluster.k` centroids and a projection to `cluster.pca_dim` dimensions as a fit would."""
    rng, settings = np.random.default_rng(0), config.cluster
    components = np.linalg.qr(rng.normal(size=(dim, settings.pca_dim)))[0].T.astype(np.float32)
    centroids = rng.normal(size=(settings.k, settings.pca_dim)).astype(np.float32) / dim**0.5
    model = ClusterModel(np.zeros(dim, np.float32), components, centroids, {})
    claim(run, config, clusters_of(config), cluster_fields(run, config))
    run.write_bytes(model.to_bytes(), clusters_of(config), MODEL)
    run.write_json({"digest": "drawn"}, clusters_of(config), CLUSTER_FACTS)
