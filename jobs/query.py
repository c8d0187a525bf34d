"""`parrotscope query`: the rows of a query as a table to look at, or as CSV, JSON or Parquet, streamed."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import PurePosixPath

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.console import inert, printable, say
from pipeline import open_run
from pipeline.compacted_file import ROW_GROUP_ROWS
from pipeline.config_file import shortened
from pipeline.folder import Folder
from pipeline.query.answer import Answer

MAX_CELL = 80
"""Characters of a value in a table: captions and lists of words may be pages."""

MAX_COLUMNS = 12
"""Columns that still fit side by side; of more every row becomes a list of its own."""


def run_query(
    url: str,
    query: str,
    name: str,
    form: str | None,
    output: str | None,
    limit: int,
    memory: str | None,
    console: Console,
) -> None:
    """Ask a run one query, and print or write the answer.

    Args:
        url: folder or URL of the run.
        query: one SELECT statement.
        name: of the profiles.
        form: table, csv, json or parquet; None: by the suffix of `output`, or a table.
        output: file or URL that appears when all rows are in it; None: standard output.
        limit: rows that a table shows.
        memory: bound of the query's memory, such as 4GB; None: 80 % of the machine's.
        console: where a table is printed.

    Raises:
        ValueError: the query is refused or wrong; or the format does not fit the output.
        RunError: there is no run, or no such profiles.
    """
    form = form or _by_suffix(output)
    if form == "table" and output is not None:
        raise ValueError("A table is to be looked at: write csv, json or parquet to a file.")
    if form == "parquet" and output is None:
        raise ValueError("Parquet is no text: name a file by --output.")
    answer = open_run(url, name, memory).sql(query)
    with _reader_may_leave():
        if form == "table":
            print_answer(answer, limit, console)
        elif output is None:
            for chunk in TEXTS[form](answer):
                # On a terminal what a caption holds must move no cursor; a pipe gets it as it is.
                sys.stdout.buffer.write(inert(chunk.decode()).encode() if sys.stdout.isatty() else chunk)
            sys.stdout.flush()
        else:
            with _committed(output, url) as spool:
                if form == "parquet":
                    write_parquet(answer, spool)
                else:
                    with open(spool, "wb") as file:
                        file.writelines(TEXTS[form](answer))


def print_answer(answer: Answer, limit: int, console: Console) -> None:
    """The first `limit` rows: as a table, or as a list per row where the columns are many."""
    rows = list(islice(_rows(answer), limit + 1))
    shown = [[_cell(value) for value in row] for row in rows[:limit]]
    names = [printable(column) for column in answer.columns]
    if len(names) > MAX_COLUMNS:
        for number, row in enumerate(shown, start=1):
            say(console, f"row {number}")
            for name, cell in zip(names, row, strict=True):
                say(console, f"  {name}: {cell}")
    else:
        table = Table()
        for name, value in zip(names, rows[0] if rows else names, strict=True):
            table.add_column(Text(name), justify="right" if isinstance(value, int | float) else "left")
        for row in shown:
            table.add_row(*map(Text, row))
        console.print(table)
    more = ", and there are more (--limit, or --format csv, json or parquet)" if len(rows) > limit else ""
    say(console, f"{len(shown):,} row{'s' * (len(shown) != 1)}{more}")


def csv_chunks(answer: Answer) -> Iterator[bytes]:
    """CSV in UTF-8 with a header: null is nothing, an empty text "", and what is nested becomes JSON text."""
    rows = answer.batches()
    yield _csv(pa.schema([(name, pa.string()) for name in rows.schema.names]).empty_table(), header=True)
    for batch in rows:
        columns = [json_texts(column) if pa.types.is_nested(column.type) else column for column in batch.columns]
        yield _csv(pa.table(columns, rows.schema.names), header=False)


def _csv(rows: pa.Table, header: bool) -> bytes:
    text = pa.BufferOutputStream()
    pyarrow.csv.write_csv(rows, text, pyarrow.csv.WriteOptions(include_header=header))
    return text.getvalue().to_pybytes()  # type: ignore[no-any-return]


def json_chunks(answer: Answer) -> Iterator[bytes]:
    """JSON in UTF-8, one object a line; a number that is not finite, which JSON has not, becomes null."""
    for batch in answer.batches():
        columns = [
            pc.if_else(pc.is_finite(column), column, None) if pa.types.is_floating(column.type) else column
            for column in batch.columns
        ]
        rows = pa.StructArray.from_arrays(columns, batch.schema.names)
        yield "".join(f"{row}\n" for row in json_texts(rows).to_pylist()).encode()


def json_texts(values: pa.Array) -> pa.Array:
    """Each value as JSON text."""
    with duckdb.connect(":memory:") as connection:
        connection.register("written", pa.table({"value": values}))
        return connection.sql("SELECT to_json(value)::VARCHAR AS value FROM written").to_arrow_table()["value"]


def write_parquet(answer: Answer, path: str) -> None:
    rows = answer.batches(ROW_GROUP_ROWS)
    with pq.ParquetWriter(path, rows.schema, compression="zstd") as writer:
        for batch in rows:
            writer.write_batch(batch)


TEXTS = {"csv": csv_chunks, "json": json_chunks}


def _rows(answer: Answer) -> Iterator[tuple[object, ...]]:
    for batch in answer.batches():
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _cell(value: object) -> str:
    """One line of bounded length; float32 to the digits it has."""
    text = f"{value:.7g}" if isinstance(value, float) else "null" if value is None else str(value)
    return shortened(printable(text), MAX_CELL)


def _by_suffix(output: str | None) -> str:
    """The format that a file's name asks for.

    Raises:
        ValueError: it asks for none.
    """
    if output is None:
        return "table"
    suffix = PurePosixPath(output).suffix.removeprefix(".").replace("jsonl", "json")
    if suffix not in (*TEXTS, "parquet"):
        raise ValueError(f"{output!r} ends in none of .csv, .json, .jsonl, .parquet: say --format.")
    return suffix


@contextmanager
def _committed(output: str, run: str) -> Iterator[str]:
    """A local file to fill, which then becomes `output`.

    Raises:
        ValueError: it is within the run, whose parts an answer could replace.
    """
    folder, slash, name = output.rpartition("/")
    target, inside = Folder(folder or slash or "."), Folder(run)
    place, root = target.path(name), inside.root
    if target.local and inside.local:
        place, root = os.path.realpath(place), os.path.realpath(root)
    if target.fs == inside.fs and place.startswith(f"{root}/"):
        raise ValueError(f"{output} is within the run, which a query only reads: name a place elsewhere.")
    with target.committed(place) as spool:
        yield spool


@contextmanager
def _reader_may_leave() -> Iterator[None]:
    """End quietly when `head` or `less` has seen enough."""
    try:
        yield
    except BrokenPipeError:
        # Python writes what is left when it ends, and would complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
