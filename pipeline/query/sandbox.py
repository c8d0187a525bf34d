"""The only door by which a query reaches DuckDB: one SELECT over named views, on a connection that is closed.

Two walls stand one behind the other. `parse` lets nothing through but a SELECT that names views and calls
functions without a way out: the connection alone would run `arrow_scan(1, 2, 3)`, which reads memory by address.
`connect` gives a connection that itself opens no file, loads no extension, looks at no Python variable and takes no
setting, should the first wall have a hole.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import duckdb

TABLE_FUNCTIONS = frozenset({"generate_series", "json_each", "json_tree", "range", "repeat", "repeat_row", "unnest"})
"""Those that make rows of their arguments alone; DuckDB's others read files, settings, secrets or raw memory."""

CLOSED_FUNCTIONS = frozenset({"current_setting", "getenv", "getvariable", "json_serialize_plan", "write_log"})
"""Of the other functions those that tell, or keep, something of the process."""

QUERY_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
"""The parts of a SELECT; INSERT_QUERY_NODE and its like stand for changes within WITH."""

CLOSED: Mapping[str, str] = {
    "enable_external_access": "false",
    "python_enable_replacements": "false",
    "python_scan_all_frames": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "allow_persistent_secrets": "false",
    # No wall: DuckDB takes an Arrow dataset for one row, and would build the hash table of a join from all profiles.
    "disabled_optimizers": "build_side_probe_side",
}
"""Settings of every connection. With the last one, the right side of a join is what is held in memory."""


class QueryError(ValueError):
    """A query was refused, or failed; the message says why in a sentence."""


@dataclass(frozen=True)
class Query:
    """A query that may run: its text, and what it names."""

    text: str
    views: frozenset[str]
    nodes: tuple[Mapping[str, Any], ...]
    """Every node of the statement as DuckDB parsed it; the first is the outermost SELECT."""

    def reads(self, view: str, column: str) -> bool:
        """Whether the query may read the column: false only if it cannot, by its name, a star or the whole row."""
        if view not in self.views:
            return False
        tables = [node for node in self.nodes if node.get("type") == "BASE_TABLE"]
        rows = {view, *(node["alias"].lower() for node in tables if "alias" in node)}
        return column in self.text.lower() or any(
            node.get("class") in ("STAR", "POSITIONAL_REFERENCE")
            or (node.get("class") == "COLUMN_REF" and node["column_names"][-1].lower() in rows)
            for node in self.nodes
        )


def connect(spill: str, memory_limit: str | None = None) -> duckdb.DuckDBPyConnection:
    """A connection of its own to an empty database in memory, closed to all that is outside of it.

    Args:
        spill: folder for what does not fit into memory; only DuckDB itself writes there.
        memory_limit: such as "4GB"; None: DuckDB's own, 80 % of what the machine or container has.

    Raises:
        QueryError: `memory_limit` is none.
    """
    config: dict[str, Any] = {
        **CLOSED,
        "temp_directory": spill,
        **({"memory_limit": memory_limit} if memory_limit else {}),
    }
    with query_errors():
        connection = duckdb.connect(":memory:", config=config)
        # Left on, it writes its bar to standard output after two seconds, which is where answers go. A notebook that
        # lacks ipywidgets has no bar, and refuses even this.
        with suppress(duckdb.InvalidInputException):
            connection.execute("SET enable_progress_bar = false")
        connection.execute("SET lock_configuration = true")
        return connection


def parse(text: str, views: Collection[str], connection: duckdb.DuckDBPyConnection) -> Query:
    """A query, read by DuckDB's own parser.

    Args:
        text: one SELECT statement, with WITH or without; DESCRIBE and SUMMARIZE of one are SELECTs too.
        views: names it may read.
        connection: of `connect`; it only parses here.

    Raises:
        QueryError: it is no such statement, or names something else.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise QueryError("The query is not UTF-8.") from None
    with query_errors():
        statements = connection.extract_statements(text)
        kinds = [_kind(statement) for statement in statements]
        if kinds != [duckdb.StatementType.SELECT.name]:
            given = ", then ".join(kinds) or "none"
            raise QueryError(f"A query is one SELECT statement (WITH … SELECT is one too); this is {given}.")
        # COPY TO and INSERT within WITH are of that type too: what the parser understood is looked at.
        written_down = "SELECT json_serialize_sql(?, skip_null := true, skip_empty := true)"
        ((tree,),) = connection.execute(written_down, [text]).fetchall()
    try:
        found = json.loads(tree)
    except RecursionError:
        raise QueryError("The query is nested too deeply.") from None
    if found["error"]:
        raise QueryError(f"The query cannot be looked through: {found['error_message']}")
    nodes = tuple(_nodes(found["statements"][0]["node"]))
    return Query(text, _checked_views(nodes, views), nodes)


@contextmanager
def query_errors() -> Iterator[None]:
    """Turn an error of DuckDB into a QueryError of one sentence, without the line it draws under the query."""
    try:
        yield
    except (duckdb.Error, OSError) as error:  # a stream of record batches has OSError for every error
        raise QueryError(" ".join(str(error).partition("\n\nLINE ")[0].split())) from None


def _checked_views(nodes: Collection[Mapping[str, Any]], views: Collection[str]) -> frozenset[str]:
    """The views that the nodes name, once everything that they name is allowed."""
    common = {entry["key"].lower() for node in nodes for entry in node.get("cte_map", {}).get("map", ())}
    named = set()
    for node in nodes:
        kind = node.get("type", "")
        if kind == "BASE_TABLE":
            path = node["qualified_name"]["path"]
            if len(path) > 1 or path[0].lower() not in {*views, *common}:
                known = ", ".join(views)
                raise QueryError(f"There is no view {'.'.join(path)!r} to read; there are {known}, and no files.")
            named.add(path[0].lower())
        elif kind == "TABLE_FUNCTION" and (name := node["function"]["function_name"].lower()) not in TABLE_FUNCTIONS:
            raise QueryError(f"A query reads the run's views only: the table function {name!r} is closed to it.")
        elif node.get("class") == "FUNCTION" and (name := node["function_name"].lower()) in CLOSED_FUNCTIONS:
            raise QueryError(f"A query reads the run's views only: the function {name!r} is closed to it.")
        elif kind == "SHOW_REF" and "query" not in node:
            raise QueryError(f"There is nothing else to show: the views are {', '.join(views)}.")
        elif isinstance(kind, str) and kind.endswith("_NODE") and kind not in QUERY_NODES:
            raise QueryError(f"A query is one SELECT statement and changes nothing; it holds a {kind}.")
    return frozenset(named & set(views))


def _kind(statement: duckdb.Statement) -> str:
    try:
        return statement.type.name
    except ValueError:  # DuckDB's parser knows more types than its Python package
        return "another"


def _nodes(tree: Any) -> Iterator[Mapping[str, Any]]:
    """The mappings in a parsed JSON value, each before those within it."""
    waiting = [tree]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting += reversed(value.values())
        elif isinstance(value, list):
            waiting += reversed(value)
