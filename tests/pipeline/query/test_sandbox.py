"""The door of queries: what is not one SELECT over the views is refused, and nothing on disk changes."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.query.sandbox import CLOSED_FUNCTIONS, Query, QueryError, connect, parse

VIEWS = ("profiles", "words")

STATEMENTS = [
    "COPY profiles TO '{folder}/new.csv'",
    "COPY (SELECT 1) TO '{folder}/table.parquet' (FORMAT parquet)",
    "COPY profiles FROM '{folder}/table.csv'",
    "ATTACH '{folder}/new.db'",
    "ATTACH '{folder}/database.db' AS other (READ_ONLY)",
    "DETACH memory",
    "USE memory",
    "EXPORT DATABASE '{folder}/new'",
    "IMPORT DATABASE '{folder}'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '{folder}/extension.duckdb_extension'",
    "UPDATE EXTENSIONS",
    "SET enable_external_access = true",
    "SET threads = 1",
    "RESET threads",
    "SET VARIABLE x = 1",
    "PRAGMA version",
    "PRAGMA database_list",
    "CALL pragma_version()",
    "CALL range(3)",
    "CREATE TABLE t AS SELECT 1",
    "CREATE OR REPLACE TEMP VIEW profiles AS SELECT 1 AS caption",
    "CREATE MACRO f(x) AS x",
    "CREATE SECRET (TYPE s3, KEY_ID 'x', SECRET 'y')",
    "CREATE PERSISTENT SECRET s (TYPE s3, KEY_ID 'x')",
    "DROP VIEW profiles",
    "ALTER VIEW profiles RENAME TO p",
    "INSERT INTO profiles VALUES (1)",
    "UPDATE profiles SET caption = ''",
    "DELETE FROM profiles",
    "TRUNCATE profiles",
    "MERGE INTO profiles USING words ON (true) WHEN MATCHED THEN DELETE",
    "BEGIN",
    "COMMIT",
    "CHECKPOINT",
    "VACUUM",
    "ANALYZE",
    "EXPLAIN ANALYZE SELECT 1",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "SHOW TABLES",
    "SHOW DATABASES",
    "COMMENT ON VIEW profiles IS 'x'",
    # More than one, or none.
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY profiles TO '{folder}/new.csv'",
    "SELECT 1; -- \nDROP VIEW profiles",
    "",
    "-- nothing",
    ";",
]

WITHIN_A_SELECT = [
    "WITH x AS (INSERT INTO profiles VALUES (1) RETURNING *) SELECT * FROM x",
    "WITH x AS (UPDATE profiles SET caption = '' RETURNING *) SELECT * FROM x",
    "WITH x AS (DELETE FROM profiles RETURNING *) SELECT * FROM x",
    "WITH x AS (COPY profiles TO '{folder}/new.csv') SELECT * FROM x",
    "WITH x AS MATERIALIZED (COPY (SELECT 1) TO '{folder}/table.parquet') SELECT 1",
    "SELECT * FROM (WITH x AS (COPY profiles TO '{folder}/new.csv') SELECT 1)",
    # Files, by name and by function.
    "FROM '{folder}/table.parquet'",
    "FROM '{folder}/table.csv'",
    'FROM "{folder}/table.json"',
    "FROM '{folder}/*.parquet'",
    "FROM 'https://example.com/x.parquet'",
    "FROM 's3://bucket/x.parquet'",
    "DESCRIBE '{folder}/table.parquet'",
    "SUMMARIZE '{folder}/table.parquet'",
    "SELECT caption FROM profiles WHERE caption IN (FROM '{folder}/table.csv')",
    "SELECT * FROM read_csv('{folder}/table.csv')",
    "SELECT * FROM Read_CSV_Auto('{folder}/table.csv')",
    "SELECT * FROM read_parquet('{folder}/table.parquet')",
    "SELECT * FROM parquet_scan('{folder}/table.parquet')",
    "SELECT * FROM read_json('{folder}/table.json')",
    "SELECT * FROM read_ndjson_objects('{folder}/table.json')",
    "SELECT * FROM read_text('{folder}/secret.txt')",
    "SELECT * FROM read_blob('{folder}/secret.txt')",
    "SELECT * FROM read_duckdb('{folder}/database.db', table_name := 't')",
    "SELECT * FROM glob('{folder}/*')",
    "SELECT * FROM sniff_csv('{folder}/table.csv')",
    "SELECT * FROM parquet_metadata('{folder}/table.parquet')",
    "SELECT * FROM parquet_schema('{folder}/table.parquet')",
    "SELECT * FROM parquet_kv_metadata('{folder}/table.parquet')",
    "SELECT * FROM sqlite_scan('{folder}/database.db', 't')",
    "SELECT * FROM system.main.read_text('{folder}/secret.txt')",
    "SELECT (SELECT content FROM read_text('{folder}/secret.txt'))",
    "SELECT caption FROM profiles, LATERAL (SELECT * FROM read_text('{folder}/secret.txt'))",
    "SELECT 1 UNION ALL SELECT content FROM read_text('{folder}/secret.txt')",
    # What would run other SQL, or read memory by its address.
    "SELECT * FROM query('SELECT 1')",
    "SELECT * FROM query_table('{folder}/table.csv')",
    "SELECT * FROM json_execute_serialized_sql('x')",
    "SELECT * FROM arrow_scan(1, 2, 3)",
    "SELECT * FROM pandas_scan(1)",
    "SELECT * FROM python_map_function(1)",
    # The process.
    "SELECT getenv('HOME')",
    "SELECT current_setting('secret_directory')",
    "SELECT CURRENT_SETTING('secret_directory')",
    "SELECT getvariable('x')",
    "SELECT write_log('x')",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM which_secret('s3://x', 's3')",
    "SELECT * FROM duckdb_views()",
    "SELECT * FROM pragma_database_list",
    "SELECT * FROM enable_logging()",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM main.profiles",
    "SELECT * FROM python_variable",
    "SELECT * FROM nowhere",
]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Iterator[Path]:
    """The working folder, with files worth reading and overwriting; it is the same after the test."""
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    (tmp_path / "table.json").write_text(json.dumps({"a": 1}))
    pq.write_table(pa.table({"a": [1]}), tmp_path / "table.parquet")
    with duckdb.connect(str(tmp_path / "database.db")) as database:
        database.execute("CREATE TABLE t AS SELECT 1 AS a")
    monkeypatch.chdir(tmp_path)
    before = snapshot(tmp_path)
    yield tmp_path
    assert snapshot(tmp_path) == before


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {str(path): (path.read_bytes(), os.stat(path).st_mtime_ns) for path in folder.rglob("*")}


def ask(text: str) -> Query:
    with connect("spill") as connection:
        return parse(text, VIEWS, connection)


@pytest.mark.parametrize("text", [*STATEMENTS, *WITHIN_A_SELECT])
def test_what_is_not_one_select_over_the_views_is_refused_in_a_sentence(text, folder) -> None:
    with pytest.raises(QueryError) as refusal:
        ask(text.format(folder=folder))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("text", [text for text in [*STATEMENTS, *WITHIN_A_SELECT] if "{folder}" in text])
def test_the_connection_itself_reaches_no_file(text, folder) -> None:
    """The second wall: as if the first were not there."""
    with connect(str(folder / "spill")) as connection:
        connection.register("profiles", pa.table({"caption": ["a"]}))
        with pytest.raises(duckdb.Error):
            connection.execute(text.format(folder=folder)).fetchall()


@pytest.mark.parametrize(
    "text",
    [
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "SET python_enable_replacements = true",
        "INSTALL httpfs",
        "LOAD httpfs",
        "FROM python_variable",
        "SELECT * FROM sqlite_scan('database.db', 't')",
        "FROM 'https://example.com/x.parquet'",
    ],
)
def test_the_connection_itself_takes_no_setting_extension_or_variable(text, folder) -> None:
    python_variable = pa.table({"a": [1]})
    with connect(str(folder / "spill")) as connection, pytest.raises(duckdb.Error):
        connection.execute(text).fetchall()
    assert python_variable.num_rows == 1


def test_a_name_that_with_gives_to_a_file_opens_no_file(folder) -> None:
    """Out of the scope of its WITH such a name is a file's again, which only the second wall knows."""
    name = f'"{folder}/secret.txt"'
    text = f"SELECT * FROM {name}, (WITH {name} AS (SELECT 1) SELECT * FROM {name})"  # noqa: S608
    ask(text)
    with connect("spill") as connection, pytest.raises(duckdb.Error):
        connection.execute(text)


@pytest.mark.parametrize(
    ("text", "views"),
    [
        ("SELECT 1", set()),
        ("select caption from Profiles;", {"profiles"}),
        ("FROM profiles", {"profiles"}),
        ("(SELECT text FROM words)", {"words"}),
        ("VALUES (1)", set()),
        ("WITH w AS (SELECT * FROM words) SELECT * FROM w JOIN profiles USING (uid)", {"profiles", "words"}),
        ("WITH RECURSIVE t(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM t WHERE a < 5) SELECT * FROM t", set()),
        ("SELECT text FROM words UNION SELECT caption FROM profiles", {"profiles", "words"}),
        ("SELECT unnest([1, 2]) FROM range(3), unnest([1])", set()),
        ("DESCRIBE profiles", {"profiles"}),
        ("SUMMARIZE SELECT text FROM words", {"words"}),
        ("UNPIVOT words ON text", {"words"}),
        ("SELECT [s FOR s IN [1, 2] IF s > 1], 'COPY x TO y; DROP', \"read_csv\" FROM words", {"words"}),
        ("SELECT text FROM words -- ; COPY", {"words"}),
    ],
)
def test_selects_pass_and_say_which_views_they_read(text, views) -> None:
    assert ask(text).views == views


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        ("SELECT count(*) FROM profiles", False),
        ("SELECT caption FROM profiles p WHERE p.cotr > 0.5", False),
        ("SELECT * FROM words", False),
        ("SELECT words.* FROM words JOIN profiles USING (uid)", True),  # more than it has to say
        ("SELECT * FROM profiles", True),
        ("FROM profiles", True),
        ("TABLE profiles", True),
        ("SELECT p.* EXCLUDE (caption) FROM profiles p", True),
        ("SELECT COLUMNS('cluster_.*') FROM profiles", True),
        ("SELECT Cluster_Percentile FROM PROFILES", True),
        ('SELECT caption FROM profiles ORDER BY "cluster_percentile"', True),
        ("SELECT caption FROM profiles NATURAL JOIN (SELECT 0.5 AS cluster_percentile)", True),
        ("SELECT caption FROM profiles JOIN (SELECT 1 AS x) USING (cluster_percentile)", True),
        ("SELECT profiles FROM profiles", True),
        ("SELECT P FROM profiles AS p", True),
        ("SELECT #36 FROM profiles", True),
        ("DESCRIBE profiles", True),
        ("WITH p AS (FROM profiles) SELECT caption FROM p", True),
    ],
)
def test_a_column_that_cannot_be_read_is_known(text, reads) -> None:
    assert ask(text).reads("profiles", "cluster_percentile") is reads


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("SELECT * FROM profils", "There is no view 'profils' to read; there are profiles, words, and no files."),
        ("SELEC 1", 'Parser Error: syntax error at or near "SELEC"'),
        ("SELECT 'a", "Parser Error: unterminated string literal"),
        ("DROP VIEW words", "A query is one SELECT statement (WITH … SELECT is one too); this is DROP."),
        ("SELECT '\udcff'", "The query is not UTF-8."),
        ("SELECT 1" + " + 1" * 900, "The query is nested too deeply."),
        ("SELECT 1" + " + 1" * 9000, "Parser Error: Max expression depth limit of 1000 exceeded"),
    ],
)
def test_refusals_say_what_is_wrong(text, sentence) -> None:
    with pytest.raises(QueryError) as refusal:
        ask(text)
    assert str(refusal.value).startswith(sentence)


def test_memory_that_is_none_is_refused() -> None:
    with pytest.raises(QueryError, match="Memory"):
        connect("spill", "lots")


def test_a_long_query_draws_no_bar_among_its_answers(tmp_path) -> None:
    """DuckDB begins one after two seconds, on standard output."""
    with connect(str(tmp_path)) as connection:
        assert connection.sql("SELECT current_setting('enable_progress_bar')").fetchall() == [(False,)]


def test_closed_functions_are_spelled_as_the_parser_spells_them() -> None:
    assert all(name == name.lower() for name in CLOSED_FUNCTIONS)
