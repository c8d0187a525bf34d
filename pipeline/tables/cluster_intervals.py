"""95 % intervals of the rates of clusters.

The sums of every shard and cluster would be as many as the images. So shards are dealt into BATCHES by the hash of
their ids, and the variance of a ratio of sums is estimated between batches (random groups: Wolter, Introduction to
Variance Estimation, 2007, chapter 2): a shard lies in one batch, so that its images resemble each other is in the
estimate. A cluster with few images tells little of how batches differ; an interval is never narrower than that of
independent images, and below MIN_SHARDS it is that one, with a warning.
"""

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import stdtrit

from pipeline.tables.connection import filled, select
from pipeline.tables.intervals import LEVEL, MIN_SHARDS, wilson

BATCHES = 50

RATES = {"text_share": "with_text", "co_emb_share": "with_co_emb", "mean_cotr": "cotr"}
"""Rate → the sum that it is, over the measured images."""

SHARDS = filled(
    "SELECT count(DISTINCT shard) AS shards, count(DISTINCT hash(shard) % {batches}) AS batches FROM profiles",
    batches=BATCHES,
)

_ERROR = (
    "sqrt(greatest(sum({x} ** 2) - 2 * {r} * sum({x} * measured) + {r} ** 2 * sum(measured ** 2), 0)) / sum(measured)"
)
"""Of the ratio {r} of a sum {x} to that of the measured images, from the squares of what batches are off by."""

SQL = filled(
    """
SELECT cluster_id, {errors}
FROM (
    SELECT cluster_id, hash(shard) % {batches} AS batch,
        count(*) FILTER (spot_status <> 'failed')::DOUBLE AS measured,
        count(*) FILTER (text_class <> 'none')::DOUBLE AS with_text,
        count(*) FILTER (text_class = 'co_emb')::DOUBLE AS with_co_emb,
        coalesce(sum(cotr::DOUBLE), 0) AS cotr
    FROM profiles WHERE cluster_id IS NOT NULL GROUP BY ALL
)
GROUP BY cluster_id HAVING sum(measured) > 0
""",
    errors=", ".join(f"{filled(_ERROR, x=x, r=f'(sum({x}) / sum(measured))')} AS {rate}" for rate, x in RATES.items()),
    batches=BATCHES,
)
"""The standard error of every rate, as far as batches of shards differ, but for the factor of their number."""

INDEPENDENT = (
    f"Fewer than {MIN_SHARDS} shards: intervals of clusters take images for independent (Wilson, mean CoTR: normal). "
    "Images of a shard are correlated, so they are too narrow."
)
BETWEEN = (
    f"Intervals, 95 %: from how up to {BATCHES} batches of shards differ, and nowhere narrower than images would give "
    "if they were independent (Wilson, mean CoTR: normal)."
)

Doubles = npt.NDArray[np.float64]


def with_intervals(connection: duckdb.DuckDBPyConnection, clusters: pa.Table) -> tuple[pa.Table, str]:
    """The table of clusters with `…_low_95` and `…_high_95` beside its rates, null where the rate is; how, for people.

    A mean CoTR has none, either, where all images have the same one.

    Args:
        connection: to the profiles.
        clusters: `cluster_id`, `measured`, `sd_cotr` and the rates, (clusters,).
    """
    (counts,) = select(connection, SHARDS).to_pylist()
    between = {rate: np.zeros(clusters.num_rows) for rate in RATES}
    if counts["shards"] >= MIN_SHARDS:
        errors = select(connection, SQL)
        rows = pc.index_in(clusters["cluster_id"], errors["cluster_id"].combine_chunks()).fill_null(-1)
        batches = counts["batches"]
        factor = np.sqrt(batches / (batches - 1)) * stdtrit(batches - 1, (1 + LEVEL) / 2)
        for rate in RATES:
            between[rate] = factor * np.append(errors[rate].to_numpy(), np.nan)[rows.to_numpy()]
    for rate, half in between.items():
        for suffix, bound in zip(("high_95", "low_95"), reversed(_bounds(clusters, rate, half)), strict=True):
            place = clusters.column_names.index(rate) + 1
            clusters = clusters.add_column(place, f"{rate}_{suffix}", pa.array(bound, from_pandas=True))
    return clusters, BETWEEN if counts["shards"] >= MIN_SHARDS else INDEPENDENT


def _bounds(clusters: pa.Table, rate: str, half: Doubles) -> tuple[Doubles, Doubles]:
    """The wider of rate ± half and the interval of independent images; NaN where there is none."""
    value = clusters[rate].to_numpy()
    measured = clusters["measured"].to_numpy()
    if rate == "mean_cotr":
        with np.errstate(divide="ignore", invalid="ignore"):
            half = np.fmax(half, stdtrit(np.inf, (1 + LEVEL) / 2) * clusters["sd_cotr"].to_numpy() / np.sqrt(measured))
        half = np.where(half > 0, half, np.nan)
        low, high = value - half, value + half
    else:
        low, high = wilson(np.round(value * measured), measured)
        low, high = np.fmin(low, value - half), np.fmax(high, value + half)
    return np.maximum(low, 0), np.minimum(high, 1)
