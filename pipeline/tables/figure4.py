"""Figure 4: how many caption words are in the image, how much of the image they fill, and how large a word is.

The paper gives no bins; ours are the constants here. Bins are closed below; the last one is open above.
"""

import pyarrow as pa
import pyarrow.dataset as ds

from pipeline.tables.binned import quantile_columns
from pipeline.tables.connection import connected, filled, select
from pipeline.tables.result import Result

MOST_WORDS = 30
"""Captions of so many distinct words, and of more, are in the last bin."""

AREA_BINS, SCORE_BINS = 50, 100
"""Bins per whole image, and per unit of cosine."""

WORD_AREA_BINS, FINE_BINS = 1_000, 10_000
"""Bins per whole image of a single word's area: those of the histogram, and those of which quantiles are made."""

WORDS = filled(
    """
SELECT least(len(word_similarity), {most})::INT AS caption_words,
    least(round(cotr::DOUBLE * len(word_similarity)), {most})::INT AS co_emb_words, count(*) AS images
FROM profiles WHERE spot_status <> 'failed' GROUP BY ALL ORDER BY ALL
""",
    most=MOST_WORDS,
)

AREAS = filled(
    """
SELECT least(floor(co_emb_area::DOUBLE * {areas}), {areas}) / {areas} AS area_from,
    floor(clip_score::DOUBLE * {scores}) / {scores} AS score_from,
    count(*) AS images, avg(clip_score::DOUBLE) AS mean_clip_score
FROM profiles WHERE text_class = 'co_emb' AND abs(clip_score) < 2 GROUP BY ALL ORDER BY ALL
""",
    areas=AREA_BINS,
    scores=SCORE_BINS,
)

FINE = filled(
    """
CREATE TEMP TABLE fine AS
SELECT co_emb, least(floor(area::DOUBLE * {fine}), {fine}) AS bin, count(*) AS words, sum(area::DOUBLE) AS area
FROM (SELECT unnest(spotted_area) AS area, unnest(spotted_co_emb) AS co_emb FROM profiles) GROUP BY ALL
""",
    fine=FINE_BINS,
)
WORD_AREAS = filled(
    """
SELECT co_emb, floor(bin * {bins} / {fine}) / {bins} AS area_from, sum(words)::BIGINT AS words
FROM fine GROUP BY ALL ORDER BY ALL
""",
    bins=WORD_AREA_BINS,
    fine=FINE_BINS,
)
WORD_AREA_QUANTILES = filled(
    """
SELECT co_emb, sum(words)::BIGINT AS words, sum(area) / sum(words) AS mean_area,
    {quantiles}
FROM (
    SELECT *, sum(words) OVER (PARTITION BY co_emb ORDER BY bin) AS upto, sum(words) OVER (PARTITION BY co_emb) AS total
    FROM fine
) GROUP BY co_emb ORDER BY co_emb
""",
    quantiles=quantile_columns("area", "bin", "words", FINE_BINS),
)

LEFT_OUT = """
SELECT count(*) FILTER (spot_status = 'failed') AS failed,
    count(*) FILTER (text_class = 'co_emb' AND NOT coalesce(abs(clip_score) < 2, false)) AS without_score FROM profiles
"""


def figure4(profiles: ds.Dataset | pa.Table) -> list[Result]:
    """Counts of Figure 4a, 4b and 4c, and quantiles of 4c.

    4a: images per number of distinct caption words and of those spotted (exact), each up to MOST_WORDS. 4b: images with
    co-embedded text per area of it (the paper's sum, share of the image; 1: that and more) and CLIP score (cosine). 4c:
    spotted words per area of one word and whether a caption word is in it (`co_emb`). Columns `…_from` are the lower
    edges of bins.
    """
    with connected(profiles) as connection:
        (left_out,) = select(connection, LEFT_OUT).to_pylist()
        failed = f"{left_out['failed']:,} images could not be spotted and are left out."
        scoreless = f"{left_out['without_score']:,} images with co-embedded text have no CLIP score and are left out."
        words = select(connection, WORDS)
        areas = select(connection, AREAS)
        connection.execute(FINE)
        word_areas = select(connection, WORD_AREAS)
        quantiles = select(connection, WORD_AREA_QUANTILES)
    most = f"{MOST_WORDS} stands for {MOST_WORDS} and more."
    titles = (
        "Figure 4a: words of the caption, and how many of them are in the image",
        "Figure 4b: area of the co-embedded text, and CLIP score",
        "Figure 4c: area of a single spotted word, in the caption or not",
        "Figure 4c: mean and quantiles of the area of a single spotted word",
    )
    return [
        Result("figure_4a", titles[0], words, figure4, WORDS, (most, failed)),
        Result("figure_4b", titles[1], areas, figure4, AREAS, (failed, scoreless)),
        Result("figure_4c", titles[2], word_areas, figure4, f"{FINE};{WORD_AREAS}", (failed,)),
        Result("figure_4c_quantiles", titles[3], quantiles, figure4, f"{FINE};{WORD_AREA_QUANTILES}", (failed,)),
    ]
