"""The figures of a report: those of `parrotscope tables`, as pictures within the page."""

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow.dataset as ds
from matplotlib.figure import Figure

from pipeline.figures.clusters import draw_figure3a, draw_scores
from pipeline.figures.figure4 import draw_figure4a, draw_figure4b, draw_figure4c
from pipeline.figures.style import rendered
from pipeline.tables.clusters import ClusterTables
from pipeline.tables.figure4 import figure4
from pipeline.tables.merging import figure3a
from pipeline.tables.table1 import Table1
from pipeline.vectors import Singles


@dataclass(frozen=True)
class Picture:
    """A figure: what it shows, and a PNG as a data URI."""

    title: str
    uri: str


def draw_figures(
    profiles: ds.Dataset,
    found: Table1,
    clusters: ClusterTables,
    centroids: Singles | None,
    footer: Callable[[bool], str],
) -> Iterator[Picture]:
    """The figures, one after the other.

    Args:
        profiles: read once more.
        found: their Table 1.
        clusters: their tables of clusters.
        centroids: (k, p), that they were assigned with; None: clusters are not merged.
        footer: the line below a figure, with published values or without.
    """
    merged = figure3a(clusters.clusters.table, centroids)
    drawn = draw_figure3a(merged.table, found, centroids is not None, footer(True))
    yield _picture(merged.title, drawn)
    scores = (clusters.histogram.table, clusters.classes.table, clusters.cluster_classes.table)
    yield _picture("CLIP scores by class and cluster", draw_scores(*scores, footer(False)))
    words, areas, word_areas, quantiles = figure4(profiles)
    yield _picture(words.title, draw_figure4a(words.table, footer(False)))
    yield _picture(areas.title, draw_figure4b(areas.table, footer(False)))
    drawn = draw_figure4c(word_areas.table, quantiles.table, footer(False))
    yield _picture(word_areas.title, drawn)


def _picture(title: str, figure: Figure) -> Picture:
    png = base64.b64encode(rendered(figure, "png")).decode()
    return Picture(title, f"data:image/png;base64,{png}")
