"""Captions as a report shows them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.overlap import tokenize
from pipeline.report.captions import MAX_CAPTION, marked, visible


def shown(caption: str, *words: str, most: int = MAX_CAPTION) -> str:
    return "".join(f"[{text}]" if hit else text for text, hit in marked(caption, words, most))


@pytest.mark.parametrize(
    ("caption", "words", "expected"),
    [
        ("BIG Sale: 50% off!", ["sale", "50"], "BIG [Sale]: [50]% off!"),
        ("how-to-make_it", ["to", "it"], "how-[to]-make_[it]"),
        ("sale wholesale sales", ["sale"], "[sale] wholesale sales"),
        ("<b>sale</b>", ["b", "sale"], "<[b]>[sale]</[b]>"),
        ("STRASSE straße", ["strasse"], "[STRASSE] [straße]"),
        ("ca\u0301fe\u0301 cáfé", ["cáfé"], "[ca\u0301fe\u0301] [cáfé]"),
        ("so\u00adft zero\u200bwidth", ["soft", "zerowidth"], "[so\u00adft] [zero\u200bwidth]"),
        ("Ⓢale ｓａｌｅ", ["sale"], "[Ⓢale] [ｓａｌｅ]"),
        ("ｶﾞ", ["ガ"], "[ｶﾞ]"),
        ("", ["sale"], ""),
        ("no hit", [], "no hit"),
    ],
)
def test_words_of_the_image_are_marked_as_the_overlap_finds_them(caption, words, expected) -> None:
    assert shown(caption, *words) == expected


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(max_size=60))
def test_pieces_are_the_caption_and_hold_the_words_that_the_overlap_sees(caption) -> None:
    words = tokenize(caption)
    pieces = marked(caption, words)
    assert "".join(text for text, _ in pieces) == caption
    assert [word for text, hit in pieces if hit for word in tokenize(text)] == words


def test_a_long_caption_is_cut_and_a_word_over_the_edge_is_judged_whole() -> None:
    assert shown("one catalogue", "cat", most=7) == "one cat…"
    assert shown("one catalogue", "catalogue", most=7) == "one [cat]…"
    assert shown("one cat", "cat", most=7) == "one [cat]"
    assert len(shown("a" * 4_000_000)) == MAX_CAPTION + 1
    assert len(shown("a b " * 1_000_000)) == MAX_CAPTION + 1


def test_what_reorders_or_controls_is_seen() -> None:
    assert visible("a\x1b[31m\x00\x9b\u202eb\u2066\u200f\u061c") == (
        "a\\x1b[31m\\x00\\x9b\\u202eb\\u2066\\u200f\\u061c"
    )
    assert visible("line\n\tnext ü 👩‍👩‍👧 שלום") == "line\n\tnext ü 👩‍👩‍👧 שלום"
    assert visible("\ud800") == "\\ud800"
