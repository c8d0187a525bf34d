"""One part of a dataset: rows gathered into even row groups, and a footer that tells how it was made."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import schema
from pipeline.datasets import Dataset
from pipeline.secrets import without_secrets
from pipeline.shards import Shard

FOOTER = b"parrotscope"
ROW_GROUP_ROWS = 8192
"""Rows gathered before a row group is written: at 512 dimensions about 16 MB of embeddings."""


def open_writer(path: str, types: pa.Schema, **options: Any) -> pq.ParquetWriter:
    """A writer of what every reader reads; `options` are pyarrow's, beside these."""
    return pq.ParquetWriter(
        path,
        types,
        compression="zstd",
        # Without it a flipped bit in a page can come out as other values.
        write_page_checksum=True,
        # Embeddings hold no repeated values: a dictionary only grows them. Splitting their bytes would save 8 %,
        # but DuckDB 2.0 does not read split float16, and Spark before 4.3 reads nothing that is split.
        use_dictionary=[field.name for field in types if pa.types.is_string(field.type)],
        **options,
    )


def is_damage(error: Exception) -> bool:
    """Whether an error of reading Parquet says that the file is damaged, and not that storage fails.

    Arrow raises plain OSErrors for damaged pages; those of storage have a number or a class of their own.
    """
    return not isinstance(error, OSError) or (type(error) is OSError and error.errno is None)


class PartWriter:
    """Rows of one part, gathered into row groups of even size."""

    def __init__(self, path: str, columns: Sequence[schema.Column]) -> None:
        self.schema = schema.arrow(columns)
        self._writer = open_writer(path, self.schema)
        self._waiting: list[pa.Table] = []
        self._waiting_rows = 0

    def write(self, rows: pa.Table | list[dict[str, Any]]) -> None:
        """Append rows of the part's schema.

        Raises:
            ValueError: a column is missing, unknown or null where the schema allows no null.
        """
        if isinstance(rows, pa.Table):
            table = rows.cast(self.schema)
        else:
            # Arrow would fill a missing column with nulls and pass over an unknown one.
            if rows and set(rows[0]) != set(self.schema.names):
                raise ValueError(f"columns {sorted(set(rows[0]) ^ set(self.schema.names))} do not fit the part")
            table = pa.Table.from_pylist(rows, self.schema)
        for field in self.schema:
            if not field.nullable and table[field.name].null_count:
                raise ValueError(f"column {field.name} has nulls")
        self._waiting.append(table)
        self._waiting_rows += table.num_rows
        if self._waiting_rows >= ROW_GROUP_ROWS:
            self._flush()

    def describe(self, facts: Mapping[str, Any]) -> None:
        """Put facts of how the part was made into its footer."""
        self._writer.add_key_value_metadata({FOOTER.decode(): json.dumps(facts, default=str)})

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        # Hugging Face datasets stumbles over a row group without rows.
        if self._waiting_rows:
            self._writer.write_table(pa.concat_tables(self._waiting), row_group_size=ROW_GROUP_ROWS)
            self._waiting, self._waiting_rows = [], 0


def part_facts(
    dataset: Dataset,
    shard: Shard,
    fingerprint: str,
    counts: Mapping[str, int],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """The footer of a part: identity, source, fingerprint, counts and seconds per stage."""
    return {
        "schema_version": schema.VERSION,
        "dataset": str(dataset),
        "source": {"id": shard.id, "url": without_secrets(shard.url), "size": shard.size, "etag": shard.etag},
        "fingerprint": fingerprint,
        "counts": dict(counts),
        "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
    }
