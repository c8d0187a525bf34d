import json
from collections.abc import Iterator

import numpy as np
import pytest

from pipeline import clustering
from pipeline.clustering import ClusterModel, available_memory, fit
from pipeline.config import ClusterSettings


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def _settings(**changes: int) -> ClusterSettings:
    return ClusterSettings(**{"k": 8, "pca_dim": 6, "niter": 10, "sample_size": 1000, **changes})


def _planted(n: int, k: int, dim: int = 16, noise: float = 0.02) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors around k random directions, and the direction of each."""
    rng = np.random.default_rng(0)
    centres = _unit(rng.standard_normal((k, dim)))
    labels = rng.integers(0, k, n)
    return _unit(centres[labels] + noise * rng.standard_normal((n, dim))), labels


def _random_model(k: int = 50, p: int = 12, dim: int = 20) -> ClusterModel:
    rng = np.random.default_rng(1)
    components = np.linalg.qr(rng.standard_normal((dim, p)))[0].T
    return ClusterModel(
        (0.1 * rng.standard_normal(dim)).astype(np.float32),
        components.astype(np.float32),
        (0.3 * rng.standard_normal((k, p))).astype(np.float32),
        {},
    )


def _brute_force(model: ClusterModel, embeddings: np.ndarray) -> np.ndarray:
    """Distances (n, k) in float64, from the definition."""
    mean, components, centroids = (
        array.astype(np.float64) for array in (model.pca_mean, model.pca_components, model.centroids)
    )
    points = (embeddings.astype(np.float64) - mean) @ components.T
    return np.linalg.norm(points[:, np.newaxis] - centroids, axis=2)


def test_planted_clusters_are_recovered():
    embeddings, labels = _planted(2000, 5)
    model = fit(embeddings, _settings(k=5, nredo=5), threads=1)
    ids, distances = model.assign(embeddings)
    pairs = set(zip(ids.tolist(), labels.tolist(), strict=True))
    assert len(pairs) == 5
    assert distances.max() < 0.2
    assert model.facts["explained_variance"] > 0.95


def test_pca_equals_the_singular_vectors_of_the_centred_sample():
    embeddings, _ = _planted(700, 8, noise=0.3)
    model = fit(embeddings, _settings(), threads=1)
    centred = embeddings.astype(np.float64) - embeddings.mean(axis=0, dtype=np.float64)
    _, singular, vectors = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(model.pca_mean, embeddings.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(np.abs(np.sum(model.pca_components * vectors[:6], axis=1)), 1, atol=1e-5)
    assert model.facts["explained_variance"] == pytest.approx((singular[:6] ** 2).sum() / (singular**2).sum())


def test_pca_keeps_all_dimensions_if_there_are_no_more():
    embeddings, _ = _planted(400, 8, dim=4)
    assert fit(embeddings, _settings(), threads=1).pca_components.shape == (4, 4)


def test_the_objective_is_that_of_all_points_not_of_a_subsample():
    # faiss would by default take 256 points per centroid: 512 of 3,000. The objective of a step is that of
    # the centroids the step before ended with.
    embeddings, _ = _planted(3000, 6, noise=0.3)
    before = fit(embeddings, _settings(k=2, niter=3), threads=1)
    after = fit(embeddings, _settings(k=2, niter=4), threads=1)
    expected = (_brute_force(before, embeddings).min(axis=1) ** 2).sum()
    assert len(after.facts["objective"]) == 4
    assert after.facts["objective"][3] == pytest.approx(expected, rel=1e-5)
    assert after.facts["objective"] == sorted(after.facts["objective"], reverse=True)


def test_a_second_fit_gives_the_same_bytes():
    embeddings, _ = _planted(600, 8, noise=0.3)
    assert fit(embeddings, _settings(), 1).to_bytes() == fit(embeddings, _settings(), 1).to_bytes()


def test_half_precision_embeddings_are_unit_enough():
    embeddings, _ = _planted(600, 8, noise=0.3)
    model = fit(embeddings.astype(np.float16), _settings(), threads=1)
    ids, distances = model.assign(embeddings.astype(np.float16))
    assert ids.dtype == np.int32
    assert distances.dtype == np.float32


@pytest.mark.parametrize("n", [1, 1023, 1024, 2500])
def test_assign_equals_brute_force(n):
    model = _random_model()
    embeddings = _unit(np.random.default_rng(2).standard_normal((n, 20)))
    expected = _brute_force(model, embeddings)
    ids, distances = model.assign(embeddings)
    np.testing.assert_array_equal(ids, expected.argmin(axis=1))
    np.testing.assert_allclose(distances, expected.min(axis=1), rtol=1e-5)


def test_assign_does_not_depend_on_how_rows_are_batched():
    model = _random_model(k=333)
    embeddings = _unit(np.random.default_rng(3).standard_normal((3000, 20)))
    ids, distances = model.assign(embeddings)
    for size in (1, 7, 1500):
        parts = [model.assign(embeddings[start : start + size]) for start in range(0, 70 * size, size)][:70]
        np.testing.assert_array_equal(np.concatenate([part[0] for part in parts]), ids[: 70 * size])
        np.testing.assert_array_equal(np.concatenate([part[1] for part in parts]), distances[: 70 * size])


def test_assign_takes_the_first_of_equally_near_centroids():
    model = _random_model(k=37)
    twice = ClusterModel(model.pca_mean, model.pca_components, np.concatenate([model.centroids] * 2), {})
    embeddings = _unit(np.random.default_rng(4).standard_normal((500, 20)))
    np.testing.assert_array_equal(twice.assign(embeddings)[0], model.assign(embeddings)[0])


def test_a_point_on_its_centroid_has_no_distance():
    # By |x|² - 2 x·c + |c|² it would have one of some 1e-4.
    embeddings = _unit(np.random.default_rng(5).standard_normal((10, 20)))
    identity = np.eye(20, dtype=np.float32)
    model = ClusterModel(np.zeros(20, np.float32), identity, embeddings.copy(), {})
    ids, distances = model.assign(embeddings)
    assert ids.tolist() == list(range(10))
    assert distances.max() < 1e-6


def test_assign_of_nothing_is_nothing():
    ids, distances = _random_model().assign(np.empty((0, 20), np.float32))
    assert (len(ids), len(distances)) == (0, 0)


@pytest.mark.parametrize(("value", "norm"), [(np.nan, "nan"), (np.inf, "inf"), (0.0, "0"), (2.0, "")])
def test_a_vector_that_is_not_unit_is_refused_by_its_row(value, norm):
    embeddings, _ = _planted(600, 8)
    embeddings[417] *= value
    with pytest.raises(ValueError, match=f"embedding 417 is no unit vector: its norm is {norm}"):
        fit(embeddings, _settings(), threads=1)
    with pytest.raises(ValueError, match="embedding 417 is no unit vector"):
        fit(_planted(600, 8)[0], _settings(), threads=1).assign(embeddings)


def test_embeddings_of_another_width_are_refused():
    with pytest.raises(ValueError, match="expected embeddings of 20 dimensions, not of shape \\(3, 16\\)"):
        _random_model().assign(_planted(3, 2)[0])


def test_too_few_points_are_refused_with_what_is_needed():
    with pytest.raises(ValueError, match="8 clusters need 312 embeddings, 39 each, and there are 311"):
        fit(_planted(311, 8)[0], _settings(), threads=1)
    fit(_planted(312, 8)[0], _settings(niter=1), threads=1)


def test_too_little_memory_is_refused_with_what_is_needed(monkeypatch):
    monkeypatch.setattr(clustering, "available_memory", lambda: 50_000_000)
    with pytest.raises(MemoryError, match=r"needs 0\.1 GB and 0\.1 GB are free|needs 0\.1 GB and 0\.0 GB"):
        fit(_planted(400, 8)[0], _settings(), threads=1)


@pytest.fixture
def cgroup(tmp_path, monkeypatch) -> Iterator[object]:
    """A machine with 10 GB free, whose control groups stand in a folder of the test's."""

    class Memory:
        available = 10_000_000_000

    real = clustering.Path

    def redirected(path: str):
        return tmp_path / path.lstrip("/")

    monkeypatch.setattr(clustering, "Path", redirected)
    monkeypatch.setattr(clustering.psutil, "virtual_memory", Memory)
    yield tmp_path
    assert clustering.Path is not real


def _write(folder, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def test_memory_without_control_groups_is_the_machines(cgroup):
    assert available_memory() == 10_000_000_000


def test_memory_is_that_of_the_tightest_control_group(cgroup):
    _write(cgroup / "proc/self", cgroup="0::/job/step\n")
    base = cgroup / "sys/fs/cgroup"
    step = {"memory.max": "max\n", "memory.current": "1000", "memory.stat": "anon 1\ninactive_file 0\n"}
    job = {"memory.max": "5000", "memory.current": "3000", "memory.stat": "anon 1\ninactive_file 400\n"}
    _write(base / "job/step", **step)
    _write(base / "job", **job)
    assert available_memory() == 5000 - (3000 - 400)


def test_memory_of_a_container_is_that_of_its_root_group(cgroup):
    _write(cgroup / "proc/self", cgroup="4:cpu,memory:/docker/abc\n3:cpuset:/\n0::/\n")
    usage = {"memory.limit_in_bytes": "9000", "memory.usage_in_bytes": "2000"}
    _write(cgroup / "sys/fs/cgroup/memory", **usage, **{"memory.stat": "total_inactive_file 0\n"})
    assert available_memory() == 7000


def test_a_model_survives_its_bytes():
    model = fit(_planted(400, 8)[0], _settings(), threads=1)
    again = ClusterModel.from_bytes(model.to_bytes(), json.loads(json.dumps(dict(model.facts))))
    for name in ("pca_mean", "pca_components", "centroids"):
        np.testing.assert_array_equal(getattr(again, name), getattr(model, name))
    assert again.facts == model.facts


def test_arrays_that_do_not_fit_are_refused():
    model = _random_model()
    with pytest.raises(ValueError, match="shapes do not fit"):
        ClusterModel(model.pca_mean, model.pca_components, model.centroids[:, 1:], {})
    with pytest.raises(ValueError, match="shapes do not fit"):
        ClusterModel(model.pca_mean[1:], model.pca_components, model.centroids, {})
