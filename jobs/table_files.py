"""Files of tables and figures: CSV, Parquet and Markdown, PNG and SVG, and the index that says what made each."""

import io
import re
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from matplotlib.figure import Figure
from PIL import Image

from jobs.console import printable
from pipeline.figures.style import rendered
from pipeline.folder import Folder
from pipeline.tables.result import Result

INDEX = "index.md"
MARKDOWN_ROWS = 100
"""Of a longer table Markdown has the first rows only."""

_MARKUP = re.compile(r"([\\`*_\[\]<>|&~#])")


def write_result(folder: Folder, result: Result) -> list[str]:
    """Write a table as CSV, Parquet and Markdown; the names of the files."""
    names = [f"{result.name}.{kind}" for kind in ("csv", "parquet", "md")]
    with folder.committed(folder.path(names[0])) as spool:
        pa.csv.write_csv(result.table, spool)
    with folder.committed(folder.path(names[1])) as spool:
        pq.write_table(result.table, spool, compression="zstd")
    text = [f"# {escaped(result.title)}", markdown(result.shown or result.table), *map(escaped, result.notes)]
    folder.write_bytes("\n\n".join([*text, ""]).encode(), names[2])
    return names


def write_figure(folder: Folder, name: str, figure: Figure | Image.Image) -> list[str]:
    """Write a figure as PNG and SVG, a sheet of images as PNG; the names of the files."""
    if isinstance(figure, Image.Image):
        file = io.BytesIO()
        figure.save(file, "PNG")
        folder.write_bytes(file.getvalue(), f"{name}.png")
        return [f"{name}.png"]
    for kind in ("png", "svg"):
        folder.write_bytes(rendered(figure, kind), f"{name}.{kind}")
    return [f"{name}.png", f"{name}.svg"]


def index_section(title: str, files: Sequence[str], made_by: str, notes: Iterable[str] = (), sql: str = "") -> str:
    """One section of the index: links, what made the files, and the query in full."""
    links = " · ".join(f"[{file}]({file})" for file in files)
    blocks = [f"## {escaped(title)}", links, *(f"![{file}]({file})" for file in files if file.endswith(".png"))]
    blocks += [f"Made by `{made_by}`.", *map(escaped, notes)]
    if sql:
        blocks.append(f"<details><summary>SQL</summary>\n\n```sql\n{sql.strip()}\n```\n\n</details>")
    return "\n\n".join(blocks)


def markdown(table: pa.Table) -> str:
    """The first rows of a table in Markdown, everything in it as plain text."""
    rows = [[_cell(value) for value in row.values()] for row in table.slice(0, MARKDOWN_ROWS).to_pylist()]
    lines = [[escaped(name) for name in table.column_names], ["---", *["--:"] * (table.num_columns - 1)], *rows]
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    if table.num_rows > MARKDOWN_ROWS:
        text += f"\n\nThe first {MARKDOWN_ROWS:,} of {table.num_rows:,} rows."
    return text


def escaped(text: str) -> str:
    """Text as one line in which Markdown and HTML see no markup."""
    return _MARKUP.sub(r"\\\1", printable(text))


def _cell(value: object) -> str:
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
        case _:
            return escaped(str(value))
