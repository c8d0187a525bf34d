"""All figures of a run's profiles, one after the other, and the tables that each shows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow.dataset as ds
from matplotlib.figure import Figure

from pipeline.figures.clusters import draw_figure3a, draw_scores
from pipeline.figures.figure4 import draw_figure4a, draw_figure4b, draw_figure4c
from pipeline.tables.clusters import ClusterTables
from pipeline.tables.figure4 import figure4
from pipeline.tables.merging import figure3a
from pipeline.tables.result import Result
from pipeline.tables.table1 import Table1
from pipeline.vectors import Singles


@dataclass(frozen=True)
class Drawn:
    """A figure: its name for files, what it shows, the function that drew it, and the tables made for it."""

    name: str
    title: str
    figure: Figure
    drawn_by: Callable[..., Figure]
    tables: tuple[Result, ...] = ()


def draw_figures(
    profiles: ds.Dataset,
    found: Table1,
    clusters: ClusterTables,
    centroids: Singles | None,
    footer: Callable[[bool], str],
) -> Iterator[Drawn]:
    """Figure 3a, the CLIP scores, Figures 4a to 4c.

    Args:
        profiles: read once more.
        found: their Table 1.
        clusters: their tables of clusters.
        centroids: (k, p), that they were assigned with; None: clusters are not merged.
        footer: the line below a figure, with published values or without.
    """
    plain = footer(False)
    merged = figure3a(clusters.clusters.table, centroids)
    drawn = draw_figure3a(merged.table, found, centroids is not None, footer(True))
    yield Drawn(merged.name, merged.title, drawn, draw_figure3a, (merged,))
    scores = (clusters.histogram.table, clusters.classes.table, clusters.cluster_classes.table)
    yield Drawn("clip_score", "CLIP scores by class and cluster", draw_scores(*scores, plain), draw_scores)
    words, areas, sizes, quantiles = figure4(profiles)
    yield Drawn(words.name, words.title, draw_figure4a(words.table, plain), draw_figure4a, (words,))
    yield Drawn(areas.name, areas.title, draw_figure4b(areas.table, plain), draw_figure4b, (areas,))
    drawn = draw_figure4c(sizes.table, quantiles.table, plain)
    yield Drawn(sizes.name, sizes.title, drawn, draw_figure4c, (sizes, quantiles))
