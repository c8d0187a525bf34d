"""The answer to a query: rows as Arrow, pandas or Polars, or a stream of batches."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from pipeline.parts import ROW_GROUP_ROWS
from pipeline.query.sandbox import query_errors

if TYPE_CHECKING:
    import pandas
    import polars


class Answer:
    """The rows of a query. They are computed when they are asked for, and anew each time.

    Every method raises QueryError for what goes wrong on the way.
    """

    def __init__(self, relation: duckdb.DuckDBPyRelation, sources: object) -> None:
        self._relation = relation
        self._sources = sources  # what the relation reads, and the folder it may spill to
        self.columns: list[str] = relation.columns

    def batches(self, rows: int = ROW_GROUP_ROWS) -> pa.RecordBatchReader:
        """A stream of record batches of at most `rows` rows: memory holds one of them, and what the query needs."""
        with query_errors():
            reader = self._relation.to_arrow_reader(rows)
        return pa.RecordBatchReader.from_batches(reader.schema, self._read(reader))

    def _read(self, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        with query_errors():
            yield from reader

    def arrow(self) -> pa.Table:
        return self.batches().read_all()

    def pandas(self) -> "pandas.DataFrame":
        """A data frame of Arrow's types: NumPy's would round large integers beside nulls.

        Raises:
            ImportError: pandas is not installed.
        """
        import pandas

        frame: pandas.DataFrame = self.arrow().to_pandas(types_mapper=pandas.ArrowDtype)
        return frame

    def polars(self) -> "polars.DataFrame":
        """A Polars data frame.

        Raises:
            ImportError: polars is not installed.
        """
        import polars

        return polars.DataFrame(self.arrow())
