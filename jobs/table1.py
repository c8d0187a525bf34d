"""Table 1 on the console: the run, the truth where it is known, and the published LAION-2B column."""

from pathlib import Path

import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from pipeline.datasets import Dataset
from pipeline.run import Run
from pipeline.tables.published import LAION_2B, SOURCE
from pipeline.tables.table1 import check_identities, rows, table1


def print_table1(url: str, name: str, truth: Path | None, console: Console) -> None:
    """Print Table 1 of the profiles `name` of a run.

    Args:
        url: folder or URL of the run.
        name: of the profiles dataset.
        truth: truth.parquet of the demo shards; its values become a column.
        console: where to print.

    Raises:
        RunError: there are no profiles of that name.
        IdentityError: the table contradicts itself.
    """
    found = table1(Run(url).dataset(Dataset("profiles", name)))
    identities = check_identities(found)
    columns = {"this run": rows(found)}
    if truth:
        columns["truth"] = rows(table1(pq.read_table(truth)))
    columns[f"{LAION_2B.name} (published)"] = rows(LAION_2B)
    shown = Table(title=f"Table 1 of {url}, profiles {name}", title_justify="left")
    shown.add_column("")
    for heading in columns:
        shown.add_column(heading, justify="right")
    for cells in zip(*columns.values(), strict=True):
        shown.add_row(cells[0][0], *(value for _, value in cells))
    console.print(shown)
    console.print(f"{len(identities)} identities hold. Published values: {SOURCE}.", markup=False)
