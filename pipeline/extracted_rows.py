"""Rows of the parts that extract writes: what of a sample, a reject or a spotting goes into which column."""

from collections.abc import Mapping
from typing import Any

from pipeline import schema
from pipeline.batches import Sample
from pipeline.metadata import typed_metadata
from pipeline.samples import Reject
from pipeline.shards import Shard
from pipeline.spotting import Spotting


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
