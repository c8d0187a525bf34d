"""Figure 3a and the CLIP scores of classes and clusters."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.figures.style import (
    COLORS,
    COUNT,
    GREY,
    LABELS,
    PERCENT,
    edges,
    new_figure,
    say_empty,
    styled,
)
from pipeline.schema import CLUSTER_ID, TextClass
from pipeline.tables.clusters import HISTOGRAM_BINS
from pipeline.tables.published import LAION_2B
from pipeline.tables.table1 import ImageCounts

STACK = (TextClass.CO_EMB, TextClass.TEXT, TextClass.NONE)
"""From the bottom."""

MOST_TICKS = 20
FEW, FEW_BINS = 5_000, 25
"""Fewer images are drawn in so many bins per unit of CLIP score."""


@styled
def draw_figure3a(groups: pa.Table, counts: ImageCounts, merged: bool, footer: str) -> Figure:
    """Images of each group of `merging.figure3a` by class, and the shares of the run beside the published ones."""
    what = "groups of similar clusters" if merged else "clusters"
    figure = new_figure(
        "How many images hold text, and how many repeat it in their caption",
        f"Left: each bar is one of the {groups.num_rows:,} {what} of images that look alike, the largest first.\n"
        "Right: shares of all images whose text could be looked for.",
        footer,
    )
    bars, shares = figure.subplots(1, 2, width_ratios=(3.2, 1))
    if groups.num_rows:
        bottom = np.zeros(groups.num_rows)
        for kind in STACK:
            heights = groups[kind.value].to_numpy()
            bars.bar(groups["group"].to_numpy(), heights, 0.86, bottom, color=COLORS[kind], label=LABELS[kind])
            bottom += heights
        if groups.num_rows <= MOST_TICKS:
            bars.set_xticks(groups["group"].to_pylist())
        bars.yaxis.set_major_locator(MaxNLocator(integer=True))
        bars.yaxis.set_major_formatter(COUNT)
        bars.set_ylim(0, bottom.max() * 1.25)
        bars.margins(x=0.01)
        handles, labels = bars.get_legend_handles_labels()
        bars.legend(handles[::-1], labels[::-1], loc="upper right")
    else:
        say_empty(bars, "no image with a cluster whose text could be looked for")
    bars.set(xlabel=f"{'group of clusters' if merged else 'cluster'}, by size", ylabel="images")
    _draw_shares(shares, {"this run": counts, f"{LAION_2B.name}\n(published)": LAION_2B})
    return figure


def _draw_shares(axes: Axes, columns: dict[str, ImageCounts]) -> None:
    for place, counts in enumerate(columns.values()):
        bottom = 0.0
        for kind, share in zip(
            STACK, (counts.co_emb_share, counts.other_text_share, counts.without_text_share), strict=True
        ):
            axes.bar(place, share or 0, 0.8, bottom, color=COLORS[kind])
            if share and share > 0.03:
                axes.text(
                    place, bottom + share / 2, f"{share:.1%}", color="white", weight="bold", ha="center", va="center"
                )
            bottom += share or 0
    axes.set_xticks(range(len(columns)), list(columns))
    axes.set(ylim=(0, 1), ylabel="share of images")
    axes.yaxis.set_major_formatter(PERCENT)


@styled
def draw_scores(histogram: pa.Table, classes: pa.Table, cluster_classes: pa.Table, footer: str) -> Figure:
    """CLIP scores by class, over all images and cluster by cluster; arguments: of `clusters.cluster_tables`."""
    figure = new_figure(
        "Does CLIP prefer images whose text is in the caption?",
        "CLIP score: how well CLIP finds that image and caption fit (cosine; higher is better). Left: images of each\n"
        "class, dashed: their mean. Right: each dot is a cluster; above the line, those with copied text score higher.",
        footer,
    )
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    per_unit = FEW_BINS if np.sum(histogram["images"].to_numpy()) < FEW else HISTOGRAM_BINS
    for kind in TextClass:
        rows = histogram.filter(pc.equal(histogram["text_class"], kind.value))
        if rows.num_rows:
            starts, images = rows["score_from"].to_numpy(), rows["images"].to_numpy()
            bounds = edges(starts, per_unit)
            counts, _ = np.histogram(starts + 0.5 / HISTOGRAM_BINS, bounds, weights=images)
            (mean,) = classes.filter(pc.equal(classes["text_class"], kind.value))["mean_clip_score"].to_pylist()
            label = f"{LABELS[kind]} (mean {mean:.3f})"
            left.stairs(counts / images.sum(), bounds, color=COLORS[kind], linewidth=1.7, label=label)
            left.axvline(mean, 0, 0.78, color=COLORS[kind], linestyle="--", linewidth=1)
    if histogram.num_rows:
        left.yaxis.set_major_formatter(PERCENT)
        left.set_ylim(0, left.get_ylim()[1] * 1.28)
        left.legend(loc="upper left")
    else:
        say_empty(left, "no image with a CLIP score")
    left.set(xlabel="CLIP score", ylabel=f"share of the images of a class, per {1 / per_unit:g}")
    _draw_cluster_means(right, cluster_classes)
    return figure


def _draw_cluster_means(axes: Axes, cluster_classes: pa.Table) -> None:
    means: dict[str, dict[int, float]] = {kind.value: {} for kind in TextClass}
    for row in cluster_classes.select([CLUSTER_ID.name, "text_class", "mean_clip_score"]).to_pylist():
        if row["text_class"] in means and row["mean_clip_score"] is not None:
            means[row["text_class"]][row[CLUSTER_ID.name]] = row["mean_clip_score"]
    without, copied = means[TextClass.NONE.value], means[TextClass.CO_EMB.value]
    both = sorted(without.keys() & copied.keys())
    if both:
        x, y = np.array([without[c] for c in both]), np.array([copied[c] for c in both])
        size = float(np.clip(2_000 / len(both), 4, 40))
        axes.scatter(x, y, size, COLORS[TextClass.CO_EMB], alpha=0.6, linewidths=0)
        low, high = min(x.min(), y.min()), max(x.max(), y.max())
        pad = 0.05 * (high - low) or 0.01
        axes.plot([low - pad, high + pad], [low - pad, high + pad], color=GREY, linewidth=1)
        above = np.mean(y > x)
        axes.set_title(f"above the line: {above:.0%} of {len(both):,} clusters")
        axes.set_aspect("equal")
    else:
        say_empty(axes, "no cluster has both")
    axes.set(xlabel="mean CLIP score without text", ylabel="mean CLIP score with copied text")
