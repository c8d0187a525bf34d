"""Every column, status and reject reason of a run: name, type, unit and meaning. The only source of them.

Writers, readers, SQL, documentation and tests take names and types from here. A dataset is a tuple of
columns; datasets of a run are row-aligned on (`shard`, `index`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa

VERSION = 2


class RejectReason(StrEnum):
    """Why something in a shard could not be used. The list is closed."""

    # One sample group.
    TRUNCATED = "truncated"  # the archive ends inside the sample
    UNDECODABLE_IMAGE = "undecodable_image"
    DECOMPRESSION_BOMB = "decompression_bomb"  # more pixels than the limit, known before decoding
    ABSURD_SIZE = "absurd_size"  # a member or an image side beyond the limit
    MISSING_CAPTION = "missing_caption"  # an image, but no caption in .txt or .json
    CAPTION_NOT_UTF8 = "caption_not_utf8"
    BAD_JSON = "bad_json"  # the caption had to come from a .json that does not parse
    HALF_SAMPLE = "half_sample"  # members of a sample, but no image
    DUPLICATE_KEY = "duplicate_key"  # the key was already used in this shard
    CRASHED = "crashed"  # it ended every process that ran it, or kept it from going on
    # The archive itself: `index` and `key` are null.
    BAD_HEADER = "bad_header"
    NO_END_MARKER = "no_end_marker"
    DATA_AFTER_END = "data_after_end"
    CORRUPT_STREAM = "corrupt_stream"  # the compressed stream is damaged


class ClipStatus(StrEnum):
    """Whether a sample has embeddings: imported ones may not be there, computed ones are `ok` or `failed`."""

    OK = "ok"
    MISSING = "missing"  # the import has no row for the sample
    AMBIGUOUS = "ambiguous"  # the import has several rows of the sample's key
    MISMATCH = "mismatch"  # the import's row of that key has another caption
    INVALID = "invalid"  # the import's image embedding is zero or not finite
    FAILED = "failed"  # the sample, a row since an earlier pass, ends the process that embeds it


class SpotStatus(StrEnum):
    """Outcome of the text spotter on one image."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"  # a text gate held text for very unlikely: it was not looked for


class TextClass(StrEnum):
    """Class of an image by its embedded text (Parrot Captions, section 1.7 and Figure 3a)."""

    NONE = "none"
    TEXT = "text"
    CO_EMB = "co_emb"


class MetadataStatus(StrEnum):
    """Outcome of reading the sample's json."""

    OK = "ok"
    ABSENT = "absent"
    INVALID = "invalid"  # not an object, not JSON, or too large
    MISMATCH = "mismatch"  # at least one kept key could not be read as its type; that value is null


@dataclass(frozen=True)
class Column:
    """One column: Arrow type, unit and meaning, and whether a null is allowed."""

    name: str
    type: pa.DataType
    unit: str
    meaning: str
    nullable: bool = False


POINT = pa.struct([pa.field("x", pa.int16(), False), pa.field("y", pa.int16(), False)])
WORD = pa.struct(
    [
        pa.field("text", pa.string(), False),
        pa.field("confidence", pa.float32(), False),
        pa.field("polygon", pa.list_(pa.field("element", POINT, False)), False),
    ]
)


def _list(value: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("element", value, False))


SHARD = Column("shard", pa.string(), "", "shard id: the path below the shards' root, as a safe file name")
INDEX = Column("index", pa.int32(), "", "position of the sample group in the shard, rejects included")
KEY = Column("key", pa.string(), "", "webdataset key: the member name up to the first dot of its base name")
UID = Column("uid", pa.string(), "hex", "128-bit id: DataComp's own, else blake2b of (shard, index, key)")
CLIP_STATUS = Column("clip_status", pa.string(), "", "ok; else why there is no embedding that could be used")
CLIP_SCORE = Column(
    "clip_score",
    pa.float32(),
    "cosine",
    "cosine of image and text embedding, not scaled; null: no embedding",
    nullable=True,
)
CAPTION_TRUNCATED = Column(
    "caption_truncated",
    pa.bool_(),
    "",
    "the caption has more tokens than CLIP's context: its end is unseen; null: not computed here",
    nullable=True,
)
IMAGE_EMBEDDING = "image_embedding"
TEXT_EMBEDDING = "text_embedding"
SPOT_STATUS = Column(
    "spot_status",
    pa.string(),
    "",
    "ok; failed: words, class and rates are null; skipped: the text gate held text for very unlikely, so no words",
)
SPOTTED = Column(
    "spotted",
    _list(WORD),
    "pixels",
    "spotted words: text, confidence in [0, 1], polygon of whole pixels in the decoded, EXIF-oriented image",
    nullable=True,
)
SPOT_MESSAGE = Column("spot_message", pa.string(), "", "why the spotter failed", nullable=True)
CAPTION = Column("caption", pa.string(), "", "the caption as it stands in the .txt, else in the .json")
URL = Column("url", pa.string(), "", "where the image came from, by the sample's json", nullable=True)

SHARDS = (
    SHARD,
    Column("source", pa.string(), "", "URL of the tar"),
    Column("size", pa.int64(), "bytes", "size of the object when the run first saw it", nullable=True),
    Column("etag", pa.string(), "", "etag on an object store; modification time elsewhere", nullable=True),
    Column("sampled", pa.bool_(), "", "the run reads it; false: left out by input.sample_shards"),
)

IDENTITY = (SHARD, INDEX, KEY, UID)
IDENTITY_NAMES = [column.name for column in IDENTITY]

SAMPLES = (
    *IDENTITY,
    URL,
    CAPTION,
    Column("width", pa.int32(), "pixels", "width of the decoded, EXIF-oriented image"),
    Column("height", pa.int32(), "pixels", "height of the decoded, EXIF-oriented image"),
    Column("image_format", pa.string(), "", "JPEG, PNG or WEBP, by the bytes, not by the name"),
    Column("image_offset", pa.int64(), "bytes", "offset of the image's bytes in the (decompressed) tar"),
    Column("image_size", pa.int64(), "bytes", "length of the image's bytes"),
    Column("metadata_status", pa.string(), "", "ok, absent, invalid or mismatch: how the json was read"),
)

REJECTS = (
    SHARD,
    Column("index", pa.int32(), "", "index of the sample group; null: the archive itself", nullable=True),
    Column("key", pa.string(), "", "key of the sample group; null: the archive itself", nullable=True),
    Column("reason", pa.string(), "", "one of a closed list of reasons"),
    Column("message", pa.string(), "", "what was found, in a sentence"),
    Column("offset", pa.int64(), "bytes", "where in the (decompressed) tar"),
)


VECTOR_TYPES: Mapping[str, pa.DataType] = {"float16": pa.float16(), "float32": pa.float32()}


def embeddings(dim: int, stored_as: str = "float16") -> tuple[Column, ...]:
    """Columns of an embeddings dataset of `dim` dimensions, its numbers of one of `VECTOR_TYPES`."""
    vector = pa.list_(pa.field("element", VECTOR_TYPES[stored_as], False), dim)
    return (
        *IDENTITY,
        CLIP_STATUS,
        CLIP_SCORE,
        CAPTION_TRUNCATED,
        Column(IMAGE_EMBEDDING, vector, "", "CLIP image embedding, L2-normalised in float32", nullable=True),
        Column(TEXT_EMBEDDING, vector, "", "CLIP text embedding, L2-normalised in float32", nullable=True),
    )


SPOTTED_TEXT = (*IDENTITY, SPOT_STATUS, SPOT_MESSAGE, SPOTTED)

OVERLAP = (
    Column("text_class", pa.string(), "", "none (no text), text (none in the caption), co_emb", nullable=True),
    Column("text_area", pa.float32(), "fraction", "union of the word polygons over the image area", nullable=True),
    Column(
        "spotted_area",
        _list(pa.float32()),
        "fraction",
        "for each of `spotted` the area of its polygon over the image area",
        nullable=True,
    ),
    Column(
        "spotted_co_emb",
        _list(pa.bool_()),
        "",
        "for each of `spotted` whether it holds a caption word (exact), normalised",
        nullable=True,
    ),
    Column(
        "co_emb_words",
        _list(pa.string()),
        "",
        "distinct caption words that were spotted (exact), normalised, in caption order",
        nullable=True,
    ),
    Column(
        "co_emb_area",
        pa.float32(),
        "fraction",
        "sum of the polygon areas of co-embedded words over the image area (the paper's: overlaps count twice)",
        nullable=True,
    ),
    Column(
        "co_emb_area_union",
        pa.float32(),
        "fraction",
        "union of the polygons of co-embedded words over the image area",
        nullable=True,
    ),
    Column("caption_words", _list(pa.string()), "", "distinct normalised caption words, in caption order"),
    Column(
        "word_similarity",
        _list(pa.float32()),
        "[0, 1]",
        "for each caption word its best Levenshtein similarity to a spotted word; 0 below the floor",
        nullable=True,
    ),
    Column(
        "cotr",
        pa.float32(),
        "[0, 1]",
        "co-embedded text rate: distinct caption words spotted over distinct caption words",
        nullable=True,
    ),
    Column(
        "cotr_literal",
        pa.float32(),
        "[0, 1]",
        "Algorithm 1 to the letter: whitespace tokens, case and punctuation kept",
        nullable=True,
    ),
    Column(
        "fuzzy_cotr",
        pa.float32(),
        "[0, 1]",
        "as cotr, a word counting from the fuzzy threshold of similarity",
        nullable=True,
    ),
    Column("caption_wordless", pa.bool_(), "", "the caption has no word: its rates are 0"),
    Column("caption_unspaced", pa.bool_(), "", "the caption has a script written without spaces"),
    Column(
        "text_unspaced",
        pa.bool_(),
        "",
        "the spotted text has a script written without spaces",
        nullable=True,
    ),
    Column(
        "overlap_bounded",
        pa.bool_(),
        "",
        "more words than the limit: those beyond it were compared exactly only",
    ),
)

CLUSTER_ID = Column("cluster_id", pa.int32(), "", "nearest centroid; null: no embedding", nullable=True)
CLUSTER = (
    CLUSTER_ID,
    Column("cluster_distance", pa.float32(), "", "L2 distance to that centroid in PCA space", nullable=True),
)


def _without(columns: Iterable[Column], *others: Iterable[Column]) -> tuple[Column, ...]:
    taken = {column.name for other in others for column in other}
    return tuple(column for column in columns if column.name not in taken)


PROFILES = (
    *SAMPLES,
    CLIP_STATUS,
    CLIP_SCORE,
    CAPTION_TRUNCATED,
    *_without(SPOTTED_TEXT, IDENTITY),
    *OVERLAP,
    *CLUSTER,
)

CLUSTER_PERCENTILE = Column(
    "cluster_percentile",
    pa.float64(),
    "[0, 1]",
    "share of the cluster's scores at or below this one, by bins of 0.001; null: no score or no cluster",
    nullable=True,
)
"""Of the view of profiles only: it depends on all rows of a cluster, so no part can hold it."""

WORDS = (
    SHARD,
    INDEX,
    UID,
    Column("position", pa.int64(), "", "position of the word in `spotted`, from 1"),
    Column("text", pa.string(), "", "the word as it was spotted"),
    Column("confidence", pa.float32(), "[0, 1]", "the spotter's"),
    Column("polygon", WORD.field("polygon").type, "pixels", "its outline"),
    Column("area", pa.float32(), "fraction", "area of the polygon over the image area"),
    Column("co_emb", pa.bool_(), "", "it holds a caption word (exact), normalised"),
    Column("text_class", pa.string(), "", "class of its image: text or co_emb"),
    CLUSTER_ID,
)
"""View of one row per spotted word."""

CLUSTERS = (
    Column("cluster_id", pa.int32(), "", "clusters without a sample have no row"),
    Column("images", pa.int64(), "", "its size: all samples, those whose spotting failed included"),
    Column("measured", pa.int64(), "", "samples whose spotting did not fail: the denominator of shares and rates"),
    Column("text_share", pa.float64(), "[0, 1]", "share of images with embedded text", nullable=True),
    Column("co_emb_share", pa.float64(), "[0, 1]", "share of images with co-embedded text", nullable=True),
    Column("mean_cotr", pa.float64(), "[0, 1]", "mean CoTR of the images", nullable=True),
    Column("mean_fuzzy_cotr", pa.float64(), "[0, 1]", "mean fuzzy CoTR of the images", nullable=True),
    Column(
        "mean_clip_score", pa.float64(), "cosine", "mean CLIP score; one that is no number is left out", nullable=True
    ),
    Column("mean_distance", pa.float64(), "", "mean L2 distance to the centroid in PCA space"),
)
"""View of one row per cluster."""

METADATA_TYPES: Mapping[str, pa.DataType] = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
}


def metadata_columns(keys: Mapping[str, str]) -> tuple[Column, ...]:
    """Columns of the json keys a run keeps: key → type name of METADATA_TYPES."""
    return tuple(
        Column(key, METADATA_TYPES[kind], "", "kept from the sample's json", nullable=True)
        for key, kind in keys.items()
    )


def arrow(columns: Iterable[Column]) -> pa.Schema:
    """The Arrow schema of a dataset, unit and meaning as field metadata."""
    return pa.schema([pa.field(c.name, c.type, c.nullable, {"unit": c.unit, "meaning": c.meaning}) for c in columns])
