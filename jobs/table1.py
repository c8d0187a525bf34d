"""Table 1 on the console: the run, the truth where it is known, and the published LAION-2B column."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.console import printable, say
from pipeline.claims import claimed
from pipeline.datasets import Dataset, profiles_named
from pipeline.run import Run
from pipeline.shards import told_sample
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
        ValueError: no dataset can have that name.
        RunError: there are no profiles of that name.
        IdentityError: the table contradicts itself.
    """
    run, profiles = Run(url), profiles_named(name)
    found = table1(run.dataset(profiles))
    identities = check_identities(found)
    done, known = len(run.done(profiles)), len(run.shards())
    columns = {"this run": rows(found)}
    if truth:
        columns["truth"] = rows(table1(pq.read_table(truth)))
    columns[f"{LAION_2B.name} (published)"] = rows(LAION_2B)
    title = Text(printable(f"Table 1 of {url}, profiles {name} of {done:,} of {known:,} shards"))
    shown = Table(title=title, title_justify="left")
    shown.add_column("")
    for heading in columns:
        shown.add_column(heading, justify="right")
    for cells in zip(*columns.values(), strict=True):
        shown.add_row(cells[0][0], *(value for _, value in cells))
    console.print(shown)
    say(console, f"{len(identities)} identities hold. Published values: {SOURCE}.")
    for sentence in coverage(run, profiles):
        say(console, sentence)


def coverage(run: Run, profiles: Dataset) -> Iterator[str]:
    """From which files profiles are read, and of what they are a sample or a part, in sentences."""
    ids = run.done(profiles)
    done, known = len(ids), len(run.shards())
    if files := run.compacted(profiles, ids):
        yield f"Read from {len(files):,} compacted files and {done - sum(map(len, files.values())):,} parts."
    if gate := (claimed(run, profiles) or {}).get("gate"):
        low, high = (f"{gate[f'recall_{bound}_95']:.2%}" for bound in ("low", "high"))
        yield (
            f"Text was looked for through a gate, which lets through {gate['recall']:.2%} of images with text (95 % "
            f"interval {low} to {high}, held-out images) and {gate['word_recall']:.2%} of their words. What it skips "
            "counts as without text: shares of images with text, and rates of all images, are low by what is missing."
        )
    if sample := told_sample(run.collection()):
        yield f"{sample}: counts are the sample's, shares and rates estimate the collection's."
    if done < known:
        yield f"This is a part of the run: {known - done:,} of its {known:,} shards have no such profiles yet."
