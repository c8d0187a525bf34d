"""`parrotscope query`: tables to look at, files that other programs read, and no surprise on a terminal."""

import csv
import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from jobs.cli import app
from pipeline import open_run
from tests.pipeline.runs import profile, word, write_run

ROOT = Path(__file__).resolve().parents[2]

HOSTILE = '\x1b]0;owned\x07\x1b[2J\x9b31m\u202e[bold]:smile: "q", \r\n\tend'
ROWS = [
    profile("a", 0, caption=HOSTILE, clip_score=0.25, cluster_id=1, spotted=[word(HOSTILE, 1, 2)]),
    profile("a", 1, caption="", cluster_id=1),
    profile("a", 2, caption="Größe 🐟", clip_score=0.5, cluster_id=2),
]
QUERY = "SELECT index, caption, clip_score, spotted, spot_message, [0.5, NULL] AS list FROM profiles ORDER BY index"


@pytest.fixture(scope="module")
def url(tmp_path_factory) -> str:
    return write_run(str(tmp_path_factory.mktemp("query") / "run"), ROWS).url


def invoke(*arguments: str, status: int = 0):
    result = CliRunner().invoke(app, ["query", *arguments])
    assert result.exit_code == status, result.output
    return result


def expected(url: str, query: str = QUERY) -> pa.Table:
    return open_run(url).sql(query).arrow()


def test_a_table_shows_captions_as_plain_lines(url) -> None:
    output = invoke(url, "SELECT caption, clip_score, spot_message FROM profiles ORDER BY index").output
    assert '\\x1b]0;owned\\x07\\x1b[2J\\x9b31m\\u202e[bold]:smile: "q", end' in output
    assert "Größe 🐟" in output
    assert " 0.25 " in output
    assert " null " in output
    assert output.endswith("\n3 rows\n")
    assert not set("\x1b\x07\x9b\r\u202e") & set(output)


def test_a_row_of_many_columns_is_a_list(url) -> None:
    output = invoke(url, "SELECT * FROM profiles ORDER BY index", "--limit", "1").output
    assert "row 1\n  shard: a\n  index: 0\n" in output
    assert "  cluster_percentile: 1\n" in output
    assert "row 2" not in output
    assert "1 row, and there are more (--limit" in output
    assert "\x1b" not in output


def test_long_values_are_cut_in_a_table(url) -> None:
    output = invoke(url, "SELECT repeat('x', 100000) AS x, repeat('y', 100000) AS \"" + "z" * 500 + '"').output
    assert len(output) < 10_000


def test_no_rows_is_a_table_too(url) -> None:
    output = invoke(url, "SELECT caption FROM profiles WHERE false").output
    assert "caption" in output
    assert output.endswith("0 rows\n")


def test_csv_is_read_back_with_nested_values_as_json(url) -> None:
    output = invoke(url, QUERY, "--format", "csv").stdout_bytes.decode()
    header, *found = csv.reader(io.StringIO(output, newline=""))
    table = expected(url)
    assert header == table.schema.names
    for line, row in zip(found, table.to_pylist(), strict=True):
        assert line[1] == row["caption"]
        assert json.loads(line[3]) == row["spotted"]
        assert line[5] == "[0.5,null]"
    assert '\n1,"",,' in output  # null and an empty text differ


def test_an_empty_csv_has_a_header(url) -> None:
    output = invoke(url, "SELECT caption, spotted FROM profiles WHERE false", "--format", "csv").stdout
    assert output == '"caption","spotted"\n'


def test_json_is_an_object_a_line(url) -> None:
    output = invoke(url, QUERY, "--format", "json").stdout
    assert [json.loads(line) for line in output.splitlines()] == expected(url).to_pylist()


def test_json_of_every_kind_of_value_is_json(url) -> None:
    query = """SELECT 'nan'::FLOAT AS a, 'inf'::DOUBLE AS b, sum(1) AS c, 1.5 AS d, DATE '2026-01-02' AS e, NULL AS f,
        {'x': [1]} AS g, MAP {'k': 1} AS h, true AS i, 'x'::BLOB AS j, 9007199254740993 AS "k ""l" """
    (line,) = invoke(url, query, "--format", "json").stdout.splitlines()
    found = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert found == {
        "a": None, "b": None, "c": 1, "d": 1.5, "e": "2026-01-02", "f": None, "g": {"x": [1]}, "h": {"k": 1},
        "i": True, "j": "x", 'k "l': 9007199254740993,
    }  # fmt: skip


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl", "parquet"])
def test_a_file_holds_all_rows(url, suffix, tmp_path) -> None:
    file = tmp_path / "new" / f"answer.{suffix}"
    query = "SELECT i, 'text' || i AS text, [i] AS list FROM range(30000) t(i)"
    assert invoke(url, query, "--output", str(file)).output == ""
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    table = expected(url, query)
    if suffix == "parquet":
        assert pq.read_table(file) == table
        assert pq.ParquetFile(file).metadata.num_row_groups == 1
    elif suffix == "csv":
        found = pyarrow.csv.read_csv(file)
        assert found.drop_columns("list") == table.drop_columns("list")
        assert found["list"].to_pylist() == [f"[{i}]" for i in range(30_000)]
    else:
        assert pyarrow.json.read_json(file) == table


def test_the_format_may_be_said(url, tmp_path) -> None:
    invoke(url, QUERY, "--output", str(tmp_path / "answer.txt"), "--format", "json")
    assert len((tmp_path / "answer.txt").read_text().splitlines()) == 3


def test_a_query_that_fails_on_the_way_leaves_no_file_and_what_was_there(url, tmp_path) -> None:
    file = tmp_path / "answer.csv"
    file.write_text("before")
    query = "SELECT CASE WHEN i = 50000 THEN error('boom') ELSE i END AS i FROM range(60000) t(i)"
    assert "boom" in invoke(url, query, "--output", str(file), status=1).stderr
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("how", ["name", "dots", "link"])
def test_no_answer_is_written_into_the_run(url, how, tmp_path) -> None:
    part = Path(url, "profiles", "main", "a.parquet")
    before = part.read_bytes()
    output = {"name": part, "dots": f"{url}/../run/profiles/main/a.parquet", "link": tmp_path / "run" / "a.parquet"}[
        how
    ]
    (tmp_path / "run").symlink_to(part.parent)
    result = invoke(url, QUERY, "--output", str(output), status=1)
    assert "is within the run, which a query only reads" in result.stderr
    assert part.read_bytes() == before
    assert [path.name for path in part.parent.iterdir()] == ["a.parquet"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["SELECT captio FROM profiles"], 'Binder Error: Referenced column "captio" not found in FROM clause!'),
        (["SELEC 1"], 'Parser Error: syntax error at or near "SELEC"'),
        (["COPY profiles TO 'x.csv'"], "A query is one SELECT statement (WITH … SELECT is one too); this is COPY."),
        (["FROM 'x.parquet'"], "There is no view 'x.parquet' to read; there are profiles, words, rejects, shards"),
        (["FROM '\x1b[2J'"], "There is no view '\\x1b[2J' to read"),
        (["SELECT error('\x1b[2J\n')"], "\\x1b[2J"),
        (["FROM profiles", "--name", "other"], "has no profiles/other yet."),
        (["FROM profiles", "--name", "../x"], "'../x' is no name of profiles"),
        (["SELECT 1 AS x", "--format", "parquet"], "Parquet is no text: name a file by --output."),
        (["SELECT 1 AS x", "--output", "x.txt"], "'x.txt' ends in none of .csv, .json, .jsonl, .parquet"),
        (["SELECT 1 AS x", "--output", "x.csv", "--format", "table"], "A table is to be looked at"),
        (["SELECT 1 AS x", "--output", "/dev/null/x.csv"], "/dev/null"),
        (["SELECT 1 AS x", "--memory", "lots"], "Memory"),
        (["SELECT INTERVAL 1 DAY AS x", "--output", "x.parquet"], "parquet"),
    ],
)
def test_a_mistake_is_one_sentence(url, arguments, sentence, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke(url, *arguments, status=1)
    assert sentence.lower() in result.stderr.lower()
    assert result.stderr.count("\n") == 1
    assert "LINE 1" not in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_run_that_is_none_is_told(tmp_path) -> None:
    assert "nowhere is no run: it has no run.yaml." in invoke(f"{tmp_path}/nowhere", "SELECT 1", status=1).stderr


def command(url: str, query: str, *options: str) -> list[str]:
    return [sys.executable, "-m", "jobs.cli", "query", url, query, *options]


def test_a_reader_that_leaves_ends_it_quietly(url) -> None:
    process = subprocess.Popen(
        command(url, "FROM range(100000000)", "--format", "csv"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdout.readline() == b'"range"\n'
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 0


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_no_caption_moves_the_cursor_of_a_terminal(url, form) -> None:
    main, other = pty.openpty()
    environment = {**os.environ, "COLUMNS": "300"}
    subprocess.run(command(url, QUERY, "--format", form), stdout=other, cwd=ROOT, check=True, env=environment)
    os.close(other)
    output = b""
    while chunk := _read(main):
        output += chunk
    assert b"owned" in output
    text = output.decode()
    for hostile in ("\x1b]0", "\x1b[2J", "\x07", "\x9b", "\u202e"):
        assert hostile not in text


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says so at the end
        return b""


def test_a_database_in_the_working_folder_is_not_seen(url, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with duckdb.connect("profiles.db") as database:
        database.execute("CREATE TABLE words AS SELECT 1 AS a")
    assert invoke(url, "SELECT count(*) AS n FROM words", "--format", "json").stdout == '{"n":1}\n'
