"""Table 1 on the console: the run, the truth where it is known, and the published LAION-2B column."""

from pathlib import Path

import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from pipeline.run import Dataset, Run
from pipeline.tables.published import LAION_2B
from pipeline.tables.table1 import check_identities, rows, table1


def print_table1(url: str, name: str, truth: Path | None, console: Console) -> None:
    """Print Table 1 of the profiles `name` of a run.

    Args:
        url: folder or URL of the run.
        name: of the profiles dataset.
        truth: truth.parquet of demo shards; its values become a column.
        console: where to print.

    Raises:
        RunError: there are no profiles of that name.
        IdentityError: the table contradicts itself.
    """
    run = table1(Run(url).dataset(Dataset("profiles", name)))
    check_identities(run)
    columns = {"this run": rows(run)}
