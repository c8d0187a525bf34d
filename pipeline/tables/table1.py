"""Table 1 of *Parrot Captions Teach CLIP to Spot Text*: how many images hold text, and how much of the captions.

A co-embedded text rate (CoTR) is averaged in two ways: over images (macro: every image counts the same, one
without text 0; the way of the paper's LAION-2B) and over words (micro: the distinct caption words of all images
pooled). Images whose spotting failed are in no rate, and their number is shown.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.dataset as ds

from pipeline.schema import SpotStatus, TextClass
from pipeline.tables.connection import connected, select

SQL = """
SELECT
    count(*)                                                                        AS images,
    count(*) FILTER (spot_status IN ($ok, $skipped))                                AS measured,
    count(*) FILTER (text_class <> $none)                                           AS with_text,
    count(*) FILTER (cotr > 0)                                                      AS with_co_emb,
    count(*) FILTER (spot_status = $failed)                                         AS spot_failed,
    count(*) FILTER (spot_status = $skipped)                                        AS spot_skipped,
    count(*) FILTER (text_class = $none)                                            AS class_none,
    count(*) FILTER (text_class = $text)                                            AS class_text,
    count(*) FILTER (text_class = $co_emb)                                          AS class_co_emb,
    avg(cotr)                                                                       AS cotr_macro,
    avg(cotr) FILTER (text_class <> $none)                                          AS cotr_macro_in_text,
    avg(fuzzy_cotr)                                                                 AS fuzzy_macro,
    avg(fuzzy_cotr) FILTER (text_class <> $none)                                    AS fuzzy_macro_in_text,
    avg(cotr_literal)                                                               AS literal_macro,
    coalesce(sum(round(cotr::DOUBLE * len(word_similarity))), 0)::BIGINT            AS co_emb_words,
    coalesce(sum(round(fuzzy_cotr::DOUBLE * len(word_similarity))), 0)::BIGINT      AS fuzzy_words,
    coalesce(sum(len(word_similarity)) FILTER (spot_status IN ($ok, $skipped)), 0)::BIGINT AS caption_words,
    coalesce(sum(len(word_similarity)) FILTER (text_class <> $none), 0)::BIGINT     AS caption_words_in_text,
    count(*) FILTER (caption_wordless)                                              AS caption_wordless,
    count(*) FILTER (caption_unspaced)                                              AS caption_unspaced,
    count(*) FILTER (text_unspaced)                                                 AS text_unspaced
FROM profiles
"""
"""Words are counted by their similarities: lists of numbers are read eight times as fast as the words themselves."""


class IdentityError(ValueError):
    """A table contradicts itself: the profiles it was made from are wrong."""


@dataclass(frozen=True)
class ImageCounts:
    """Images by their embedded text, and the shares that follow; a share of nothing is None."""

    images: int
    measured: int
    """Images whose spotting did not fail: the denominator of every share and rate. Those that a text gate skipped are
    among them, as images without text."""
    with_text: int
    with_co_emb: int | None
    """Images with a CoTR above 0; None: not published."""

    @property
    def without_text_share(self) -> float | None:
        return _ratio(self.measured - self.with_text, self.measured)

    @property
    def other_text_share(self) -> float | None:
        """Of images with text of which no word stands in the caption."""
        return None if self.with_co_emb is None else _ratio(self.with_text - self.with_co_emb, self.measured)

    @property
    def text_share(self) -> float | None:
        return _ratio(self.with_text, self.measured)

    @property
    def co_emb_share(self) -> float | None:
        return _ratio(self.with_co_emb, self.measured)

    @property
    def co_emb_share_of_text(self) -> float | None:
        return _ratio(self.with_co_emb, self.with_text)


@dataclass(frozen=True)
class Table1(ImageCounts):
    """Table 1 of a set of profiles. Rates are in [0, 1], None over no images; words are distinct per caption."""

    with_co_emb: int
    spot_failed: int
    spot_skipped: int
    class_none: int
    class_text: int
    class_co_emb: int
    cotr_macro: float | None
    cotr_macro_in_text: float | None
    fuzzy_macro: float | None
    fuzzy_macro_in_text: float | None
    literal_macro: float | None
    co_emb_words: int
    """Caption words that were spotted, exactly."""
    fuzzy_words: int
    """Caption words that were spotted, by the profiles' fuzzy threshold."""
    caption_words: int
    caption_words_in_text: int
    """Words of the captions of images with text."""
    caption_wordless: int
    caption_unspaced: int
    text_unspaced: int

    @property
    def cotr_micro(self) -> float | None:
        return _ratio(self.co_emb_words, self.caption_words)

    @property
    def cotr_micro_in_text(self) -> float | None:
        return _ratio(self.co_emb_words, self.caption_words_in_text)

    @property
    def fuzzy_micro(self) -> float | None:
        return _ratio(self.fuzzy_words, self.caption_words)

    @property
    def fuzzy_micro_in_text(self) -> float | None:
        return _ratio(self.fuzzy_words, self.caption_words_in_text)


def table1(profiles: ds.Dataset | pa.Table) -> Table1:
    """Compute Table 1 of profiles (spot_status and the columns of `schema.OVERLAP` are read).

    Without word_similarity, as in the demo's truth, caption_words are counted in its place.
    """
    values = {**{status.value: status.value for status in SpotStatus}, **{c.value: c.value for c in TextClass}}
    with connected(profiles) as connection:
        sql = SQL if "word_similarity" in profiles.schema.names else SQL.replace("word_similarity", "caption_words")
        (row,) = select(connection, sql, values).to_pylist()
    return Table1(**row)


def check_identities(table: Table1) -> list[str]:
    """The identities that hold in a table of sound profiles, as sentences; IdentityError names those broken."""
    checked = dict(_identities(table))
    if broken := [sentence for sentence, holds in checked.items() if not holds]:
        raise IdentityError(f"Table 1 contradicts itself: not so that {'; not so that '.join(broken)}. {table}")
    return list(checked)


def _identities(t: Table1) -> Iterator[tuple[str, bool]]:
    yield "images = measured + failed", t.images == t.measured + t.spot_failed
    yield "measured = none + text + co_emb", t.measured == t.class_none + t.class_text + t.class_co_emb
    yield "images that a gate skipped are among none", t.spot_skipped <= t.class_none
    yield "images with text = text + co_emb", t.with_text == t.class_text + t.class_co_emb
    yield "images with a CoTR above 0 = co_emb", t.with_co_emb == t.class_co_emb
    yield "images with co-embedded text are among those with text", t.with_co_emb <= t.with_text
    pairs = (("CoTR", t.cotr_macro, t.cotr_macro_in_text), ("fuzzy CoTR", t.fuzzy_macro, t.fuzzy_macro_in_text))
    for name, overall, in_text in pairs:
        expected = (in_text or 0) * (t.text_share or 0)
        # Sums of float32 values in float64, in whatever order DuckDB adds them.
        yield f"{name} of all = {name} of images with text x their share", abs((overall or 0) - expected) < 1e-9
    yield "fuzzy CoTR >= CoTR", (t.fuzzy_macro or 0) >= (t.cotr_macro or 0) - 1e-9
    words = (0, t.co_emb_words, t.fuzzy_words, t.caption_words_in_text, t.caption_words)
    yield "words: co-embedded <= fuzzily <= of images with text <= all", list(words) == sorted(words)
    rates = (getattr(t, name) for _, name, unit in ROWS if unit == "%")
    yield "rates are in [0, 1]", all(rate is None or 0 <= rate <= 1 for rate in rates)


ROWS = (
    ("Images", "images", ""),
    ("Spotting failed (in no share or rate)", "spot_failed", ""),
    ("Skipped by the text gate (as without text)", "spot_skipped", ""),
    ("Images with embedded text", "with_text", ""),
    ("Images with co-embedded text", "with_co_emb", ""),
    ("Share of images without text", "without_text_share", "%"),
    ("Share of images with text, none in the caption", "other_text_share", "%"),
    ("Share of images with co-embedded text", "co_emb_share", "%"),
    ("Share of images with embedded text", "text_share", "%"),
    ("Co-embedded among images with text", "co_emb_share_of_text", "%"),
    ("CoTR, mean of all images", "cotr_macro", "%"),
    ("CoTR, mean of images with text", "cotr_macro_in_text", "%"),
    ("Fuzzy CoTR, mean of all images", "fuzzy_macro", "%"),
    ("Fuzzy CoTR, mean of images with text", "fuzzy_macro_in_text", "%"),
    ("CoTR, words of all images", "cotr_micro", "%"),
    ("CoTR, words of images with text", "cotr_micro_in_text", "%"),
    ("Fuzzy CoTR, words of all images", "fuzzy_micro", "%"),
    ("Fuzzy CoTR, words of images with text", "fuzzy_micro_in_text", "%"),
    ("CoTR by Algorithm 1 to the letter, mean of all", "literal_macro", "%"),
    ("Captions without a word", "caption_wordless", ""),
    ("Captions in a script without spaces", "caption_unspaced", ""),
    ("Images with text in a script without spaces", "text_unspaced", ""),
)
"""Label, attribute and unit of every row, in order."""


def rows(table: ImageCounts) -> list[tuple[str, str]]:
    """Label and formatted value of every row; what a published table does not say is a dash."""
    return [(label, formatted(getattr(table, name, None), unit)) for label, name, unit in ROWS]


def formatted(value: float | None, unit: str) -> str:
    """A value of a row for people: a percentage, a count, or a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:.2%}" if unit == "%" else f"{value:,.0f}"


def _ratio(part: float | None, whole: float) -> float | None:
    return None if part is None or not whole else part / whole
