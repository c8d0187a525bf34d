"""Clustering of image embeddings: PCA and k-means, and assignment to the centroids.

The recipe is that of *Parrot Captions Teach CLIP to Spot Text* (Lin et al., 2024; reference, section 1.6):
unit embeddings, PCA to 256 dimensions, faiss k-means by L2, nothing normalised after PCA.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeAlias, cast

import faiss
import numpy as np
import numpy.typing as npt
import psutil
import safetensors.numpy

from pipeline.config import ClusterSettings

Floats: TypeAlias = npt.NDArray[np.floating[Any]]
Singles: TypeAlias = npt.NDArray[np.float32]
Doubles: TypeAlias = npt.NDArray[np.float64]

BLOCK = 1024
"""Rows of a matrix product of an assignment."""

PCA_BLOCK = 16 * BLOCK

NORM_TOLERANCE = 0.01
"""How far the norm of an embedding may be from 1; rounding to float16 moves it by at most 0.0005."""


@dataclass(frozen=True, eq=False)
class ClusterModel:
    """A fitted clustering: PCA, centroids, and the facts of the fit."""

    pca_mean: Singles
    """(d,)."""
    pca_components: Singles
    """(p, d), orthonormal rows by descending variance."""
    centroids: Singles
    """(k, p), in PCA space."""
    facts: Mapping[str, Any]
    """How it was fitted and how well; json-able."""

    def __post_init__(self) -> None:
        mean, components, centroids = self.pca_mean.shape, self.pca_components.shape, self.centroids.shape
        p, k = components[:1], centroids[:1]
        if not k or k == (0,) or components != p + mean or centroids != k + p:
            raise ValueError(f"shapes do not fit: mean {mean}, components {components}, centroids {centroids}")

    def assign(self, embeddings: Floats) -> tuple[npt.NDArray[np.int32], Singles]:
        """The nearest centroid of each embedding, int32 (n,), and its L2 distance in PCA space, float32 (n,).

        `embeddings` are unit vectors (n, d); of equally near centroids the first is taken. A row's result
        does not depend on the rows beside it, and memory is bounded by BLOCK rows.

        Raises:
            ValueError: an embedding is no unit vector, NaN included, or has another number of dimensions.
        """
        ids = np.empty(len(embeddings), dtype=np.int32)
        distances = np.empty(len(embeddings), dtype=np.float32)
        p = self.centroids.shape[1]
        exact = self.centroids.astype(np.float64)
        squares = np.einsum("kp,kp->k", exact, exact)
        half_squares, longest = (squares / 2).astype(np.float32), np.sqrt(squares.max())
        for rows, points in _project(embeddings, self.pca_mean, self.pca_components):
            scores = points.astype(np.float32) @ self.centroids.T
            scores -= half_squares  # |x - c|² is smallest where x·c - |c|²/2 is largest
            nearest = scores.argmax(axis=1)
            # Rounding depends on where a row stands in a matrix product. Scores so close that it may decide
            # (each is off by at most p u |x||c|) are decided by the distance in float64.
            margins = np.finfo(np.float32).eps * p * longest * (np.linalg.norm(points, axis=1) + longest)
            every = np.arange(len(points))
            best = scores[every, nearest]
            scores[every, nearest] = -np.inf
            for row in np.flatnonzero(scores.max(axis=1) >= best - margins):
                scores[row, nearest[row]] = best[row]
                candidates = np.flatnonzero(scores[row] >= best[row] - margins[row])
                away = np.linalg.norm(points[row] - exact[candidates], axis=1)
                nearest[row] = candidates[away.argmin()]
            ids[rows] = nearest
            # From the difference itself: |x|² - 2 x·c + |c|² would cancel for a point near its centroid.
            distances[rows] = np.linalg.norm(points - exact[nearest], axis=1)
        return ids, distances

    def to_bytes(self) -> bytes:
        """The arrays as a safetensors file; `facts` are the caller's to keep, as JSON."""
        tensors = {
            "pca_mean": self.pca_mean,
            "pca_components": self.pca_components,
            "centroids": self.centroids,
        }
        return bytes(safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in tensors.items()}))

    @classmethod
    def from_bytes(cls, data: bytes, facts: Mapping[str, Any]) -> Self:
        """Read what `to_bytes` wrote; ValueError, KeyError or SafetensorError if it is not that."""
        tensors = safetensors.numpy.load(data)
        return cls(tensors["pca_mean"], tensors["pca_components"], tensors["centroids"], facts)


def fit(sample: Floats, settings: ClusterSettings, threads: int) -> ClusterModel:
    """Fit PCA and k-means to unit embeddings (n, d), every one of them: faiss does not subsample again.

    The same sample and thread count give the same centroids, bit for bit, on one machine type.

    Raises:
        ValueError: fewer than k * min_points_per_centroid embeddings, or one that is no unit vector.
        MemoryError: the projected sample does not fit into the memory that is free.
    """
    n, dim = sample.shape
    needed = settings.k * settings.min_points_per_centroid
    if n < needed:
        raise ValueError(
            f"{settings.k:,} clusters need {needed:,} embeddings, {settings.min_points_per_centroid} each, "
            f"and there are {n:,}: lower cluster.k, or fit when more shards are extracted"
        )
    p = min(settings.pca_dim, dim)
    memory, free = fit_memory(n, dim, p, settings.k), available_memory()
    if memory > free:
        raise MemoryError(
            f"fitting {settings.k:,} clusters to {n:,} embeddings needs {memory / 1e9:.1f} GB and "
            f"{free / 1e9:.1f} GB are free: lower cluster.sample_size, or use a larger node"
        )
    faiss.omp_set_num_threads(threads)
    started = time.perf_counter()
    mean, components, explained = _pca(sample, p)
    points = np.empty((n, p), dtype=np.float32)
    for rows, block in _project(sample, mean, components):
        points[rows] = block
    projected = time.perf_counter()
    kmeans = faiss.Kmeans(
        p,
        settings.k,
        niter=settings.niter,
        nredo=settings.nredo,
        seed=settings.seed,
        spherical=False,
        min_points_per_centroid=settings.min_points_per_centroid,
        max_points_per_centroid=n // settings.k + 1,  # times k is more than n: all points are used
    )
    kmeans.train(points)
    steps = cast(list[dict[str, Any]], kmeans.iteration_stats)
    facts = {
        "samples": n,
        "dim": dim,
        "pca_dim": p,
        "k": settings.k,
        "explained_variance": explained,
        "objective": [float(step["obj"]) for step in steps],
        "imbalance": [float(step["imbalance_factor"]) for step in steps],
        "splits": [int(step["nsplit"]) for step in steps],
        "pca_seconds": projected - started,
        "kmeans_seconds": time.perf_counter() - projected,
    }
    return ClusterModel(mean, components, np.asarray(kmeans.centroids), facts)


def _pca(sample: Floats, p: int) -> tuple[Singles, Singles, float]:
    """Mean (d,), first `p` principal components (p, d), and their share of the variance.

    From the covariance, summed in float64 over blocks. faiss.PCAMatrix needs the whole sample in float32 and
    sums its mean in float32, where the sum comes to a stop: of 40 million values around 0.5 it gave a mean of
    0.42 and 186 times the variance.
    """
    n, dim = sample.shape
    total, scatter = np.zeros(dim), np.zeros((dim, dim))
    for _, block in _unit_blocks(sample, PCA_BLOCK, dim):
        exact = block.astype(np.float64)
        total += exact.sum(axis=0)
        scatter += exact.T @ exact
    mean = total / n
    variances, vectors = np.linalg.eigh(scatter / n - np.outer(mean, mean))
    components = vectors.T[::-1][:p]
    # The sign of an eigenvector is arbitrary: its largest entry is made positive.
    largest = np.abs(components).argmax(axis=1)
    components = components * np.sign(components[np.arange(p), largest])[:, np.newaxis]
    total_variance = variances.sum()
    explained = float(variances[-p:].sum() / total_variance) if total_variance > 0 else 1.0
    return mean.astype(np.float32), components.astype(np.float32), explained


def _project(embeddings: Floats, mean: Singles, components: Singles) -> Iterator[tuple[slice, Doubles]]:
    """Blocks of at most BLOCK rows, and their points in PCA space, float64 (rows, p)."""
    axes = components.T.astype(np.float64)
    for rows, unit in _unit_blocks(embeddings, BLOCK, len(mean)):
        yield rows, (unit.astype(np.float64) - mean) @ axes


def _unit_blocks(embeddings: Floats, size: int, dim: int) -> Iterator[tuple[slice, Singles]]:
    """Consecutive rows as float32, checked to be unit vectors of `dim` dimensions."""
    if embeddings.ndim != 2 or embeddings.shape[1] != dim:
        raise ValueError(f"expected embeddings of {dim} dimensions, not of shape {embeddings.shape}")
    for start in range(0, len(embeddings), size):
        rows = slice(start, min(start + size, len(embeddings)))
        block = embeddings[rows].astype(np.float32)
        norms = np.linalg.norm(block, axis=1)
        unit = np.abs(norms - 1) <= NORM_TOLERANCE  # not so for NaN
        if not unit.all():
            row = int((~unit).argmax())
            raise ValueError(f"embedding {start + row} is no unit vector: its norm is {norms[row]:.4g}")
        yield rows, block


def fit_memory(n: int, dim: int, p: int, k: int) -> int:
    """Bytes that `fit` takes beside the sample: points in PCA space, faiss' assignment, centroids, blocks."""
    points = n * (4 * p + 12)  # float32 points; int64 nearest and float32 distance of each
    blocks = PCA_BLOCK * dim * 12 + 3 * 8 * dim * dim  # a block in float32 and float64, the covariance
    return points + blocks + 4 * 4 * k * p + 100_000_000  # faiss' own buffers


def available_memory() -> int:
    """Bytes this process may take: of the machine, and of its control groups (Slurm, Kubernetes)."""
    free = int(psutil.virtual_memory().available)
    root = Path("/sys/fs/cgroup")
    try:
        groups = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:  # no Linux
        return free
    for line in groups:
        _, controllers, name = line.split(":", 2)
        if not controllers:
            base, limit, usage, cache = root, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            base, limit, usage = root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            cache = "total_inactive_file"
        else:
            continue
        # In a container the name may be the host's; its own group is then the root.
        group = base / name.lstrip("/")
        for folder in (group, *group.parents):
            if not folder.is_relative_to(base):
                break
            try:
                statistics = dict(row.split() for row in (folder / "memory.stat").read_text().splitlines())
                used = int((folder / usage).read_text()) - int(statistics.get(cache, 0))
                free = min(free, int((folder / limit).read_text()) - used)
            except (OSError, ValueError):  # no such folder here, or no limit ("max")
                continue
    return free
