"""The table of shards.parquet: where the shards of a run lie, and what they were when it first saw them."""

from collections.abc import Iterable

import pyarrow as pa

from pipeline import schema
from pipeline.shards import Shard


def to_table(shards: Iterable[Shard]) -> pa.Table:
    """Shards as rows of `schema.SHARDS`."""
    rows = [{"shard": s.id, "source": s.url, "size": s.size, "etag": s.etag, "sampled": s.sampled} for s in shards]
    return pa.Table.from_pylist(rows, schema.arrow(schema.SHARDS))


def from_table(table: pa.Table) -> list[Shard]:
    """The shards of such rows."""
    # Column by column: a dictionary a row takes twice as long for a hundred thousand shards.
    columns = (table[column.name].to_pylist() for column in schema.SHARDS)
    return [Shard(*row) for row in zip(*columns, strict=True)]
