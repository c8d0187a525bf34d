"""One style for all figures: sizes, colours, the title above and the line of sources below."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import font_manager, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from pipeline.schema import TextClass
from pipeline.tables.published import PAPER

RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "legend.frameon": False,
}

WIDTH, HEIGHT, DPI = 10.0, 5.8, 150
"""Inches, and pixels per inch of a PNG."""

COLORS = {TextClass.NONE: "#D55E00", TextClass.TEXT: "#009E73", TextClass.CO_EMB: "#0072B2"}
"""The paper's red, green and blue, in the hues of Okabe and Ito that all eyes tell apart."""

LABELS = {
    TextClass.NONE: "no text",
    TextClass.TEXT: "text, no word of it in the caption",
    TextClass.CO_EMB: "text, and words of it in the caption",
}

GREY, PALE = "#595959", "#eeeeee"
MAPPED = "viridis"
COUNT = FuncFormatter(lambda value, _: shortened(value))
PERCENT = FuncFormatter(lambda value, _: f"{100 * value:.4g}%")

styled = rc_context(RC)
"""Decorator of whatever draws."""


def new_figure(title: str, explanation: str, footer: str) -> Figure:
    """An empty figure: title and explanation (up to two lines) above, sources below, axes to be placed between.

    Args:
        title: says what is seen.
        explanation: says how it is read.
        footer: of `footer_line`; shown as it is, characters that the font lacks as escapes.
    """
    figure = Figure((WIDTH, HEIGHT), dpi=DPI)
    lines = explanation.count("\n") + 1
    figure.set_layout_engine("constrained", rect=(0.01, 0.055, 0.98, 0.865 - 0.04 * lines), w_pad=0.08)
    figure.text(0.015, 0.975, title, size=13, weight="bold", va="top", parse_math=False)
    figure.text(0.015, 0.918, explanation, color=GREY, va="top", linespacing=1.35, parse_math=False)
    figure.text(0.015, 0.018, _drawable(footer), size=8, color=GREY, parse_math=False)
    return figure


def footer_line(run: str, images: int, spotter: str, published: bool) -> str:
    """What a figure was made from; a long name of a run is cut in the middle."""
    shown = run if len(run) <= 60 else f"{run[:28]}…{run[-31:]}"
    line = f"run: {shown}  ·  {images:,} images  ·  spotter: {spotter}"
    return f"{line}  ·  published values: {PAPER}" if published else line


@styled
def rendered(figure: Figure, kind: str) -> bytes:
    """The figure as a file of a `kind`: png or svg."""
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi=DPI, metadata={"Date": None} if kind == "svg" else None)
    return file.getvalue()


def say_empty(axes: Axes, text: str) -> None:
    """Say in an empty panel why it is."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY)
    axes.set_xticks([])
    axes.set_yticks([])


def shortened(value: float) -> str:
    """A count in few characters: 1.5 k, 20 M, 3 G."""
    for factor, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= factor:
            return f"{value / factor:g}{letter}"
    return f"{value:g}"


def edges(starts: npt.NDArray[np.float64], per_unit: int) -> npt.NDArray[np.float64]:
    """Edges of the bins, `per_unit` of them, that hold all of `starts`: (n + 1,), empty bins between them included."""
    # A start is a quotient, and may be a rounding error below the edge it is.
    first, last = np.floor(np.array([starts.min(), starts.max()]) * per_unit + 1e-6).astype(int)
    return np.arange(first, last + 2) / per_unit


def _drawable(text: str) -> str:
    font = font_manager.get_font(font_manager.findfont("DejaVu Sans"))
    known = font.get_charmap()
    return "".join(c if ord(c) in known and c.isprintable() else ascii(c)[1:-1] for c in text)
