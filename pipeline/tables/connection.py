"""The one way to DuckDB that all tables take: a closed connection that sees the profiles and nothing else."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from pipeline.arrow_files import ForgetfulDataset
from pipeline.query.sandbox import connect


@contextmanager
def connected(
    rows: ds.Dataset | pa.Table | pa.RecordBatchReader, view: str = "profiles", memory_limit: str | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to a view of some rows, without access to files, network or extensions.

    What does not fit into memory goes to a temporary folder, which lives as long as the connection.

    Args:
        rows: what the view shows; a reader can be queried once.
        view: what it is called in SQL.
        memory_limit: as DuckDB has it, such as "4GB"; None: four fifths of the machine's.
    """
    with tempfile.TemporaryDirectory(prefix="parrotscope-") as spill, connect(spill, memory_limit) as connection:
        if isinstance(rows, ds.FileSystemDataset):
            rows = ForgetfulDataset.of(rows)
        connection.register(view, rows)
        yield connection


def filled(template: str, **constants: object) -> str:
    """SQL with its {names} replaced by numbers and texts of this program, never by what data or users say.

    The SQL is shown beside its table, and without $parameters it runs as it is shown.
    """
    for name, value in constants.items():
        template = template.replace(f"{{{name}}}", str(value))
    return template


def select(connection: duckdb.DuckDBPyConnection, sql: str, values: Mapping[str, object] | None = None) -> pa.Table:
    """The rows of one SELECT as an Arrow table; `values` are those of its $parameters."""
    return connection.sql(sql, params=dict(values or {})).to_arrow_table()
