"""Profile rows written by hand: what a test does not name is sound and dull."""

from typing import Any

import pyarrow as pa

from pipeline import schema
from pipeline.config import DEFAULT_METADATA

COLUMNS = (*schema.PROFILES, *schema.metadata_columns(DEFAULT_METADATA))


def profile(words: int = 4, shared: int = 0, text: bool = True, **changes: Any) -> dict[str, Any]:
    """A row of a caption of so many words, of which so many were spotted; `text`: something was spotted."""
    caption = [f"w{number}" for number in range(words)]
    spotted = caption[:shared] or (["other"] if text else [])
    word = {"confidence": 1.0, "polygon": [{"x": x, "y": y} for x, y in ((0, 0), (10, 0), (10, 10))]}
    return {
        "shard": "00000",
        "index": 0,
        "key": "000",
        "uid": "0" * 32,
        "caption": " ".join(caption),
        "width": 100,
        "height": 100,
        "image_format": "JPEG",
        "image_offset": 512,
        "image_size": 1000,
        "metadata_status": "ok",
        "clip_status": "ok",
        "clip_score": 0.3,
        "caption_truncated": False,
        "spot_status": "ok",
        "spotted": [{"text": each, **word} for each in spotted],
        "text_class": "co_emb" if shared else "text" if text else "none",
        "text_area": 0.005 * len(spotted),
        "spotted_area": [0.005] * len(spotted),
        "spotted_co_emb": [bool(shared)] * len(spotted),
        "co_emb_words": caption[:shared],
        "co_emb_area": 0.005 * shared,
        "co_emb_area_union": 0.005 * shared,
        "caption_words": caption,
        "word_similarity": [1.0] * shared + [0.0] * (words - shared),
        "cotr": shared / max(words, 1),
        "cotr_literal": shared / max(words, 1) / 2,
        "fuzzy_cotr": shared / max(words, 1),
        "caption_wordless": not words,
        "caption_unspaced": False,
        "text_unspaced": False,
        "overlap_bounded": False,
        "cluster_id": 0,
        "cluster_distance": 0.5,
        **changes,
    }


def failed(**changes: Any) -> dict[str, Any]:
    """A row whose image the spotter failed on."""
    nulls = dict.fromkeys((column.name for column in schema.OVERLAP if column.nullable), None)
    return profile(**{**nulls, "spot_status": "failed", "spotted": None, **changes})


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=schema.arrow(COLUMNS))
