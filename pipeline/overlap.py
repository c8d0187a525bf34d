"""How much of a caption is printed in its image: words shared by caption and spotted text, rates and areas.

The co-embedded text rate (CoTR) is Algorithm 1 of *Parrot Captions Teach CLIP to Spot Text* (Lin et al.,
2024) over normalised words; the algorithm to the letter and a fuzzy variant stand beside it.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from itertools import chain, pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import regex
import shapely
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from pipeline import polygons, schema
from pipeline.config import OverlapSettings
from pipeline.schema import SpotStatus, TextClass

MAX_FUZZY_LENGTH = 64
"""Characters; a longer word is compared exactly only. It bounds the cost of one comparison."""

# What is not seen must not tell words apart: soft hyphens, zero-width spaces, variation selectors.
_INVISIBLE = regex.compile(r"[\p{Cf}\p{Default_Ignorable_Code_Point}]+")
# unicodedata.normalize sorts a run of combining marks in quadratic time (80,000 marks: 3 s). Runs are cut at
# 30, as in Unicode's Stream-Safe Text Format (UAX 15); U+FF9E and U+FF9F are letters that decompose to marks.
_MARKS = regex.compile(r"([\p{M}\uFF9E\uFF9F]{30})[\p{M}\uFF9E\uFF9F]+")
# A word starts with a letter or number: marks alone, as of an emoji, are none.
_WORD = regex.compile(r"[\p{L}\p{N}][\p{L}\p{M}\p{N}]*")
_NUMBER = regex.compile(r"\p{N}")
_UNSPACED = regex.compile(
    r"[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}"
    r"\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}]"
)
_ASCII_BREAKS = {code: " " for code in range(128) if not chr(code).isalnum()}


class WordOverlap(NamedTuple):
    """The words of one caption against the spotted strings of its image."""

    caption_words: list[str]  # distinct, normalised, in caption order
    shared: list[str]  # those that were spotted, exactly
    similarity: list[float]  # of each caption word to the nearest spotted word; 1 where shared
    co_emb: list[bool]  # for each spotted string, whether any of its words is a caption word
    bounded: bool  # some words were compared exactly only, by `max_words` or MAX_FUZZY_LENGTH


def tokenize(text: str) -> list[str]:
    """The words of a text, in order and as often as they occur: NFKC, case-folded, invisible characters removed.

    Words are runs of letters, marks and numbers that start with no mark; the underscore and the apostrophe
    are punctuation. Linear in the text's length.
    """
    if text.isascii():
        if text.isalnum():  # most spotted strings
            return [text.lower()]
        return text.lower().translate(_ASCII_BREAKS).split()
    text = _MARKS.sub(r"\1", _INVISIBLE.sub("", text))
    # Case folding can undo composition, so it is normalised again (Unicode's definition D146).
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    words: list[str] = _WORD.findall(folded)
    return words


def normalize(text: str) -> list[str]:
    """The distinct words of a text, in order; see `tokenize`."""
    return list(dict.fromkeys(tokenize(text)))


def word_overlap(caption: str, texts: Sequence[str], settings: OverlapSettings) -> WordOverlap:
    """Compare a caption's words with the words of all spotted strings; one spotted word may serve several.

    Compared fuzzily are words of at least `min_fuzzy_length` characters without a digit, on both sides:
    "cat1" is near to nothing.
    """
    words = normalize(caption)
    known = set(words)
    found = [normalize(text) for text in texts]
    co_emb = [not known.isdisjoint(each) for each in found]
    spotted = dict.fromkeys(chain.from_iterable(found))  # a set that keeps its order
    similarity = {word: 1.0 if word in spotted else 0.0 for word in words}
    shared = [word for word in words if word in spotted]
    bounded = False
    if spotted and len(shared) < len(words):
        ours, ours_bounded = _fuzzy_words([word for word in words if word not in spotted], settings)
        theirs, theirs_bounded = _fuzzy_words(spotted, settings)
        bounded = ours_bounded or theirs_bounded
        for word in ours:
            best = process.extractOne(
                word, theirs, scorer=Levenshtein.normalized_similarity, score_cutoff=settings.floor
            )
            if best is not None:
                similarity[word] = best[1]
    return WordOverlap(words, shared, list(similarity.values()), co_emb, bounded)


def literal_rate(caption: str, text: str) -> float:
    """Algorithm 1 to the letter: shared whitespace tokens over those of the caption; 0 if it has none."""
    tokens = set(caption.split())
    return len(tokens.intersection(text.split())) / len(tokens) if tokens else 0.0


def has_unspaced_script(text: str) -> bool:
    """Whether any character is of a script written without spaces between words (Hangul is spaced)."""
    return not text.isascii() and _UNSPACED.search(text) is not None


def overlap(samples: pa.Table, spotted: pa.Table, settings: OverlapSettings) -> pa.Table:
    """The columns of `schema.OVERLAP` for every sample, from row-aligned samples and spotted text of a shard.

    A failed spotting leaves class, areas, spotted words and rates null. An image whose spotted strings hold
    no word ("--") still has text. Of the areas (see `pipeline.polygons`) the unions are at most 1;
    `co_emb_area` is a sum and may exceed it.

    Raises:
        ValueError: the tables are not aligned, a status contradicts its words, or an image has no size.
    """
    for column in (schema.SHARD.name, schema.INDEX.name):
        if not samples[column].equals(spotted[column]):
            raise ValueError(f"samples and spotted text are not row-aligned: {column} differs")
    image_area = _numpy(samples["width"]).astype(np.float64) * _numpy(samples["height"])
    if (image_area <= 0).any():
        raise ValueError("an image without width or height")
    status, text = spotted[schema.SPOT_STATUS.name], has_text(spotted[schema.SPOTTED.name])
    failed = ~_numpy(pc.is_in(status, pa.array([SpotStatus.OK.value, SpotStatus.SKIPPED.value])))
    if (failed != _numpy(pc.is_null(spotted[schema.SPOTTED.name]))).any():
        raise ValueError("spotted words must be null where, and only where, the spotter failed")
    if text[_numpy(pc.equal(status, SpotStatus.SKIPPED.value))].any():
        raise ValueError("an image that was skipped has spotted words")

    spottings = _flatten(spotted[schema.SPOTTED.name])
    ends = np.cumsum(spottings.counts).tolist()
    # Flat lists: a million small objects that live on would keep the garbage collector busy.
    caption_words: list[str] = []
    shared: list[str] = []
    similarities: list[float] = []
    co_emb_flags: list[bool] = []
    word_counts, shared_counts, literal, bounded = [], [], [], []
    caption_unspaced, text_unspaced = [], []
    for caption, (start, end) in zip(samples["caption"].to_pylist(), pairwise([0, *ends]), strict=True):
        texts = spottings.texts[start:end]
        joined = " ".join(texts)
        words = word_overlap(caption, texts, settings)
        caption_words += words.caption_words
        shared += words.shared
        similarities += words.similarity
        co_emb_flags += words.co_emb
        word_counts.append(len(words.caption_words))
        shared_counts.append(len(words.shared))
        bounded.append(words.bounded)
        literal.append(literal_rate(caption, joined))
        caption_unspaced.append(has_unspaced_script(caption))
        text_unspaced.append(has_unspaced_script(joined))

    words_of = np.array(word_counts, dtype=np.int64)
    shared_of = np.array(shared_counts, dtype=np.int64)
    similarity = np.array(similarities, dtype=np.float32)
    # Compared as stored, in float32, so that a sweep over the stored similarities gives this very rate.
    hits = np.concatenate([[0], np.cumsum(similarity >= np.float32(settings.threshold))])
    last = np.cumsum(words_of)
    fuzzy_of = hits[last] - hits[last - words_of]
    words_or_one = np.maximum(words_of, 1)

    geometries = polygons.polygons(spottings.points, spottings.offsets)
    owner = np.repeat(np.arange(len(samples)), spottings.counts)
    word_area = shapely.area(geometries) / image_area[owner]
    co_emb = np.array(co_emb_flags, dtype=bool)
    every, shown = (geometries, owner), (geometries[co_emb], owner[co_emb])
    text_area = polygons.union_area(*every, len(samples)) / image_area
    co_emb_area = polygons.sum_area(*shown, len(samples)) / image_area
    co_emb_union = polygons.union_area(*shown, len(samples)) / image_area
    text_class = np.where(shared_of > 0, TextClass.CO_EMB, TextClass.TEXT)
    text_class = np.where(text, text_class, TextClass.NONE)

    strings, floats = pa.string(), pa.float32()
    columns = {
        "text_class": pa.array(text_class.tolist(), strings, mask=failed),
        "text_area": pa.array(np.minimum(text_area, 1), floats, mask=failed),
        "spotted_area": _lists(word_area, spottings.counts, floats, failed),
        "spotted_co_emb": _lists(co_emb, spottings.counts, pa.bool_(), failed),
        "co_emb_words": _lists(shared, shared_of, strings, failed),
        "co_emb_area": pa.array(co_emb_area, floats, mask=failed),
        "co_emb_area_union": pa.array(np.minimum(co_emb_union, 1), floats, mask=failed),
        "caption_words": _lists(caption_words, words_of, strings),
        "word_similarity": _lists(similarity, words_of, floats, failed),
        "cotr": pa.array(shared_of / words_or_one, floats, mask=failed),
        "cotr_literal": pa.array(literal, floats, mask=failed),
        "fuzzy_cotr": pa.array(fuzzy_of / words_or_one, floats, mask=failed),
        "caption_wordless": pa.array(words_of == 0),
        "caption_unspaced": pa.array(caption_unspaced, pa.bool_()),
        "text_unspaced": pa.array(text_unspaced, pa.bool_(), mask=failed),
        "overlap_bounded": pa.array(bounded, pa.bool_()),
    }
    return pa.table(columns, schema.arrow(schema.OVERLAP))


def has_text(spotted: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Whether each image, (n,), has embedded text: anything was spotted in it; false where the spotter failed."""
    return np.asarray(_numpy(pc.fill_null(pc.greater(pc.list_value_length(spotted), 0), False)), bool)


class _Spottings(NamedTuple):
    """The spotted words of a shard, flattened."""

    counts: npt.NDArray[np.int64]  # (samples,), words of each; 0 where the spotter failed
    texts: list[str]  # (words,)
    offsets: npt.NDArray[np.int64]  # (words + 1,), into points
    points: npt.NDArray[np.float64]  # (points, 2), x and y in pixels


def _flatten(spotted: pa.ChunkedArray) -> _Spottings:
    lists = spotted.combine_chunks()
    words = lists.flatten()
    outlines = pc.struct_field(words, "polygon")
    points = outlines.flatten()
    xy = [_numpy(pc.struct_field(points, axis)) for axis in ("x", "y")]
    sizes = _numpy(pc.list_value_length(outlines))
    return _Spottings(
        counts=_numpy(pc.fill_null(pc.list_value_length(lists), 0)).astype(np.int64),
        texts=pc.struct_field(words, "text").to_pylist(),
        offsets=np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]),
        points=np.stack(xy, axis=1).astype(np.float64),
    )


def _numpy(values: pa.Array | pa.ChunkedArray) -> npt.NDArray[Any]:
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    return np.asarray(array.to_numpy(zero_copy_only=False))


def _lists(
    values: list[str] | npt.NDArray[Any],
    sizes: npt.NDArray[np.int64],
    kind: pa.DataType,
    missing: npt.NDArray[np.bool_] | None = None,
) -> pa.ListArray:
    """A list array of consecutive runs of `values`; null where `missing`."""
    offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]), pa.int32())
    type_ = pa.list_(pa.field("element", kind, False))
    mask = None if missing is None else pa.array(missing)
    return pa.ListArray.from_arrays(offsets, pa.array(values, kind), type=type_, mask=mask)


def _fuzzy_words(words: Iterable[str], settings: OverlapSettings) -> tuple[list[str], bool]:
    """The words that are compared fuzzily, and whether limits left out some that would be."""
    fit = [
        word
        for word in words
        if len(word) >= settings.min_fuzzy_length and (word.isalpha() or not _NUMBER.search(word))
    ]
    taken = [word for word in fit if len(word) <= MAX_FUZZY_LENGTH][: settings.max_words]
    return taken, len(taken) < len(fit)
