"""PCA and centroids that are there already, as those of *Parrot Captions* for CLIP features of LAION-400M."""

from typing import Any

import numpy as np

from pipeline.clustering import NORM_TOLERANCE, ClusterModel, available_memory
from pipeline.config import ImportedClusters
from pipeline.imported import ImportedError
from pipeline.imported.arrays import StoredArray
from pipeline.secrets import plain
from pipeline.storage import locate
from pipeline.vectors import Singles

MAX_CLUSTERS = 10_000_000

ORTHONORMAL_TOLERANCE = 0.01
"""How far products of components may be from 0 and 1; rounding to float16 moves them by less than 0.001."""


def read_clusters(settings: ImportedClusters, dim: int) -> ClusterModel:
    """Imported PCA and centroids, for unit embeddings of `dim` dimensions.

    Raises:
        ImportedError: they are damaged, of other dimensions, not finite, no PCA, or were not fitted to unit vectors.
        MemoryError: they do not fit into the memory that is free.
    """
    if settings.pca:
        mean, components = _read_pca(settings.pca, dim)
    else:
        mean, components = np.zeros(dim, np.float32), np.eye(dim, dtype=np.float32)
    stored, p = _stored(settings.centroids), len(components)
    shape = stored.header().shape
    if len(shape) != 2 or shape[1] != p or not 0 < shape[0] <= MAX_CLUSTERS:
        space = f"the {p} dimensions of {settings.pca}" if settings.pca else f"embeddings of {dim} dimensions"
        raise ImportedError(f"{stored} has the shape {shape}, not that of centroids in {space}.")
    centroids = _read(stored, shape)
    if not settings.pca:
        _refuse_long(stored, centroids)
    facts: dict[str, Any] = {"k": shape[0], "dim": dim, "pca_dim": p, "imported": plain(settings.model_dump())}
    return ClusterModel(mean, components, centroids, facts)


def _read_pca(path: str, dim: int) -> tuple[Singles, Singles]:
    """Mean (d,) and components (p, d)."""
    names = _stored(path).members()
    # scikit-learn's attributes end in an underscore.
    mean, components = (_stored(path, f"{name}_" if f"{name}_" in names else name) for name in ("mean", "components"))
    shapes = mean.header().shape, components.header().shape
    if shapes[0] != (dim,) or len(shapes[1]) != 2 or shapes[1][1] != dim or not 0 < shapes[1][0] <= dim:
        raise ImportedError(
            f"{path} has a mean of shape {shapes[0]} and components of shape {shapes[1]}, no PCA of embeddings of "
            f"{dim} dimensions."
        )
    centre, axes = _read(mean, shapes[0]), _read(components, shapes[1])
    _refuse_long(mean, centre[np.newaxis])
    if np.abs(axes @ axes.T - np.eye(len(axes))).max() > ORTHONORMAL_TOLERANCE:
        raise ImportedError(f"{components} are not orthonormal rows, as those of a PCA are (without whitening).")
    return centre, axes


def _refuse_long(stored: StoredArray, means: Singles) -> None:
    if (norm := float(np.linalg.norm(means, axis=1).max())) > 1 + NORM_TOLERANCE:
        raise ImportedError(
            f"{stored} holds a mean of norm {norm:.3g}, and no mean of unit vectors is longer than 1: it was fitted to "
            "embeddings that were not normalised."
        )


def _read(stored: StoredArray, shape: tuple[int, ...]) -> Singles:
    """An array of that shape as float32."""
    needed, free = 16 * int(np.prod(shape)), available_memory()
    if needed > free:
        raise MemoryError(f"{stored} needs {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free.")
    array = stored.read(shape).astype(np.float32)
    if not np.isfinite(array).all():
        raise ImportedError(f"{stored} holds numbers that are not finite.")
    return array


def _stored(path: str, member: str | None = None) -> StoredArray:
    fs, file = locate(path)
    return StoredArray(fs, file, member)
