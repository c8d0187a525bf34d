"""What of the shards could not be used, by reason, with some examples of each."""

from collections.abc import Mapping
from typing import Any

from pipeline.query.open_run import OpenRun
from pipeline.schema import RejectReason

EXAMPLES = 3

MEANINGS: Mapping[RejectReason, str] = {
    RejectReason.TRUNCATED: "The archive ends inside the sample.",
    RejectReason.UNDECODABLE_IMAGE: "The image is no JPEG, PNG or WebP that can be decoded.",
    RejectReason.DECOMPRESSION_BOMB: "The image has more pixels than the limit.",
    RejectReason.ABSURD_SIZE: "A file, or a side of the image, is larger than the limit.",
    RejectReason.MISSING_CAPTION: "There is an image, and no caption.",
    RejectReason.CAPTION_NOT_UTF8: "The caption is not UTF-8.",
    RejectReason.BAD_JSON: "The caption was to come from a .json that cannot be read.",
    RejectReason.HALF_SAMPLE: "There are files of a sample, and no image.",
    RejectReason.DUPLICATE_KEY: "The sample has the key of an earlier one of its shard.",
    RejectReason.CRASHED: "The sample ended every process that ran it, or kept it from going on.",
    RejectReason.BAD_HEADER: "The archive is damaged; it was read on at its next sound file.",
    RejectReason.NO_END_MARKER: "The archive ends without the mark of its end.",
    RejectReason.DATA_AFTER_END: "The archive goes on after the mark of its end.",
    RejectReason.CORRUPT_STREAM: "The archive's compression is damaged.",
}

SQL = f"""
SELECT reason, count(*) AS rejects,
    min({{shard: shard, "index": "index", key: key, message: message}}, {EXAMPLES}) AS examples
FROM rejects GROUP BY reason ORDER BY rejects DESC, reason
"""  # noqa: S608 - a number


def rejects_by_reason(run: OpenRun) -> list[dict[str, Any]]:
    """Per reason, the most frequent first: `reason`, its `meaning`, number of `rejects`, and `examples`.

    An example is shard, index, key and message; index and key are null where the archive itself is meant.
    """
    rows = run.sql(SQL).arrow().to_pylist()
    return [{**row, "meaning": MEANINGS.get(row["reason"], "")} for row in rows]
