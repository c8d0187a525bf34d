"""The views a query reads: what each is made of, in SQL over the rows as they are stored."""

from dataclasses import dataclass

STORED = "stored_"
"""Prefix of the datasets themselves, which no query may name."""


@dataclass(frozen=True)
class View:
    """SQL of a view, and the datasets it reads: profiles, rejects or shards."""

    dataset: str
    sql: str


WORDS_SQL = """
SELECT shard, "index", uid, position, word.text, word.confidence, word.polygon, area, co_emb, text_class, cluster_id
FROM (
    SELECT shard, "index", uid, text_class, cluster_id,
        unnest(range(1, len(spotted) + 1))       AS position,
        unnest(spotted)                          AS word,
        unnest(spotted_area)                     AS area,
        unnest(spotted_co_emb)                   AS co_emb
    FROM stored_profiles
)
"""

CLUSTERS_SQL = """
SELECT
    cluster_id,
    count(*)                                         AS images,
    count(*) FILTER (spot_status <> 'failed')        AS measured,
    avg((text_class <> 'none')::INTEGER)             AS text_share,
    avg((text_class = 'co_emb')::INTEGER)            AS co_emb_share,
    avg(cotr)                                        AS mean_cotr,
    avg(fuzzy_cotr)                                  AS mean_fuzzy_cotr,
    -- a score that is no cosine, NaN included, is no score
    avg(clip_score) FILTER (abs(clip_score) < 2)     AS mean_clip_score,
    avg(cluster_distance)                            AS mean_distance
FROM stored_profiles
WHERE cluster_id IS NOT NULL
GROUP BY cluster_id
"""

VIEWS = {
    "profiles": View("profiles", "SELECT * FROM stored_profiles"),
    "words": View("profiles", WORDS_SQL),
    "rejects": View("rejects", "SELECT * FROM stored_rejects"),
    "shards": View("shards", "SELECT * FROM stored_shards"),
    "clusters": View("profiles", CLUSTERS_SQL),
}

# A score that is not finite has no bin.
_SCORE_BIN = "TRY_CAST(floor(clip_score::DOUBLE * 1000) AS INTEGER)"

PERCENTILES_SQL = f"""
SELECT cluster_id, score_bin,
    sum(images) OVER (PARTITION BY cluster_id ORDER BY score_bin) / sum(images) OVER (PARTITION BY cluster_id)
        AS cluster_percentile
FROM (
    SELECT cluster_id, {_SCORE_BIN} AS score_bin, count(*) AS images
    FROM stored_profiles
    GROUP BY 1, 2
)
WHERE cluster_id IS NOT NULL AND score_bin IS NOT NULL
"""  # noqa: S608 - of constants
"""Score histogram of every cluster, cumulated: a row per cluster and bin, 4,000 clusters x some hundred bins."""

PROFILES_WITH_PERCENTILE_SQL = f"""
SELECT stored_profiles.*, cluster_percentile
FROM stored_profiles
LEFT JOIN stored_percentiles
    ON stored_percentiles.cluster_id = stored_profiles.cluster_id AND score_bin = {_SCORE_BIN}
"""  # noqa: S608
