"""N-gram vocabularies of captions and of co-embedded text: the input of the synthetic benchmark (section 5.2).

Captions: every occurrence of an n-gram counts, also the second in one caption; words are those of `overlap.tokenize`,
and a gram never spans two captions. Co-embedded text: words that are in both caption and image, once per image, as
profiles store them (the order of words in an image is unknown, so there are no 2-grams of it, as in the paper).

Captions stream through Python in batches, each counted by Arrow; DuckDB adds the counts up, and what exceeds its memory
limit goes to disk. So memory is bounded for any number of rows. Grams of more than LONGEST characters, such as whole
captions in scripts without spaces, are left out, and their number is told.
"""

from collections.abc import Iterator
from itertools import pairwise

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pipeline.overlap import tokenize
from pipeline.tables.connection import connected, filled, select
from pipeline.tables.result import Result

MOST_FREQUENT = 400_000
"""As in the paper."""

LONGEST = 64
"""Characters."""

MEMORY_LIMIT = "4GB"
BATCH = 50_000
"""Captions."""

COUNTED = pa.schema([("gram", pa.string()), ("count", pa.int64())])

TOP = """
SELECT gram, sum("count")::BIGINT AS "count" FROM batches GROUP BY gram ORDER BY "count" DESC, gram LIMIT {most}
"""
CO_EMB = """
SELECT gram, count(*) AS "count" FROM (SELECT unnest(co_emb_words) AS gram FROM profiles)
WHERE length(gram) <= {longest} GROUP BY gram ORDER BY "count" DESC, gram LIMIT {most}
"""


def caption_vocabulary(
    profiles: ds.Dataset | pa.Table, n: int, most: int = MOST_FREQUENT, memory_limit: str = MEMORY_LIMIT
) -> Result:
    """The `most` frequent n-grams of captions with their occurrences: `gram` (words, single blanks), `count`.

    Descending by count, ties by the gram's code points. n is 1 or 2; captions of fewer words have no gram.
    """
    if n not in (1, 2):
        raise ValueError(f"n-grams of captions are counted for n = 1 and 2, not {n}")
    captions = ds.dataset(profiles) if isinstance(profiles, pa.Table) else profiles
    too_long = 0

    def counted() -> Iterator[pa.RecordBatch]:
        nonlocal too_long
        for batch in captions.to_batches(columns=["caption"], batch_size=BATCH):
            grams = pa.array(_grams(batch["caption"].to_pylist(), n), pa.string())
            short = grams.filter(pc.less_equal(pc.utf8_length(grams), LONGEST))
            too_long += len(grams) - len(short)
            values, counts = short.value_counts().flatten()
            yield pa.record_batch([values, counts], COUNTED)

    batches = pa.RecordBatchReader.from_batches(COUNTED, counted())
    with connected(batches, "batches", memory_limit) as connection:
        sql = filled(TOP, most=most)
        table = select(connection, sql)
    return Result(
        f"caption_{n}grams",
        f"The {most:,} most frequent {n}-grams of captions",
        table,
        caption_vocabulary,
        f"-- batches: the grams of some captions with their counts, by overlap.tokenize{sql}",
        (f"Occurrences of more than {LONGEST} characters, left out: {too_long:,}.",),
    )


def co_emb_vocabulary(
    profiles: ds.Dataset | pa.Table, most: int = MOST_FREQUENT, memory_limit: str = MEMORY_LIMIT
) -> Result:
    """The `most` frequent co-embedded words with the number of images they are co-embedded in: `gram`, `count`."""
    with connected(profiles, memory_limit=memory_limit) as connection:
        sql = filled(CO_EMB, most=most, longest=LONGEST)
        table = select(connection, sql)
    title = f"The {most:,} most frequent words of co-embedded text, by images"
    return Result("co_emb_1grams", title, table, co_emb_vocabulary, sql)


def _grams(captions: list[str], n: int) -> list[str]:
    words = map(tokenize, captions)
    if n == 1:
        return [word for caption in words for word in caption]
    return [f"{first} {second}" for caption in words for first, second in pairwise(caption)]
