import time
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import overlap as module
from pipeline import schema
from pipeline.config import OverlapSettings
from pipeline.overlap import has_unspaced_script, literal_rate, normalize, overlap, word_overlap
from tests.benchmarks.overlap import distance

DEFAULT = OverlapSettings()
BOX = [(0, 0), (10, 0), (10, 10), (0, 10)]


def _tables(*rows: tuple[str, list | None], width: int = 100, height: int = 50) -> tuple[pa.Table, pa.Table]:
    """Samples and spotted text of (caption, spotted) rows; spotted are strings or (string, polygon); None fails."""

    def word(value) -> dict:
        text, polygon = (value, BOX) if isinstance(value, str) else value
        return {"text": text, "confidence": 0.9, "polygon": [{"x": x, "y": y} for x, y in polygon]}

    def table(columns, rows) -> pa.Table:
        fields = [field for field in schema.arrow(columns) if field.name in rows[0]]
        return pa.Table.from_pylist(rows, schema=pa.schema(fields))

    samples = [
        {"shard": "s", "index": i, "caption": caption, "width": width, "height": height}
        for i, (caption, _) in enumerate(rows)
    ]
    spotted = [
        {
            "shard": "s",
            "index": i,
            "spot_status": "failed" if words is None else "ok",
            "spotted": None if words is None else [word(value) for value in words],
        }
        for i, (_, words) in enumerate(rows)
    ]
    return table(schema.SAMPLES, samples), table(schema.SPOTTED_TEXT, spotted)


def _rows(*rows: tuple[str, list | None], settings: OverlapSettings = DEFAULT) -> list[dict]:
    result = overlap(*_tables(*rows), settings)
    assert result.schema.equals(schema.arrow(schema.OVERLAP), check_metadata=True)
    result.validate(full=True)
    return result.to_pylist()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("  -- ! … ", []),
        ("The cat, THE Cat", ["the", "cat"]),
        ("how-to_make don't 11/16/2012", ["how", "to", "make", "don", "t", "11", "16", "2012"]),
        ("Straße STRASSE", ["strasse"]),
        ("ﬁne Ｃａｆé CAFE\u0301", ["fine", "café"]),
        ("co\u00adop\u200berate", ["cooperate"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("क\u094dष क\u094d\u200dष", ["क्ष"]),  # a joiner is not seen
        ("Ϊ\u0301 ΐ", ["ΐ"]),  # equal only if normalised again after folding
        ("❤\ufe0f ☺\u20dd", []),  # an emoji's marks are no words
        ("a\x00b", ["a", "b"]),
        ("שלום, עולם", ["שלום", "עולם"]),
        ("東京タワー 1958年", ["東京タワー", "1958年"]),
        ("x² ½", ["x2", "1", "2"]),
    ],
)
def test_normalize(text, words):
    assert normalize(text) == words


@given(st.text(st.characters(max_codepoint=127)))
@settings(derandomize=True, max_examples=200, deadline=None)
def test_the_fast_way_of_ascii_equals_the_way_of_all(text):
    # U+00E9 sends the text the other way; it stands apart as the last word.
    assert [*normalize(text), "é"] == normalize(text + " é")


@given(st.text())
@settings(derandomize=True, max_examples=500, deadline=None)
def test_a_normalised_word_stays_as_it_is(text):
    for word in normalize(text):
        assert normalize(word) == [word]


def test_every_letter_that_decomposes_to_a_mark_counts_as_one_in_the_cutting_of_runs():
    leading = [
        chr(code) for code in range(0x110000) if unicodedata.combining(unicodedata.normalize("NFKD", chr(code))[0])
    ]
    assert len(leading) > 800
    assert all(regex.fullmatch(r"[\p{M}\uFF9E\uFF9F]", character) for character in leading)


@pytest.mark.parametrize(
    ("caption", "texts", "cotr", "shared"),
    [
        # Table 16 of the paper, ids 21 and 3: the second has "Small" twice, 11 distinct words.
        ("Be Mine Wall Clock", ["be", "mine"], 0.5, ["be", "mine"]),
        (
            "Denver Broncos Carbon Small Over Small Metal Acrylic Cut License Plate Frame",
            ["BRONCOS", "DENVER"],
            2 / 11,
            ["denver", "broncos"],
        ),
        ("how-to-make-bubbles-that-bounce", ["HOW TO MAKE", "bubbles that", "BOUNCE!"], 1, None),
        ("Yes: Rhimes vs me", ["YES", "Rhimes.", "VS."], 0.75, ["yes", "rhimes", "vs"]),
        ("a cat", [], 0, []),
        ("a cat", ["dog"], 0, []),
        ("", ["dog"], 0, []),
    ],
)
def test_cotr(caption, texts, cotr, shared):
    (row,) = _rows((caption, texts))
    assert row["cotr"] == pytest.approx(cotr)
    assert row["co_emb_words"] == (row["caption_words"] if shared is None else shared)


@pytest.mark.parametrize(
    ("caption", "text", "rate"),
    [
        ("The cat. The end", "The end", 2 / 3),
        ("The cat.", "the cat", 0),
        ("cat cat dog", "cat", 0.5),
        ("", "cat", 0),
        (" \t", "", 0),
    ],
)
def test_literal_rate_keeps_case_and_punctuation(caption, text, rate):
    assert literal_rate(caption, text) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("word", "spotted", "similarity"),
    [
        ("christmas", "chrismas", 8 / 9),
        ("kitten", "sitting", 4 / 7),
        ("abcd", "abxx", 0.5),  # the floor is within
        ("abcde", "abxxx", 0),  # 0.4: below the floor
        ("cat", "cut", 0),  # short
        ("cats", "cat", 0),  # the spotted word is short
        ("2012", "2013", 0),
        ("cat1", "cats", 0),
        ("cats", "cat1", 0),
        ("२०१२अ", "२०१२आ", 0),  # digits of another script
        ("हिन्दी", "हिन्दि", 5 / 6),
        ("cat", "cat", 1),
        ("x" * 64, "x" * 60, 60 / 64),
    ],
)
def test_similarity_of_one_word(word, spotted, similarity):
    assert word_overlap(word, [spotted], DEFAULT).similarity == [pytest.approx(similarity)]


def test_a_spotted_word_may_serve_several_caption_words_and_the_threshold_is_within():
    (row,) = _rows(("Hallo hello jello abcd abcde", ["hello", "abce"]))
    assert row["word_similarity"] == pytest.approx([0.8, 1, 0.8, 0.75, 0.8])
    assert row["fuzzy_cotr"] == 1
    assert row["cotr"] == pytest.approx(0.2)


def test_a_sweep_over_stored_similarities_gives_the_rate_of_every_threshold():
    row = ("abcdefghij klmnopqrst uvwxyzabcd", ["abcdefgxxx", "klmnopqrsx", "uvwxyzaxxx"])
    stored = np.array(_rows(row)[0]["word_similarity"], dtype=np.float32)
    assert stored.tolist() == pytest.approx([0.7, 0.9, 0.7])
    for threshold in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        (swept,) = _rows(row, settings=OverlapSettings(threshold=threshold))
        assert swept["fuzzy_cotr"] == pytest.approx(np.mean(stored >= np.float32(threshold)))


def _reference(caption: str, texts: list[str]) -> tuple[list[str], list[str], list[float]]:
    """Words, shared words and similarities, word by word from the definitions."""

    def words(text: str) -> list[str]:
        found: list[str] = []
        for word in "".join(c if c.isalnum() else " " for c in text.lower()).split():
            if word not in found:
                found.append(word)
        return found

    spotted = words(" ".join(texts))
    similarities = []
    for word in words(caption):
        best = 1.0 if word in spotted else 0.0
        for other in spotted:
            plain = not any(c.isdigit() for c in word + other)
            if min(len(word), len(other)) >= 4 and plain:
                best = max(best, 1 - distance(word, other) / max(len(word), len(other)))
        similarities.append(best if best >= 0.5 else 0.0)
    return words(caption), [word for word in words(caption) if word in spotted], similarities


_TEXTS = st.lists(st.text("abcAB1 -.", max_size=14), max_size=6)


@given(caption=st.text("abcAB1 -.", max_size=60), texts=_TEXTS)
@settings(derandomize=True, max_examples=300, deadline=None)
def test_columns_equal_a_slow_literal_reference(caption, texts):
    words, shared, similarities = _reference(caption, texts)
    (row,) = _rows((caption, texts))
    count = max(len(words), 1)
    assert row["caption_words"] == words
    assert row["co_emb_words"] == shared
    assert row["word_similarity"] == pytest.approx(similarities)
    assert row["cotr"] == pytest.approx(len(shared) / count)
    assert row["fuzzy_cotr"] == pytest.approx(sum(s >= 0.75 for s in similarities) / count)
    assert row["fuzzy_cotr"] >= row["cotr"]
    assert row["caption_wordless"] == (not words)
    assert row["text_class"] == ("none" if not texts else "co_emb" if shared else "text")
    assert not row["overlap_bounded"]


def test_a_failed_spotting_has_a_caption_and_nothing_else():
    (row,) = _rows(("A cat", None))
    present = {name: value for name, value in row.items() if value is not None}
    assert present == {
        "caption_words": ["a", "cat"],
        "caption_wordless": False,
        "caption_unspaced": False,
        "overlap_bounded": False,
    }


def test_an_image_without_text_has_zeros_not_nulls():
    (row,) = _rows(("A cat", []))
    assert row == {
        "text_class": "none",
        "text_area": 0,
        "spotted_area": [],
        "spotted_co_emb": [],
        "co_emb_words": [],
        "co_emb_area": 0,
        "co_emb_area_union": 0,
        "caption_words": ["a", "cat"],
        "word_similarity": [0, 0],
        "cotr": 0,
        "cotr_literal": 0,
        "fuzzy_cotr": 0,
        "caption_wordless": False,
        "caption_unspaced": False,
        "text_unspaced": False,
        "overlap_bounded": False,
    }


def test_every_spotted_string_has_its_area_and_whether_the_caption_holds_a_word_of_it():
    (row,) = _rows(("A black-and-white cat", ["WHITE!", "dog", ("cat", [(0, 0), (20, 0), (20, 10), (0, 10)]), "--"]))
    image = 100 * 50
    assert row["spotted_co_emb"] == [True, False, True, False]
    assert row["spotted_area"] == pytest.approx([100 / image, 100 / image, 200 / image, 100 / image])
    assert row["co_emb_area"] == pytest.approx(300 / image)


def test_spotted_strings_without_a_word_are_text():
    (row,) = _rows(("A cat", ["--"]))
    assert (row["text_class"], row["cotr"]) == ("text", 0)


def test_a_caption_without_words_is_flagged():
    empty, marks, words = _rows(("", ["cat"]), ("!?", ["cat"]), ("a", ["cat"]))
    assert [row["caption_wordless"] for row in (empty, marks, words)] == [True, True, False]
    assert (empty["cotr"], empty["fuzzy_cotr"], empty["cotr_literal"], empty["text_class"]) == (0, 0, 0, "text")


def test_areas_are_shares_of_the_image():
    far, over = [(50, 0), (60, 0), (60, 10), (50, 10)], [(5, 0), (15, 0), (15, 10), (5, 10)]
    (row,) = _rows(("the red cat", [("RED-HOT", BOX), ("cat", over), ("dog", far)]))
    assert row["text_area"] == pytest.approx(250 / 5000)  # a union
    assert row["co_emb_area"] == pytest.approx(200 / 5000)  # a sum
    assert row["co_emb_area_union"] == pytest.approx(150 / 5000)


def test_a_union_is_at_most_the_image_and_a_sum_may_be_more():
    beyond = [(0, 0), (300, 0), (300, 300), (0, 300)]
    (row,) = _rows(("cat", [("cat", beyond), ("cat", beyond)]))
    assert (row["text_area"], row["co_emb_area_union"]) == (1, 1)
    assert row["co_emb_area"] == pytest.approx(2 * 300 * 300 / 5000)


def test_rows_keep_to_themselves_in_sliced_and_chunked_tables():
    rows = [("a cat", ["cat"]), ("a dog", None), ("the bird", []), ("fish soup", ["soup", ("dog", [])])]
    samples, spotted = _tables(*rows)
    whole = overlap(samples, spotted, DEFAULT)
    assert [row["cotr"] for row in whole.to_pylist()] == [0.5, None, 0, 0.5]
    assert overlap(samples.slice(1), spotted.slice(1), DEFAULT).equals(whole.slice(1))
    chunked = [pa.concat_tables([table.slice(0, 2), table.slice(2)]) for table in (samples, spotted)]
    assert overlap(*chunked, DEFAULT).equals(whole)
    assert len(overlap(samples.slice(4), spotted.slice(4), DEFAULT)) == 0


@pytest.mark.parametrize(
    ("text", "unspaced"),
    [
        ("plain", False),
        ("한국어 텍스트", False),
        ("東京", True),
        ("ひらがな", True),
        ("ｶﾀｶﾅ", True),
        ("ภาษาไทย", True),
        ("ພາສາລາວ", True),
        ("ខ្មែរ", True),
        ("မြန်မာ", True),
        ("हिन्दी", False),
        ("русский", False),
    ],
)
def test_scripts_without_spaces_are_flagged(text, unspaced):
    assert has_unspaced_script(text) is unspaced
    caption, spotted = _rows((text, ["a"]), ("a", ["b", text]))
    assert (caption["caption_unspaced"], caption["text_unspaced"]) == (unspaced, False)
    assert (spotted["caption_unspaced"], spotted["text_unspaced"]) == (False, unspaced)


def _with_status(spotted: pa.Table, *status: str) -> pa.Table:
    return spotted.set_column(spotted.column_names.index("spot_status"), "spot_status", pa.array(status))


def test_a_skipped_image_is_one_without_text():
    samples, spotted = _tables(("a caption", []))
    assert overlap(samples, _with_status(spotted, "skipped"), DEFAULT).equals(overlap(samples, spotted, DEFAULT))


def test_tables_that_do_not_fit_are_refused():
    samples, spotted = _tables(("a", []), ("b", []))
    with pytest.raises(ValueError, match="not row-aligned: index differs"):
        overlap(samples, spotted.take([1, 0]), DEFAULT)
    contradiction = _with_status(spotted, "ok", "failed")
    with pytest.raises(ValueError, match="only where, the spotter failed"):
        overlap(samples, contradiction, DEFAULT)
    samples, spotted = _tables(("a", ["a"]))
    with pytest.raises(ValueError, match="was skipped has spotted words"):
        overlap(samples, _with_status(spotted, "skipped"), DEFAULT)
    with pytest.raises(ValueError, match="only where, the spotter failed"):
        overlap(samples, _with_status(spotted, "lost"), DEFAULT)
    with pytest.raises(ValueError, match="without width or height"):
        overlap(*_tables(("a", []), width=0), DEFAULT)


def _distinct(count: int, prefix: str) -> list[str]:
    """Words of five letters, all different and without digits."""
    letters = "abcdefghij"
    return [prefix + "".join(letters[int(digit)] for digit in f"{i:06d}") for i in range(count)]


def test_fuzzy_work_is_bounded_and_exact_work_is_not(monkeypatch):
    compared = []
    real = module.process.extractOne

    def counted(word, choices, **options):
        compared.append(len(choices))
        return real(word, choices, **options)

    monkeypatch.setattr(module.process, "extractOne", counted)
    caption, texts = _distinct(300, "x"), _distinct(300, "y")
    few = OverlapSettings(max_words=20)
    result = word_overlap(" ".join([*caption, "last"]), [*texts, "last"], few)
    assert result.bounded
    assert compared == [20] * 20
    assert result.shared == ["last"]  # beyond the limit, and found
    assert sum(s > 0 for s in result.similarity) == 21
    assert not word_overlap(" ".join(caption[:20]), texts[:20], few).bounded
    assert not word_overlap(" ".join(caption), [], few).bounded


def test_a_word_too_long_to_compare_is_compared_exactly_and_flagged():
    long = "x" * 65
    assert word_overlap(long, [long], DEFAULT).similarity == [1]
    near = word_overlap(f"{long} cats", [long + "y", "cats"], DEFAULT)
    assert near.similarity == [0, 1]
    assert near.bounded


@pytest.mark.parametrize(
    "caption",
    [
        "a" * 1_000_000,
        " ".join(_distinct(125_000, "z")),
        "a" + "\u0301\u0316" * 250_000,
        "a" + "\uff9e\u0300" * 250_000,
        "\u0301\u0316 " * 250_000,
        "\u200b" * 333_000,
        "\ufdfa" * 333_000,  # becomes 18 characters
        "\x00" * 1_000_000,
        "\u202eשלום" * 100_000,
        "👩\u200d👩\u200d👧\ufe0f" * 60_000,
        "漢" * 333_000,
        "1" * 1_000_000,
        "-" * 1_000_000,
        "İ" * 500_000,
    ],
    ids=lambda caption: ascii(caption[:3]),
)
def test_a_hostile_megabyte_takes_bounded_time_on_either_side(caption):
    started = time.process_time()
    as_caption, as_text, as_both = _rows((caption, ["some", "words"]), ("some words", [caption]), (caption, [caption]))
    assert time.process_time() - started < 20
    assert as_caption["text_class"] in ("text", "co_emb")
    assert as_text["caption_words"] == ["some", "words"]
    assert as_both["cotr"] == (0 if as_both["caption_wordless"] else 1)
