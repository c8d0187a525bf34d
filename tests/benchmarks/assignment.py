"""Assignment to 4,000 centroids beside the plain matrix product that it cannot do without."""

from collections.abc import Iterator

import faiss
import numpy as np
from threadpoolctl import threadpool_limits

from pipeline.clustering import ClusterModel
from tests.benchmarks.figure import Figure, paired

ROWS, DIM, PCA_DIM, K = 20_000, 512, 256, 4000


def measure(threads: int) -> Iterator[Figure]:
    """Vectors per second of `ClusterModel.assign`, of a product of that size, and of faiss' flat index."""
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(ROWS, DIM)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    components = np.linalg.qr(rng.normal(size=(DIM, PCA_DIM)))[0].T.astype(np.float32)
    points = embeddings @ components.T
    centroids = points[rng.choice(ROWS, K, replace=False)]
    model = ClusterModel(np.zeros(DIM, np.float32), components, centroids, {})
    index = faiss.IndexFlatL2(PCA_DIM)
    index.add(centroids)
    faiss.omp_set_num_threads(threads)
    with threadpool_limits(threads):
        ours, product = paired(lambda: model.assign(embeddings), lambda: points @ centroids.T, rounds=5)
        ours_again, faiss_seconds = paired(lambda: model.assign(embeddings), lambda: index.search(points, 1), rounds=5)
    yield Figure(
        f"assignment of {DIM}-d embeddings to {K:,} clusters, PCA to {PCA_DIM} included",
        f"{ROWS / ours:,.0f} vectors/s",
        f"{product / ours:.2f} of a plain matrix product of {ROWS:,} x {PCA_DIM} x {K:,}; "
        f"{faiss_seconds / ours_again:.2f} times faiss' IndexFlatL2 without PCA",
    )
