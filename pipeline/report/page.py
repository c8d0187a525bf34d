"""The page itself: everything a report tells, and the HTML made of it.

Captions, words, names and messages are hostile. The template escapes every value, unseen characters become visible,
and a policy in the page lets a browser run no script and load nothing from elsewhere, should that fail.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.config_file import SOFTWARE, parse_yaml
from pipeline.figures.style import COLORS
from pipeline.report.captions import visible
from pipeline.report.gallery import Card, Gallery, GallerySettings
from pipeline.report.pictures import Picture
from pipeline.run import Run
from pipeline.secrets import plain
from pipeline.tables.published import LAION_2B
from pipeline.tables.result import Result

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""Content-Security-Policy of the page: no script, no network, no form."""

HEADLINES = {
    "images": "Pairs of an image and its caption that could be read.",
    "text_share": "The spotter found at least one word in the image.",
    "co_emb_share": "Parrot captions: at least one word of the caption is printed in the image.",
    "co_emb_share_of_text": "The same, among images with text only.",
    "cotr_macro": "Of a caption's words, how many are printed in its image; an image without text counts 0.",
    "fuzzy_macro": "The same, where words nearly alike count too: a spotter misreads letters.",
}
"""Rows of Table 1 shown first → what they mean."""

SECRET = ("password", "passwd", "secret", "token", "api_key", "apikey", "credential")
"""Parts of the names of settings whose values are not shown; a spotter of one's own may have such."""

_COLORS = {kind.value: color for kind, color in COLORS.items()}


@dataclass(frozen=True)
class Report:
    """All that the page tells; texts as they are, nothing escaped.

    `url`: of the run. `made`: when and by what. `facts`: what of the run it covers, in sentences. `table`: of
    `comparison.compare`. `rejects`: of `rejects_by_reason`. `shards`: name of a state → number of shards.
    """

    url: str
    profiles: str
    made: str
    facts: Sequence[str]
    table: Result
    figures: Sequence[Picture]
    gallery: Gallery
    settings: GallerySettings
    rejects: Sequence[Mapping[str, Any]]
    shards: Mapping[str, int]
    config: str
    software: Mapping[str, str]


def render(report: Report) -> str:
    """The page as HTML."""
    rows = (report.table.shown or report.table.table).to_pylist()
    rates = dict(zip(report.table.table["name"].to_pylist(), rows, strict=True))
    template = _environment().get_template("report.html")
    return template.render(
        report=report,
        policy=POLICY,
        columns=list(rows[0]),
        rows=[list(row.values()) for row in rows],
        headlines=[(rates[name], meaning) for name, meaning in HEADLINES.items()],
        published=f"{LAION_2B.name} (published)",
        colors=_COLORS,
    )


def render_cards(cards: Sequence[Card]) -> str:
    """Cards alone, as a part of another page; a picture and its outlines are one image."""
    return _environment().get_template("cards.html").render(cards=cards)


def settings_of(run: Run) -> tuple[str, Mapping[str, str]]:
    """The run's configuration as YAML, without what opens something, and the versions of software that made it."""
    values = parse_yaml(run.fs.cat_file(run.path("run.yaml")))
    software = values.pop(SOFTWARE, {})
    shown = _covered(plain(values))
    return yaml.safe_dump(shown, sort_keys=False, allow_unicode=True), dict(software)


def _covered(values: Any) -> Any:
    if isinstance(values, list):
        return [_covered(value) for value in values]
    if not isinstance(values, dict):
        return values
    return {
        key: "(not shown)" if any(part in key.lower() for part in SECRET) else _covered(value)
        for key, value in values.items()
    }


def _flat(card: Card) -> str:
    svg = _environment().get_template("card.html").make_module().flattened(card, _COLORS)  # type: ignore[attr-defined]
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


@lru_cache(1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        # Not subclasses: markup of the template itself is escaped already.
        finalize=lambda value: visible(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda share: "–" if share is None else f"{share:.0%}"
    environment.filters["flat"] = _flat
    return environment
