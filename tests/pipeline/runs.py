"""Runs written by hand: shards with real pictures, and profiles of them that say what a test wants."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline import schema
from pipeline.config_file import parse
from pipeline.datasets import REJECTS, Dataset
from pipeline.run import Run
from pipeline.shards import Shard

PROFILES = Dataset("profiles", "main")


def word(text: str, x: int = 0, y: int = 0) -> dict[str, Any]:
    corners = [(x, y), (x + 4, y), (x + 4, y + 3), (x, y + 3)]
    return {"text": text, "confidence": 0.5, "polygon": [{"x": x, "y": y} for x, y in corners]}


def profile(shard: str, index: int, **values: Any) -> dict[str, Any]:
    """A profile row of an image without text; `values` say what is different, `None` also."""
    row: dict[str, Any] = dict.fromkeys(column.name for column in schema.PROFILES)
    row |= {"shard": shard, "index": index, "key": f"k{index}", "uid": f"{shard}-{index}", "caption": "a caption"}
    row |= {"width": 8, "height": 6, "image_format": "JPEG", "image_offset": 0, "image_size": 0}
    row |= {"metadata_status": "ok", "clip_status": "ok", "spot_status": "ok", "text_class": "none"}
    row |= {name: [] for name in ("spotted", "spotted_area", "spotted_co_emb", "co_emb_words", "caption_words")}
    row |= {"word_similarity": [], "text_area": 0.0, "cotr": 0.0, "fuzzy_cotr": 0.0, "cotr_literal": 0.0}
    row |= dict.fromkeys(("caption_wordless", "caption_unspaced", "overlap_bounded"), False)
    if unknown := values.keys() - row.keys():
        raise KeyError(f"no columns of a profile: {unknown}")
    return row | values


FAILED = {
    "spot_status": "failed",
    **dict.fromkeys("spotted spotted_area spotted_co_emb text_class co_emb_words cotr fuzzy_cotr text_area".split()),
}
"""What a profile says where the spotter failed."""


def write_run(
    url: str,
    profiles: Iterable[Mapping[str, Any]] = (),
    rejects: Iterable[Mapping[str, Any]] = (),
    shards: Iterable[Shard] = (),
    dataset: Dataset = PROFILES,
    columns: Sequence[schema.Column] = schema.PROFILES,
) -> Run:
    """A run of these rows, a part per shard; `columns`: of the profiles, kept metadata included."""
    run = Run(url)
    run.write_config(parse({"run": "runs/x", "input": {"shards": "*.tar"}}), ())
    run.write_shards(list(shards))
    for target, of_part, rows in ((dataset, columns, profiles), (REJECTS, schema.REJECTS, rejects)):
        by_shard: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            by_shard.setdefault(row["shard"], []).append(dict(row))
        for shard, found in by_shard.items():
            with run.part(target, shard, of_part) as part:
                part.write(found)
    return run
