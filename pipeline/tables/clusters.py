"""Classes, CLIP scores and distances per cluster, and CLIP scores per class.

One pass over the profiles counts images per cluster, class and thousandth of CLIP score; every table is made from
those counts, so memory depends on the number of clusters alone. A quantile is interpolated within its thousandth.
"""

from dataclasses import replace
from typing import NamedTuple

import pyarrow as pa
import pyarrow.dataset as ds

from pipeline.tables import cluster_intervals
from pipeline.tables.binned import quantile_columns
from pipeline.tables.connection import connected, filled, select
from pipeline.tables.result import Result

SQL = """
CREATE TEMP TABLE counted AS
SELECT cluster_id, coalesce(text_class, 'failed') AS text_class, floor(score * 1000)::INT AS score_bin,
    count(*) AS images, sum(score) AS score, sum(score * score) AS score_squared,
    sum(cotr::DOUBLE) AS cotr, sum(cotr::DOUBLE * cotr) AS cotr_squared, sum(cluster_distance::DOUBLE) AS distance
-- a score that is no cosine, NaN included, is no score
FROM (SELECT *, CASE WHEN abs(clip_score) < 2 THEN clip_score::DOUBLE END AS score FROM profiles)
GROUP BY ALL
"""

_SCORES = """
SELECT {group},
    sum(images)::BIGINT AS images,
    coalesce(sum(images) FILTER (score_bin IS NULL), 0)::BIGINT AS without_score,
    sum(score) / any_value(total) AS mean_clip_score,
    sqrt(greatest(sum(score_squared) / any_value(total) - mean_clip_score * mean_clip_score, 0)) AS sd_clip_score,
    {quantiles}
FROM (
    SELECT *, sum(images) OVER (PARTITION BY {group} ORDER BY score_bin) AS upto,
        sum(images) FILTER (score_bin IS NOT NULL) OVER (PARTITION BY {group}) AS total
    FROM (
        SELECT {group}, score_bin, sum(images) AS images, sum(score) AS score, sum(score_squared) AS score_squared
        FROM counted GROUP BY ALL
    )
)
GROUP BY ALL
"""


def _scores(group: str) -> str:
    """The SQL of CLIP scores per column or columns."""
    return filled(_SCORES, group=group, quantiles=quantile_columns("clip_score", "score_bin", "images", 1_000))


CLUSTERS = filled(
    """
SELECT * FROM (
    SELECT cluster_id, sum(images)::BIGINT AS images,
        coalesce(sum(images) FILTER (text_class = 'failed'), 0)::BIGINT AS spot_failed,
        coalesce(sum(images) FILTER (text_class = 'none'), 0)::BIGINT AS "none",
        coalesce(sum(images) FILTER (text_class = 'text'), 0)::BIGINT AS "text",
        coalesce(sum(images) FILTER (text_class = 'co_emb'), 0)::BIGINT AS co_emb,
        "none" + "text" + co_emb AS measured,
        ("text" + co_emb) / nullif(measured, 0) AS text_share,
        co_emb / nullif(measured, 0) AS co_emb_share,
        sum(cotr) / nullif(measured, 0) AS mean_cotr,
        sqrt(greatest(sum(cotr_squared) / nullif(measured, 0) - mean_cotr ** 2, 0)) AS sd_cotr,
        sum(distance) / sum(images) AS mean_distance
    FROM counted WHERE cluster_id IS NOT NULL GROUP BY cluster_id
) JOIN (SELECT * EXCLUDE (images) FROM ({scores})) USING (cluster_id)
ORDER BY images DESC, cluster_id
""",
    scores=_scores("cluster_id"),
)
CLASSES = _scores("text_class") + "ORDER BY text_class"
CLUSTER_CLASSES = _scores("cluster_id, text_class") + "HAVING cluster_id IS NOT NULL ORDER BY cluster_id, text_class"
HISTOGRAM_BINS = 100
"""Per unit of cosine."""
HISTOGRAM = filled(
    """
SELECT text_class, floor(score_bin * {bins} / 1000) / {bins} AS score_from, sum(images)::BIGINT AS images
FROM counted WHERE score_bin IS NOT NULL AND text_class <> 'failed' GROUP BY ALL ORDER BY ALL
""",
    bins=HISTOGRAM_BINS,
)


class ClusterTables(NamedTuple):
    """Tables of one count; shares and means in [0, 1] or cosine, sd: of the population."""

    clusters: Result
    """A row per cluster, the largest first: images by class, shares, CoTR, distance and CLIP score.

    Columns that the SQL view has too (`schema.CLUSTERS`) have its names and values."""
    classes: Result
    """CLIP score per class (`failed`: not spotted): mean, sd, quantiles, images without a score."""
    cluster_classes: Result
    """The same per cluster and class."""
    histogram: Result
    """Images per class and hundredth of CLIP score."""


def cluster_tables(profiles: ds.Dataset | pa.Table) -> ClusterTables:
    """Count the profiles and make the tables (shard, class, cluster, CLIP score, CoTR and distance are read)."""
    with connected(profiles) as connection:
        connection.execute(SQL)
        left_out = """
            SELECT sum(images)::BIGINT AS images, sum(images) FILTER (cluster_id IS NULL)::BIGINT AS clusterless,
                sum(images) FILTER (text_class = 'failed')::BIGINT AS failed,
                sum(images) FILTER (score_bin IS NULL)::BIGINT AS without_score FROM counted
        """
        (counts,) = select(connection, left_out).to_pylist()
        images, clusterless, failed, without_score = (counts[name] or 0 for name in counts)
        notes = (
            f"Of {images:,} images {clusterless:,} have no cluster, {failed:,} could not be spotted, {without_score:,} "
            "have no CLIP score: they are counted, and are in no share, mean or quantile that would need it.",
        )

        def result(name: str, title: str, sql: str) -> Result:
            return Result(name, title, select(connection, sql), cluster_tables, f"{SQL};{sql}", notes)

        clusters = result("clusters", "Clusters: images by class, CoTR, CLIP score, distance to the centroid", CLUSTERS)
        table, method = cluster_intervals.with_intervals(connection, clusters.table)
        sql = f"{clusters.sql};\n-- for the intervals\n{cluster_intervals.SQL}"
        return ClusterTables(
            replace(clusters, table=table, sql=sql, notes=(*notes, method)),
            result("clip_score_by_class", "CLIP score of images by class", CLASSES),
            result("clip_score_by_cluster_and_class", "CLIP score by cluster and class", CLUSTER_CLASSES),
            result("clip_score_histogram", "Images by class and hundredth of CLIP score", HISTOGRAM),
        )
