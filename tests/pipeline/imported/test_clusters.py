"""Imported PCA and centroids: what they assign, and what is refused of them."""

import io
import pickle

import numpy as np
import pytest

from pipeline.config import ImportedClusters
from pipeline.imported import ImportedError
from pipeline.imported.clusters import read_clusters
from tests.pipeline.imported.foreign import npy, npz, put, vectors

DIM, P, K = 20, 6, 9


def pca(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "mean": 0.1 * rng.standard_normal(DIM) / np.sqrt(DIM),
        "components": np.linalg.qr(rng.standard_normal((DIM, P)))[0].T,
    }


def centroids(p: int = P) -> np.ndarray:
    return vectors(K, 5, p) * 0.4


def settings(folder, pca_file: bytes | None, centroids_file: bytes) -> ImportedClusters:
    put(f"{folder}/centroids.npy", centroids_file)
    if pca_file is not None:
        put(f"{folder}/pca.npz", pca_file)
    files = {"centroids": f"{folder}/centroids.npy", "pca": None if pca_file is None else f"{folder}/pca.npz"}
    return ImportedClusters(**files, model="ViT-B-32")


def nearest(points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points[:, np.newaxis] - centroids(points.shape[1]), axis=2).argmin(axis=1)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("ending", ["", "_"])
def test_samples_are_assigned_by_the_imported_pca_and_centroids(tmp_path, dtype, ending) -> None:
    arrays = {f"{name}{ending}": array.astype(dtype) for name, array in pca().items()}
    extra = {"explained_variance_": np.ones(P)} if ending else {}
    model = read_clusters(settings(tmp_path, npz(**arrays, **extra), npy(centroids().astype(dtype))), DIM)
    embeddings = vectors(500, dim=DIM)
    ids, distances = model.assign(embeddings)
    points = (embeddings - pca()["mean"]) @ pca()["components"].T
    expected = nearest(points)
    # float16 may move a point that lies midway.
    assert (ids == expected).mean() > (0.99 if dtype == "float16" else 0.999)
    away = np.linalg.norm(points - centroids()[ids], axis=1)
    np.testing.assert_allclose(distances, away, atol=2e-3 if dtype == "float16" else 1e-5)
    assert (model.facts["k"], model.facts["dim"], model.facts["pca_dim"]) == (K, DIM, P)
    assert model.facts["imported"]["model"] == "ViT-B-32"


def test_without_a_pca_centroids_are_in_embedding_space(tmp_path) -> None:
    model = read_clusters(settings(tmp_path, None, npy(centroids(DIM))), DIM)
    embeddings = vectors(100, dim=DIM)
    np.testing.assert_array_equal(model.assign(embeddings)[0], nearest(embeddings))


def test_secrets_in_a_url_are_not_kept(tmp_path, monkeypatch) -> None:
    import fsspec

    fs = fsspec.filesystem("memory")
    put("memory://clusters/c.npy", npy(centroids(DIM)))
    monkeypatch.setattr("pipeline.imported.clusters.locate", lambda url: (fs, "/clusters/c.npy"))
    signed = ImportedClusters(centroids="https://host/c.npy?signature=secret", model="m")
    assert "secret" not in str(read_clusters(signed, DIM).facts)


class Trap:
    def __reduce__(self):
        return pytest.fail, ("it was unpickled",)


def saved(**changes) -> bytes:
    return npz(**{**pca(), **changes})


OBJECTS = io.BytesIO()
np.save(OBJECTS, np.array([Trap()], object))


@pytest.mark.parametrize(
    ("pca_file", "centroids_file", "told"),
    [
        (saved(mean=np.zeros(DIM + 1)), npy(centroids()), f"no PCA of embeddings of {DIM} dimensions"),
        (saved(components=np.eye(P, DIM + 1)), npy(centroids()), "no PCA of embeddings of 20 dimensions"),
        (saved(components=np.ones((DIM + 1, DIM))), npy(centroids()), "no PCA of embeddings"),
        (saved(mean=np.zeros((1, DIM))), npy(centroids()), "no PCA of embeddings"),
        (saved(components=pca()["components"] * 1.02), npy(centroids()), "are not orthonormal rows"),
        (saved(components=np.ones((P, DIM)) / np.sqrt(DIM)), npy(centroids()), "are not orthonormal rows"),
        (saved(mean=np.full(DIM, 0.5)), npy(centroids()), "holds a mean of norm 2.24, .* not normalised"),
        (saved(mean=np.full(DIM, np.nan)), npy(centroids()), "holds numbers that are not finite"),
        (saved(components=np.full((P, DIM), np.inf)), npy(centroids()), "holds numbers that are not finite"),
        (saved(), npy(np.full((K, P), np.nan)), "holds numbers that are not finite"),
        (saved(), npy(centroids(P + 1)), r"the shape \(9, 7\), not that of centroids in the 6 dimensions of .*pca.npz"),
        (saved(), npy(centroids()[0]), r"the shape \(6,\), not that of centroids"),
        (saved(), npy(np.zeros((0, P))), r"the shape \(0, 6\), not that of centroids"),
        (saved(), npy(np.zeros((K, P), int)), "it holds int64"),
        (saved(), OBJECTS.getvalue(), "pickled objects"),
        (saved(), b"", "magic string"),
        (None, npy(centroids()), r"the shape \(9, 6\), not that of centroids in embeddings of 20 dimensions"),
        (None, npy(centroids(DIM) * 10), "holds a mean of norm 4, .* not normalised"),
        (npz(mean=pca()["mean"]), npy(centroids()), "there is no such array, only mean"),
        (pickle.dumps(Trap()), npy(centroids()), "pca.npz cannot be imported"),
    ],
)
def test_what_is_no_clustering_of_unit_embeddings_is_refused(tmp_path, pca_file, centroids_file, told) -> None:
    with pytest.raises(ImportedError, match=told):
        read_clusters(settings(tmp_path, pca_file, centroids_file), DIM)


def test_a_clustering_for_another_dimension_is_refused_before_anything_is_inflated(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("pipeline.imported.arrays._inflated_rows", lambda *_: pytest.fail("it was inflated"))
    with pytest.raises(ImportedError, match="no PCA of embeddings of 512 dimensions"):
        read_clusters(settings(tmp_path, saved(), npy(centroids())), 512)


def test_centroids_beyond_memory_are_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("pipeline.imported.clusters.available_memory", lambda: 500)
    with pytest.raises(MemoryError, match=r"centroids\.npy needs 0\.0 GB of memory"):
        read_clusters(settings(tmp_path, None, npy(centroids(DIM))), DIM)
