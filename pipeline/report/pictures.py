"""Figures as pictures within the page."""

import base64
from dataclasses import dataclass

from pipeline.figures.drawn import Drawn
from pipeline.figures.style import rendered


@dataclass(frozen=True)
class Picture:
    """A figure: what it shows, and a PNG as a data URI."""

    title: str
    uri: str


def picture(drawn: Drawn) -> Picture:
    png = base64.b64encode(rendered(drawn.figure, "png")).decode()
    return Picture(drawn.title, f"data:image/png;base64,{png}")
