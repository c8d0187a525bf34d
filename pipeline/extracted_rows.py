"""Rows of the parts that extract writes: what of a sample, a reject or a spotting goes into which column."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipeline import schema
from pipeline.batches import Sample
from pipeline.metadata import typed_metadata
from pipeline.samples import Reject
from pipeline.shards import Shard
from pipeline.spotting import Spotting
from pipeline.vectors import to_column

if TYPE_CHECKING:
    # It takes torch and open_clip, which a pass without CLIP does not.
    from pipeline.clip import ClipBatch


def identity(shard: Shard, sample: Sample) -> dict[str, Any]:
    """The columns of `schema.IDENTITY`."""
    return {"shard": shard.id, "index": sample.raw.index, "key": sample.raw.key, "uid": sample.uid}


def sample_row(sample: Sample, keys: Mapping[str, str]) -> dict[str, Any]:
    """The other columns of the samples dataset; `keys`: the kept keys of the json and their types."""
    raw, image = sample.raw, sample.image
    height, width = image.size
    metadata, mismatch = typed_metadata(raw.metadata, {"url": "string", **keys})
    status = raw.metadata_status
    if mismatch and status is schema.MetadataStatus.OK:
        status = schema.MetadataStatus.MISMATCH
    return metadata | {
        "caption": raw.caption,
        "width": width,
        "height": height,
        "image_format": image.format,
        "image_offset": raw.image_offset,
        "image_size": raw.image_size,
        "metadata_status": status,
    }


def crash_reject(sample: Sample) -> Reject:
    """The reject that a sample becomes which is known to crash."""
    raw = sample.raw
    return Reject(raw.index, raw.key, schema.RejectReason.CRASHED, str(sample.crash), raw.image_offset)


def reject_row(shard: Shard, reject: Reject) -> dict[str, Any]:
    """The columns of `schema.REJECTS`."""
    return {
        "shard": shard.id,
        "index": reject.index,
        "key": reject.key,
        "reason": reject.reason,
        "message": reject.message,
        "offset": reject.offset,
    }


def embedding_rows(
    identities: Sequence[Mapping[str, Any]], samples: Sequence[Sample], embedded: "ClipBatch", stored_as: str
) -> pa.Table:
    """The columns of `schema.embeddings`; those of samples that are known to crash are null."""
    table = pa.Table.from_pylist(identities, schema.arrow(schema.IDENTITY))
    sound = np.array([sample.crash is None for sample in samples])
    for name, values in {
        schema.CLIP_STATUS.name: np.where(sound, schema.ClipStatus.OK, schema.ClipStatus.FAILED),
        schema.CLIP_SCORE.name: pa.array(embedded.score, mask=~sound),
        schema.CAPTION_TRUNCATED.name: pa.array(embedded.truncated, mask=~sound),
        schema.IMAGE_EMBEDDING: to_column(embedded.image, stored_as, sound),
        schema.TEXT_EMBEDDING: to_column(embedded.text, stored_as, sound),
    }.items():
        table = table.append_column(name, pa.array(values))
    return table


def spotted_row(found: Spotting) -> dict[str, Any]:
    """The columns of `schema.SPOTTED_TEXT` but the identity."""
    failed = found.status is schema.SpotStatus.FAILED
    return {
        "spot_status": found.status,
        "spot_message": found.message,
        "spotted": None
        if failed
        else [
            {
                "text": word.text,
                "confidence": word.confidence,
                "polygon": [{"x": x, "y": y} for x, y in word.polygon.tolist()],
            }
            for word in found.words
        ],
    }
