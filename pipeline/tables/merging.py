"""Figure 3a: clusters merged for the plot, and their images by class.

How the paper merged its 4,000 clusters to 100 is not published. Ours: Ward's agglomerative clustering of the
centroids, each counting once. Unweighted, the groups depend on the clustering alone: every sample of a collection,
and every set of profiles on one clustering, is drawn in the same groups.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sklearn.cluster import AgglomerativeClustering

from pipeline.schema import CLUSTER_ID, TextClass
from pipeline.tables.clusters import SQL
from pipeline.tables.result import Result
from pipeline.vectors import Singles

GROUPS = 100
"""As in the paper."""

METHOD = f"Clusters are merged to {GROUPS} by Ward's method on the centroids, unweighted (ours; theirs is unknown)."


def merge(centroids: Singles, groups: int = GROUPS) -> npt.NDArray[np.int64]:
    """The group, (k,), of each of k centroids, (k, p); with no more centroids than groups each is its own.

    Memory: k (k - 1) / 2 distances, 64 MB at 4,000.
    """
    if len(centroids) <= groups:
        return np.arange(len(centroids))
    labels = AgglomerativeClustering(groups, linkage="ward").fit_predict(centroids)
    return np.asarray(labels, np.int64)


def figure3a(clusters: pa.Table, centroids: Singles | None) -> Result:
    """Images of each group of clusters by class, the largest first; groups without a spotted image are left out.

    Args:
        clusters: of `clusters.cluster_tables`.
        centroids: (k, p), of the clustering the profiles were assigned with; None: clusters are not merged.

    Raises:
        ValueError: a cluster of the profiles has no centroid.
    """
    ids = clusters[CLUSTER_ID.name].to_numpy()
    if centroids is not None and len(ids) and ids.max() >= len(centroids):
        raise ValueError(f"cluster {ids.max()} is none of {len(centroids)} centroids: they are of another clustering")
    groups = merge(centroids)[ids] if centroids is not None else np.arange(len(ids))
    size = groups.max(initial=-1) + 1
    counts = {c.value: np.bincount(groups, clusters[c.value].to_numpy(), size).astype(int) for c in TextClass}
    measured = np.sum(list(counts.values()), axis=0)
    order = np.argsort(-measured, kind="stable")[: np.count_nonzero(measured)]
    measured, counts = measured[order], {name: count[order] for name, count in counts.items()}
    table = pa.table(
        {
            "group": np.arange(len(order)),
            "clusters": np.bincount(groups, minlength=size)[order],
            "measured": measured,
            **counts,
            "text_share": 1 - counts[TextClass.NONE] / measured,
            "co_emb_share": counts[TextClass.CO_EMB] / measured,
        }
    )
    merged = centroids is not None and len(centroids) > GROUPS
    failed = int(np.sum(clusters["spot_failed"].to_numpy()))
    notes = (METHOD if merged else "Clusters are not merged.", f"{failed:,} images could not be spotted: left out.")
    return Result("figure_3a", "Figure 3a: images of each cluster by class", table, figure3a, SQL, notes)
