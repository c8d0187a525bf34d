"""Samples by what a person looks for: words of captions and images, cluster, class, score, CoTR."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.query.open_run import OpenRun
from pipeline.schema import TextClass

FAILED = "failed"
"""Stands for the class of an image whose spotting failed."""

CLASSES = (*(kind.value for kind in TextClass), FAILED)

ORDERS = {
    "highest CLIP score": "clip_score DESC NULLS LAST",
    "lowest CLIP score": "clip_score NULLS LAST",
    "highest CoTR": "cotr DESC NULLS LAST",
    "most text": "text_area DESC NULLS LAST",
    "as in the shards": "shard",
}
"""What a page calls an order → SQL."""


@dataclass(frozen=True)
class Search:
    """What is looked for; what is not said takes in everything, nulls included.

    `caption`, `word`: are within the caption, or within one spotted word, case aside. `scores`, `cotr`: from, to, both
    included; None: no bound. `order`: of ORDERS.
    """

    caption: str = ""
    word: str = ""
    cluster: int | None = None
    classes: Sequence[str] = CLASSES
    scores: tuple[float | None, float | None] = (None, None)
    cotr: tuple[float | None, float | None] = (None, None)
    order: str = next(iter(ORDERS))


def count(run: OpenRun, search: Search, left_out: str | None) -> int:
    """How many samples there are; `left_out`: SQL condition of those that are not to be found."""
    where, values = _where(search, left_out)
    counted = run.sql(f"SELECT count(*) AS samples FROM profiles WHERE {where}", values)  # noqa: S608 - see _where
    return int(counted.arrow()["samples"][0].as_py())


def find(run: OpenRun, search: Search, left_out: str | None, skip: int, most: int) -> list[str]:
    """Names (shard/index) of the samples that come after `skip` others, at most `most`; equal ones as in the shards."""
    where, values = _where(search, left_out)
    query = f"""
        SELECT shard || '/' || "index" AS name FROM profiles WHERE {where}
        ORDER BY {ORDERS[search.order]}, shard, "index" LIMIT $most OFFSET $skip
    """  # noqa: S608
    return list(run.sql(query, {**values, "most": most, "skip": skip}).arrow()["name"].to_pylist())


def _where(search: Search, left_out: str | None) -> tuple[str, dict[str, Any]]:
    """SQL of this program's own words, and the values of its parameters: what is looked for is never SQL."""
    parts = list(_conditions(search))
    conditions = [condition for condition, _, _ in parts] + ([f"NOT coalesce({left_out}, false)"] if left_out else [])
    return " AND ".join(conditions) or "true", {name: value for _, name, value in parts}


def _conditions(search: Search) -> Iterator[tuple[str, str, Any]]:
    """Condition, name and value of its parameter; columns that nothing is asked of are not read."""
    if search.caption:
        yield "contains(lower(caption), lower($caption))", "caption", search.caption
    if search.word:
        found = "len([word for word in spotted if contains(lower(word.text), lower($word))]) > 0"
        yield found, "word", search.word
    if search.cluster is not None:
        yield "cluster_id = $cluster", "cluster", search.cluster
    if set(search.classes) != set(CLASSES):
        yield f"list_contains($classes::VARCHAR[], coalesce(text_class, '{FAILED}'))", "classes", list(search.classes)
    for column, (low, high) in (("clip_score", search.scores), ("cotr", search.cotr)):
        # As it is stored, in float32: a bound that is seen on a card takes in its sample.
        if low is not None:
            yield f"{column} >= $low_{column}::FLOAT", f"low_{column}", low
        if high is not None:
            yield f"{column} <= $high_{column}::FLOAT", f"high_{column}", high
