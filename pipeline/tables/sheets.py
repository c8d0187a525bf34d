"""Contact sheets (Figures 3b and 16): which images of which clusters, and how they are laid out.

One cluster is a column, its images by descending CLIP score from the top. Images that metadata calls unsafe are left
out (UNSAFE); an image without such metadata is taken in.
"""

from collections.abc import Collection, Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from PIL import Image, ImageDraw, ImageFont

from pipeline.schema import CLUSTER_ID
from pipeline.tables.connection import connected, filled, select
from pipeline.tables.result import Result

COLUMNS, ROWS = 50, 10
"""Clusters and images of each: as in Figure 3b."""

TEXT_SHARE = 0.8
"""Clusters of more images with text are Figure 3b's."""

UNSAFE = {"NSFW": "upper(NSFW::VARCHAR) IN ('NSFW', 'UNSURE')", "punsafe": "try_cast(punsafe AS DOUBLE) >= 0.1"}
"""Column of the kept metadata → when an image is left out. NSFW is LAION's tag (else UNLIKELY); 0.1 is the strict
threshold of punsafe, that of Stable Diffusion 2.0's training: it leaves out too much rather than too little."""

NOTHING_KNOWN = "false"
"""The condition where no metadata say what is unsafe."""

TILE, MARGIN, HEADING = 100, 2, 16
"""Pixels: side of an image, space around it, height of the line of cluster numbers."""

MISSING = (225, 225, 225)
"""Colour of an image that could not be had."""

SQL = """
SELECT cluster_id, rank, shard, "index", width, height, image_format, image_offset, image_size,
    -descending AS clip_score
FROM (
    SELECT cluster_id, unnest(range(1, len(best) + 1))::INT AS rank, unnest(best, recursive := true)
    FROM (
        SELECT cluster_id, min({descending: -clip_score, shard: shard, "index": "index",
            width: width, height: height, image_format: image_format, image_offset: image_offset,
            image_size: image_size}, {rows}) AS best
        FROM profiles
        WHERE list_contains({clusters}, cluster_id) AND abs(clip_score) < 2 AND NOT coalesce({unsafe}, false)
        GROUP BY cluster_id
    )
)
ORDER BY list_position({clusters}, cluster_id), rank
"""
"""DuckDB keeps the best of a cluster in a heap, and no other rows."""


def unsafe_condition(columns: Collection[str]) -> str:
    """SQL that is true of images that metadata call unsafe, by those of UNSAFE that are columns; else false or null."""
    return " OR ".join(UNSAFE[column] for column in UNSAFE if column in columns) or NOTHING_KNOWN


def text_clusters(clusters: pa.Table, most: int = COLUMNS) -> list[int]:
    """The largest clusters of `clusters.cluster_tables` with more than TEXT_SHARE of images with text."""
    chosen = clusters.filter(pc.greater(clusters["text_share"], TEXT_SHARE))
    return list(chosen[CLUSTER_ID.name].to_pylist()[:most])


def random_clusters(clusters: pa.Table, most: int = COLUMNS, seed: int = 0) -> list[int]:
    """Clusters drawn from all that have images, each with the same chance, ascending."""
    ids = np.sort(clusters[CLUSTER_ID.name].to_numpy())
    drawn = np.random.default_rng(seed).choice(ids, min(most, len(ids)), replace=False)
    return list(np.sort(drawn).tolist())


def top_images(
    name: str,
    title: str,
    profiles: ds.Dataset | pa.Table,
    clusters: list[int],
    rows: int = ROWS,
    with_unsafe: bool = False,
) -> Result:
    """The images of a sheet: cluster, rank from 1, CLIP score, and what `stored_images.StoredImages` finds them by.

    In the order of `clusters`, then by rank; equal scores by shard and index. Images without a score are in no sheet,
    and those that metadata call unsafe only `with_unsafe`.
    """
    unsafe = unsafe_condition(profiles.schema.names)
    sql = filled(SQL, clusters=f"{clusters}::INT[]", rows=rows, unsafe="false" if with_unsafe else unsafe)
    with connected(profiles) as connection:
        table = select(connection, sql)
    note = f"Left out: images of {unsafe}."
    if with_unsafe or unsafe == NOTHING_KNOWN:
        note = f"Nothing is left out{'' if with_unsafe else ': the run keeps no NSFW metadata'}."
    return Result(name, title, table, top_images, sql, (note,))


def contact_sheet(selection: pa.Table, images: Iterable[npt.NDArray[np.uint8] | None]) -> Image.Image:
    """Lay out images as columns of clusters, their numbers above; nothing else is written on it.

    Args:
        selection: `cluster_id` and `rank` of `top_images`.
        images: (H, W, 3) RGB, one for each row of `selection`, in its order; None: it could not be had. One is held at
            a time.

    Raises:
        ValueError: there are more or fewer images than rows.
    """
    ids, ranks = selection[CLUSTER_ID.name].to_pylist(), selection["rank"].to_pylist()
    columns = {cluster: number for number, cluster in enumerate(dict.fromkeys(ids))}
    step = TILE + MARGIN
    size = (max(len(columns), 1) * step + MARGIN, HEADING + max(ranks, default=0) * step + MARGIN)
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for cluster, column in columns.items():
        draw.text((column * step + step // 2, HEADING // 2 + 1), str(cluster), "black", font, anchor="mm")
    for cluster, rank, image in zip(ids, ranks, images, strict=True):
        tile = Image.new("RGB", (TILE, TILE), MISSING) if image is None else Image.fromarray(image)
        tile.thumbnail((TILE, TILE))
        left, top = columns[cluster] * step + MARGIN, HEADING + (rank - 1) * step + MARGIN
        sheet.paste(tile, (left + (TILE - tile.width) // 2, top + (TILE - tile.height) // 2))
    return sheet
