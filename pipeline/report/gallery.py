"""The gallery of a run: the images of highest CLIP score of its largest and its most parroting clusters."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from pipeline.query.open_run import OpenRun, ProfiledSample
from pipeline.report.captions import Piece, marked
from pipeline.report.thumbnails import SIDE, Outline, Thumbnail, outlines, thumbnail
from pipeline.schema import CLUSTER_ID
from pipeline.secrets import without_secrets
from pipeline.tables.sheets import UNSAFE, top_images, unsafe_condition

WANTED = "shard || '/' || \"index\" IN (SELECT unnest($wanted))"
"""Condition of the samples of a list of names; a shard's id has no slash."""


@dataclass(frozen=True)
class GallerySettings:
    """How large a gallery is, and what of it is covered.

    `clusters`: shown in all. `images`: of each. `show_flagged`: images that metadata calls unsafe are shown, blurred;
    else they are left out. `blur`: all are blurred.
    """

    clusters: int = 24
    images: int = 8
    show_flagged: bool = False
    blur: bool = False


@dataclass(frozen=True)
class Card:
    """One sample as it is shown: `row` is its profile; without a thumbnail, `reason` says why."""

    row: Mapping[str, Any]
    caption: Sequence[Piece]
    flagged: bool
    thumbnail: Thumbnail | None
    outlines: Sequence[Outline]
    reason: str | None


@dataclass(frozen=True)
class ClusterCards:
    """A cluster: its row of `clusters.cluster_tables`, and samples by descending CLIP score."""

    facts: Mapping[str, Any]
    cards: Sequence[Card]


@dataclass(frozen=True)
class Gallery:
    """`sections`: title and clusters; each cluster is in one of them. `flagged`: of the run; None: no metadata."""

    sections: Mapping[str, Sequence[ClusterCards]]
    flagged: int | None


def make_gallery(run: OpenRun, profiles: ds.Dataset, clusters: pa.Table, settings: GallerySettings) -> Gallery:
    """Choose clusters and images, and fetch the images from their shards.

    Args:
        run: whose images they are.
        profiles: of `run`.
        clusters: of `clusters.cluster_tables`, the largest first.
        settings: bounds and covers.
    """
    sections = choose(clusters.to_pylist(), settings.clusters)
    ids = [row[CLUSTER_ID.name] for rows in sections.values() for row in rows]
    unsafe = unsafe_condition(profiles.schema.names)
    best = top_images("gallery", "", profiles, ids, settings.images, settings.show_flagged).table.to_pylist()
    names = [f"{row['shard']}/{row['index']}" for row in best]
    cards = fetch_cards(run, names, unsafe, settings)
    shown: dict[int, list[Card]] = {cluster: [] for cluster in ids}
    for row, name in zip(best, names, strict=True):
        shown[row[CLUSTER_ID.name]].append(cards[name])
    return Gallery(
        {title: [ClusterCards(row, shown[row[CLUSTER_ID.name]]) for row in rows] for title, rows in sections.items()},
        _flagged(run, unsafe, profiles.schema.names),
    )


def choose(clusters: Sequence[Mapping[str, Any]], most: int) -> dict[str, Sequence[Mapping[str, Any]]]:
    """At most `most` clusters by section, none twice.

    A cluster parrots by the lower bound of its share's interval: small ones reach 100 % by chance.
    """

    def parroting(row: Mapping[str, Any]) -> float:
        return -(row["co_emb_share_low_95"] or 0.0)

    if len(clusters) <= most:
        return {"All clusters, the most parroting first": sorted(clusters, key=parroting)}
    largest = clusters[: most - most // 2]
    rest = [row for row in sorted(clusters[len(largest) :], key=parroting) if row["co_emb"]]
    return {"The largest clusters": largest, "The most parroting of the others": rest[: most // 2]}


def fetch_cards(
    run: OpenRun, names: Sequence[str], unsafe: str, settings: GallerySettings, side: int = SIDE
) -> dict[str, Card]:
    """The cards of samples, by name (shard/index).

    Args:
        run: whose samples they are.
        names: of samples that profiles have.
        unsafe: of `sheets.unsafe_condition`.
        settings: say what is blurred.
        side: of the thumbnails, in pixels.
    """
    if not names:
        return {}
    flagged = set(_names(run, unsafe, names)) if settings.show_flagged else set()
    found = {}
    # In this order images of one shard are read together.
    for sample in run.samples(WANTED, None, 'shard, "index"', {"wanted": list(names)}):
        name = f"{sample.row['shard']}/{sample.row['index']}"
        found[name] = _card(sample, name in flagged, settings.blur, side)
    return found


def _card(sample: ProfiledSample, flagged: bool, blur: bool, side: int) -> Card:
    row = sample.row
    picture = None if sample.image is None else thumbnail(sample.image, flagged or blur, side)
    return Card(
        row,
        marked(row["caption"], row["co_emb_words"] or ()),
        flagged,
        picture,
        outlines(row, picture) if picture else (),
        without_secrets(sample.reason) if sample.reason else None,
    )


def _names(run: OpenRun, unsafe: str, names: Sequence[str]) -> list[str]:
    query = f"""SELECT shard || '/' || "index" AS name FROM profiles WHERE {WANTED} AND ({unsafe})"""  # noqa: S608
    return list(run.sql(query, {"wanted": list(names)}).arrow()["name"].to_pylist())


def _flagged(run: OpenRun, unsafe: str, columns: Collection[str]) -> int | None:
    """How many images metadata calls unsafe; None: no image has such metadata."""
    known = " OR ".join(f"{column} IS NOT NULL" for column in UNSAFE if column in columns) or "false"
    query = f"SELECT count(*) FILTER ({unsafe}) AS flagged, count(*) FILTER ({known}) AS known FROM profiles"  # noqa: S608
    (counts,) = run.sql(query).arrow().to_pylist()
    return counts["flagged"] if counts["known"] else None
