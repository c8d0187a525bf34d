"""Figures 4a, 4b and 4c."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pipeline.figures.style import (
    COLORS,
    COUNT,
    GREY,
    MAPPED,
    PALE,
    PERCENT,
    edges,
    new_figure,
    say_empty,
    styled,
)
from pipeline.schema import TextClass
from pipeline.tables.binned import QUANTILES
from pipeline.tables.figure4 import AREA_BINS, MOST_WORDS, SCORE_BINS, WORD_AREA_BINS

LARGEST_WORD = 0.1
"""Share of the image; where the paper's axis ends."""

WORD_COUNT = FuncFormatter(lambda value, _: f"{value:g}{'+' if value == MOST_WORDS else ''}")

DRAWN_TOGETHER = 4
"""Bins of `figure_4c` in one step of the histogram."""


@styled
def draw_figure4a(words: pa.Table, footer: str) -> Figure:
    """Images by words of the caption and how many of them are in the image (`figure_4a`)."""
    figure = new_figure(
        "How many words of a caption stand in its image",
        "Colour: number of images, on a logarithmic scale. On the line every word of the caption is in the image.",
        footer,
    )
    axes = figure.subplots()
    counts = np.zeros((MOST_WORDS + 1, MOST_WORDS + 1))
    counts[words["co_emb_words"].to_numpy(), words["caption_words"].to_numpy()] = words["images"].to_numpy()
    if counts.any():
        _draw_counts(axes, np.arange(-0.5, MOST_WORDS + 1), np.arange(-0.5, MOST_WORDS + 1), counts)
        axes.plot([-0.5, MOST_WORDS + 0.5], [-0.5, MOST_WORDS + 0.5], color=GREY, linewidth=0.8)
        y, x = (max(np.flatnonzero(counts.any(axis=along)).max(), 4) for along in (1, 0))
        axes.set(xlim=(-0.5, x + 0.5), ylim=(-0.5, y + 0.5))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))
            axis.set_major_formatter(WORD_COUNT)
    else:
        say_empty(axes, "no image whose text could be looked for")
    axes.set(xlabel="different words in the caption", ylabel="of them in the image")
    return figure


@styled
def draw_figure4b(areas: pa.Table, footer: str) -> Figure:
    """Area of co-embedded text and CLIP score (`figure_4b`), with the mean score of each area."""
    figure = new_figure(
        "Does larger copied text give a higher CLIP score?",
        "Images with at least one caption word in them. Colour: number of images, on a logarithmic scale. "
        "Line: mean score.\nCLIP score: how well CLIP finds that image and caption fit (cosine; higher is better).",
        footer,
    )
    axes = figure.subplots()
    if areas.num_rows:
        area, score = areas["area_from"].to_numpy(), areas["score_from"].to_numpy()
        images, means = areas["images"].to_numpy(), areas["mean_clip_score"].to_numpy()
        x, y = edges(np.append(area, 0.0), AREA_BINS), edges(score, SCORE_BINS)
        middle = area + 0.5 / AREA_BINS
        counts, _, _ = np.histogram2d(score + 0.5 / SCORE_BINS, middle, (y, x), weights=images)
        _draw_counts(axes, x, y, counts)
        summed, _ = np.histogram(middle, x, weights=images * means)
        of_area, _ = np.histogram(middle, x, weights=images)
        there = of_area > 0
        line = axes.plot(
            (x[:-1] + 0.5 / AREA_BINS)[there], summed[there] / of_area[there], color=COLORS[TextClass.NONE], linewidth=2
        )
        axes.legend(line, ["mean CLIP score"], loc="upper right")
        axes.xaxis.set_major_formatter(PERCENT)
        axes.set_ylim(y[0], y[-1] + 0.12 * (y[-1] - y[0]))
    else:
        say_empty(axes, "no image with copied text and a CLIP score")
    more = " (last bin: 100 % and more)" if areas.num_rows and area.max() >= 1 else ""
    axes.set(xlabel=f"copied words: summed area, share of the image{more}", ylabel="CLIP score")
    return figure


@styled
def draw_figure4c(word_areas: pa.Table, quantiles: pa.Table, footer: str) -> Figure:
    """Area of single words, in the caption or not (`figure_4c`, `figure_4c_quantiles`)."""
    figure = new_figure(
        "Are larger words in an image more often in its caption?",
        "Area of one spotted word as a share of its image. Left: small words. Right: all; the box holds the middle\n"
        "half, its line is the median, the whiskers reach from the 5 % smallest to the 5 % largest.",
        footer,
    )
    left, right = figure.subplots(1, 2, width_ratios=(1.8, 1))
    groups = {True: ("in the caption", COLORS[TextClass.CO_EMB]), False: ("other words", COLORS[TextClass.TEXT])}
    step = DRAWN_TOGETHER / WORD_AREA_BINS
    bounds = np.arange(round(LARGEST_WORD / step) + 2) * step  # one more than is seen
    ticks: list[str] = []
    for row in quantiles.sort_by([("co_emb", "descending")]).to_pylist():
        label, color = groups[row["co_emb"]]
        rows = word_areas.filter(pc.equal(word_areas["co_emb"], row["co_emb"]))
        starts = rows["area_from"].to_numpy() + 0.5 / WORD_AREA_BINS
        counts, _ = np.histogram(starts, bounds, weights=rows["words"].to_numpy())
        beyond = 1 - counts[:-1].sum() / row["words"]
        told = f"{label}: {row['words']:,} words, {beyond:.0%} of them above {LARGEST_WORD:.0%}"
        left.stairs(counts / row["words"], bounds, color=color, linewidth=1.7, label=told)
        least, lower, median, upper, most = (row[f"area_q{q:02d}"] for q in QUANTILES)
        right.plot([len(ticks)] * 2, [least, most], color=color, linewidth=1.2, zorder=1)
        right.bar(len(ticks), upper - lower, 0.5, lower, facecolor=PALE, edgecolor=color, zorder=2)
        right.plot([len(ticks) - 0.25, len(ticks) + 0.25], [median] * 2, color=color, linewidth=2.5, zorder=3)
        ticks.append(f"{label}\nmedian {median:.1%}")
    if ticks:
        left.legend(loc="upper right")
        left.set(xlim=(0, LARGEST_WORD), ylim=(0, left.get_ylim()[1] * 1.25))
        right.set_xticks(range(len(ticks)), ticks)
        right.set(xlim=(-0.6, len(ticks) - 0.4), ylim=(0, 1.05 * right.get_ylim()[1]))
        for axis in (left.xaxis, left.yaxis, right.yaxis):
            axis.set_major_formatter(PERCENT)
    else:
        say_empty(left, "no word was spotted")
        say_empty(right, "no word was spotted")
    left.set(xlabel="area of the word, share of the image", ylabel=f"share of the words, per {step:.1%} of area")
    right.set_ylabel("area of the word, share of the image")
    return figure


def _draw_counts(axes: Axes, x: Any, y: Any, counts: Any) -> None:
    """A heat map of counts, (len(y) - 1, len(x) - 1), with its scale; cells of none stay white."""
    norm = LogNorm(1, max(counts.max(), 10))
    mesh = axes.pcolormesh(x, y, np.ma.masked_equal(counts, 0), norm=norm, cmap=MAPPED, rasterized=True)
    bar = axes.figure.colorbar(mesh, ax=axes, format=COUNT, label="images")
    bar.outline.set_visible(False)
