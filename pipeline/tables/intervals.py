"""95 % intervals of the rates of Table 1.

Images of a shard resemble each other (they were crawled, shuffled or sorted together), so the shard is the unit that
is drawn: a bootstrap over shards of the ratio of sums, percentile intervals (Efron & Tibshirani, 1993, chapter 13),
their levels widened for few shards (Hesterberg, The American Statistician 69, 2015, section 5.3). Fewer than
MIN_SHARDS say too little of how shards differ. Then images stand for the unit, as if they were independent: Wilson's
interval (1927) for shares, the normal one of a ratio of sums (Cochran, 1977, section 6.3) for rates. Rows of a shard
are correlated, so those are too narrow; INDEPENDENT says so wherever they are shown. Where all units are alike (no
shard has any co-embedded text, say), an interval of no width would claim too much: a share has Wilson's, a rate none.

`cotr_in_true_text` is no row of Table 1: its denominator is the images with text less the spotter's false alarms, as
corrections want it (`pipeline.tables.sensitivity`).
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as ds
from scipy.special import ndtr, ndtri, stdtrit

from pipeline.tables.connection import connected, filled, select

LEVEL = 0.95
MIN_SHARDS = 20
REPLICATES = 2_000
BLOCK = 4_000_000
"""Shards drawn at once: some 100 MB, however many shards there are."""

BOOTSTRAP, WILSON, NORMAL = "bootstrap over shards", "Wilson, over images", "normal, over images"
INDEPENDENT = (
    f"Fewer than {MIN_SHARDS} shards: the intervals take images for independent. Images of a shard are correlated, "
    "so the intervals are too narrow."
)

RATES: Mapping[str, tuple[str, str]] = {
    "without_text_share": ("without_text", "measured"),
    "other_text_share": ("other_text", "measured"),
    "co_emb_share": ("with_co_emb", "measured"),
    "text_share": ("with_text", "measured"),
    "co_emb_share_of_text": ("with_co_emb", "with_text"),
    "cotr_macro": ("cotr", "measured"),
    "cotr_macro_in_text": ("cotr", "with_text"),
    "fuzzy_macro": ("fuzzy_cotr", "measured"),
    "fuzzy_macro_in_text": ("fuzzy_cotr", "with_text"),
    "cotr_micro": ("co_emb_words", "caption_words"),
    "cotr_micro_in_text": ("co_emb_words", "caption_words_in_text"),
    "fuzzy_micro": ("fuzzy_words", "caption_words"),
    "fuzzy_micro_in_text": ("fuzzy_words", "caption_words_in_text"),
    "literal_macro": ("cotr_literal", "measured"),
    "cotr_in_true_text": ("cotr", "true_text"),
}
"""Attribute of `Table1`, or `cotr_in_true_text` → the sums whose ratio it is."""

SHARES = tuple(name for name in RATES if "share" in name)
SUMS = tuple(dict.fromkeys(name for pair in RATES.values() for name in pair))

IMAGES = """
WITH images AS (
    SELECT
        shard,
        (spot_status <> 'failed')::INT AS measured,
        (text_class = 'none')::INT AS without_text,
        (text_class = 'text')::INT AS other_text,
        (text_class = 'co_emb')::INT AS with_co_emb,
        (text_class <> 'none')::INT AS with_text,
        (text_class <> 'none')::INT - {false_alarms} * (spot_status <> 'failed')::INT AS true_text,
        cotr::DOUBLE AS cotr,
        fuzzy_cotr::DOUBLE AS fuzzy_cotr,
        cotr_literal::DOUBLE AS cotr_literal,
        round(cotr::DOUBLE * len(word_similarity)) AS co_emb_words,
        round(fuzzy_cotr::DOUBLE * len(word_similarity)) AS fuzzy_words,
        len(word_similarity) AS caption_words,
        len(word_similarity) * (text_class <> 'none')::INT AS caption_words_in_text
    FROM profiles
)
"""
"""What each image adds to the sums; nothing where its spotting failed."""

SCHEMA = pa.schema(
    [
        ("rate", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("method", pa.string()),
        ("shards", pa.int64()),
    ]
)

Doubles = npt.NDArray[np.float64]


class Interval(NamedTuple):
    low: float
    high: float


def intervals(profiles: ds.Dataset | pa.Table, false_alarms: float = 0.0) -> pa.Table:
    """Every one of RATES with its 95 % interval, as SCHEMA says; nulls for a rate of nothing.

    Args:
        profiles: `shard`, `spot_status` and the columns of `schema.OVERLAP` are read.
        false_alarms: share of images without text in which the spotter finds some, for `cotr_in_true_text`.
    """
    with connected(profiles) as connection:
        sums = select(connection, per_shard(false_alarms))
        shards = sums.num_rows
        matrix = np.stack([sums[name].to_numpy() for name in SUMS], axis=1)
        totals = dict(zip(SUMS, matrix.sum(axis=0).tolist(), strict=True))
        values = {name: totals[n] / totals[d] for name, (n, d) in RATES.items() if totals[d] > 0}
        rates = {name: value for name, value in values.items() if name not in SHARES}
        if shards >= MIN_SHARDS:
            found = {name: (interval, BOOTSTRAP) for name, interval in bootstrap(matrix).items()}
        else:
            found = {name: (interval, NORMAL) for name, interval in _of_ratios(connection, rates, false_alarms)}
    found = {name: interval for name, interval in found.items() if interval[0].low < interval[0].high}
    for name in values.keys() - rates.keys() - found.keys():
        hits, trials = RATES[name]
        found[name] = (Interval(*map(float, wilson(totals[hits], totals[trials]))), WILSON)
    rows = []
    for name in RATES:
        interval, method = found.get(name, (None, None))
        low, high = interval or (None, None)
        rows.append((name, values.get(name), low, high, method, shards))
    columns = zip(*rows, strict=True)
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)], SCHEMA)


def per_shard(false_alarms: float = 0.0) -> str:
    """The SQL of the sums of every shard."""
    totals = ",\n    ".join(f"coalesce(sum({name}), 0)::DOUBLE AS {name}" for name in SUMS)
    images = filled(IMAGES, false_alarms=false_alarms)
    return f"{images}SELECT shard,\n    {totals}\nFROM images GROUP BY shard ORDER BY shard"


def bootstrap(sums: Doubles, replicates: int = REPLICATES, seed: int = 0) -> dict[str, Interval]:
    """Intervals of RATES from per-shard sums (shards, len(SUMS)), in the order of SUMS; a rate of nothing has none.

    Shards are drawn with replacement, as many as there are, `replicates` times. At n shards the percentiles are
    those of the normal deviate sqrt(n / (n - 1)) t: 20 drawn shards cover the truth in 94 % of the cases, and in
    92 % without it.
    """
    shards = len(sums)
    generator = np.random.default_rng(seed)
    deviate = np.sqrt(shards / (shards - 1)) * stdtrit(shards - 1, (1 - LEVEL) / 2)
    levels = [ndtr(deviate), ndtr(-deviate)]
    at_once = max(1, BLOCK // shards)
    drawn = np.empty((replicates, sums.shape[1]))
    for start in range(0, replicates, at_once):
        count = min(at_once, replicates - start)
        picks = generator.integers(0, shards, (count, shards)) + np.arange(count)[:, None] * shards
        times = np.bincount(picks.ravel(), minlength=count * shards).reshape(count, shards)
        drawn[start : start + count] = times @ sums
    found = {}
    for name, (numerator, denominator) in RATES.items():
        below = drawn[:, SUMS.index(denominator)]
        if (below > 0).any():
            rates = drawn[below > 0, SUMS.index(numerator)] / below[below > 0]
            low, high = np.quantile(rates, levels).tolist()
            found[name] = Interval(low, high)
    return found


def wilson(hits: float | Doubles, trials: float | Doubles) -> tuple[Doubles, Doubles]:
    """Wilson's score interval of shares of `trials`, elementwise; NaN where there are none."""
    z = ndtri((1 + LEVEL) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        share, weight = np.asarray(hits) / trials, z * z / np.asarray(trials)
        centre = (share + weight / 2) / (1 + weight)
        half = z * np.sqrt(share * (1 - share) / trials + weight / trials / 4) / (1 + weight)
    return np.maximum(centre - half, 0), np.minimum(centre + half, 1)


def _of_ratios(
    connection: duckdb.DuckDBPyConnection, rates: Mapping[str, float], false_alarms: float
) -> Iterator[tuple[str, Interval]]:
    """Normal intervals, within [0, 1], of rates that are ratios of sums over images."""
    if not rates:
        return
    terms = ((name, *RATES[name]) for name in rates)
    errors = ", ".join(f"sqrt(sum(({n} - ${name} * {d}) ** 2)) / sum({d}) AS {name}" for name, n, d in terms)
    sql = f"{filled(IMAGES, false_alarms=false_alarms)} SELECT {errors} FROM images"  # noqa: S608 (names of RATES)
    (found,) = select(connection, sql, rates).to_pylist()
    half = {name: float(ndtri((1 + LEVEL) / 2)) * error for name, error in found.items()}
    for name, rate in rates.items():
        yield name, Interval(max(0.0, rate - half[name]), min(1.0, rate + half[name]))
