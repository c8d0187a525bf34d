"""The job `tables`: every table and figure of a run's profiles, written to a folder."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as ds
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.console import printable, say
from jobs.table1 import coverage
from jobs.table_files import INDEX, escaped, index_section, markdown, write_figure, write_result
from pipeline.datasets import profiles_named
from pipeline.figures.drawn import draw_figures
from pipeline.figures.style import footer_line
from pipeline.folder import Folder
from pipeline.run import Run
from pipeline.stored_images import StoredImages, Unavailable
from pipeline.tables.clusters import cluster_tables
from pipeline.tables.comparison import compare
from pipeline.tables.merging import figure3a
from pipeline.tables.of_run import centroids_to_merge, spotter_name, whole_profiles
from pipeline.tables.result import Result
from pipeline.tables.sensitivity import SpotterAccuracy
from pipeline.tables.sheets import contact_sheet, random_clusters, text_clusters, top_images
from pipeline.tables.table1 import check_identities, table1
from pipeline.tables.vocabulary import MOST_FREQUENT, caption_vocabulary, co_emb_vocabulary


def run_tables(
    url: str,
    name: str,
    folder: str | None,
    accuracy: SpotterAccuracy,
    console: Console,
    sheets: bool = True,
    most: int = MOST_FREQUENT,
) -> None:
    """Write every table and figure of the profiles `name` of a run, print Table 1 and the files.

    Args:
        url: folder or URL of the run.
        name: of the profiles dataset.
        folder: folder or URL to write to; None: RUN/tables for `main`, RUN/tables/NAME for others.
        accuracy: of the spotter, for the corrected column of Table 1.
        console: where to print.
        sheets: draw contact sheets, from the images in the shards; otherwise their rows are listed alone.
        most: n-grams kept of each vocabulary.

    Raises:
        ValueError: no dataset can have that name.
        RunError: there are no profiles of that name, or they lack a column.
        IdentityError: Table 1 contradicts itself.
    """
    run, dataset = Run(url), profiles_named(name)
    profiles, config = whole_profiles(run, dataset), run.config()
    out = _Output(folder or f"{url.rstrip('/')}/tables{'' if name == 'main' else f'/{name}'}", console)
    found = table1(profiles)
    identities = check_identities(found)
    compared = compare(found, profiles, accuracy)
    _print(compared, f"Table 1 of {url}, {dataset}", console)
    facts = [f"{len(identities)} identities hold: {'; '.join(identities)}.", *coverage(run, dataset)]
    for fact in (*facts, f"Files in {out.folder.url}:"):
        say(console, fact)
    out.table(compared, *facts)

    footer = partial(footer_line, printable(url), found.images, spotter_name(config))
    clusters = cluster_tables(profiles)
    for result in clusters:
        out.table(result)
    centroids, reason = centroids_to_merge(run, config, dataset, clusters)
    for drawn in draw_figures(profiles, found, clusters, centroids, footer):
        for result in drawn.tables:
            out.table(result, *([reason] if reason and result.made_by is figure3a else []))
        out.figure(drawn.name, drawn.title, drawn.figure, drawn.drawn_by)

    stored = StoredImages(run) if sheets else None
    for sheet, selection in _sheets(profiles, clusters.clusters.table):
        out.table(selection)
        if stored and selection.table.num_rows:
            drawn_sheet, missing = _draw_sheet(selection.table, stored)
            out.figure(sheet, selection.title, drawn_sheet, contact_sheet, *missing)
    for n in (1, 2):
        out.table(caption_vocabulary(profiles, n, most))
    out.table(co_emb_vocabulary(profiles, most))
    out.index(f"Tables and figures of {url}, {dataset}", compared)


class _Output:
    """The folder, what is written to it told as it is, and the index, which is written last."""

    def __init__(self, url: str, console: Console) -> None:
        self.folder, self.console = Folder(url), console
        self.folder.sweep()
        self.sections: list[str] = []

    def table(self, result: Result, *notes: str) -> None:
        files = write_result(self.folder, result)
        self._done(files, index_section(result.title, files, result.function, (*result.notes, *notes), result.sql))

    def figure(
        self, name: str, title: str, figure: Figure | Image.Image, drawn_by: Callable[..., object], *notes: str
    ) -> None:
        files = write_figure(self.folder, name, figure)
        self._done(files, index_section(title, files, f"{drawn_by.__module__}.{drawn_by.__qualname__}", notes))
        for note in notes:
            say(self.console, f"    {note}")

    def index(self, title: str, first: Result) -> None:
        blocks = [f"# {escaped(title)}", markdown(first.shown or first.table), *self.sections, ""]
        self.folder.write_bytes("\n\n".join(blocks).encode(), INDEX)
        self._done([INDEX], "")

    def _done(self, files: Sequence[str], section: str) -> None:
        self.sections.append(section)
        say(self.console, f"  {' '.join(files)}")


def _print(result: Result, title: str, console: Console) -> None:
    shown = result.shown or result.table
    table = Table(title=Text(printable(title)), title_justify="left")
    for column in shown.column_names:
        table.add_column(column.replace(" (", "\n("), justify="right" if column else "left")
    for row in shown.to_pylist():
        table.add_row(*row.values())
    console.print(table)
    for note in result.notes:
        say(console, note)


def _sheets(profiles: ds.Dataset, clusters: pa.Table) -> Iterator[tuple[str, Result]]:
    """Name of the sheet, and the rows on it."""
    text = "Figure 3b: images of highest CLIP score of clusters in which over 80 % have text"
    yield "figure_3b", top_images("figure_3b_images", text, profiles, text_clusters(clusters))
    drawn = "Figure 16: images of highest CLIP score of random clusters"
    yield "figure_16", top_images("figure_16_images", drawn, profiles, random_clusters(clusters))


def _draw_sheet(selection: pa.Table, stored: StoredImages) -> tuple[Image.Image, list[str]]:
    """A sheet, and in a sentence how many of its images could not be had, if any."""
    reasons: list[str] = []

    def images() -> Iterator[npt.NDArray[np.uint8] | None]:
        for image in stored.of(selection.to_pylist()):
            if isinstance(image, Unavailable):
                reasons.append(image.reason)
                yield None
            else:
                yield image

    sheet = contact_sheet(selection, images())
    told = f"{len(reasons):,} of {selection.num_rows:,} images could not be had and are grey, the first because"
    return sheet, [f"{told}: {reasons[0]}"] if reasons else []
