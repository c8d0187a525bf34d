import numpy as np
import pytest
from rapidfuzz.distance import Levenshtein

from pipeline.demo.drawing import Thing
from pipeline.demo.stories import ODD_STORIES, STORIES, Story, dress, misspell, tell
from pipeline.schema import TextClass

HAT = Thing("hat", "blue")


def test_rates_of_a_quoted_word() -> None:
    story = Story(
        "quoted", HAT, ("SALE",), "a blue hat that says sale", ("a", "blue", "hat", "that", "says", "sale"), ("sale",)
    )
    assert story.text_class is TextClass.CO_EMB
    assert story.cotr == story.fuzzy_cotr == pytest.approx(1 / 6)
    assert story.cotr_literal == 0  # "sale" is not "SALE"


def test_rates_of_a_misspelt_word() -> None:
    story = Story("misspelt", None, ("coftee",), "coffee sign", ("coffee", "sign"), misspelt_words=("coffee",))
    assert (story.text_class, story.cotr, story.fuzzy_cotr) == (TextClass.TEXT, 0, 0.5)


def test_rates_without_text_or_words() -> None:
    silent = Story("silent", HAT, (), "a hat", ("a", "hat"))
    assert (silent.text_class, silent.cotr, silent.cotr_literal) == (TextClass.NONE, 0, 0)
    wordless = Story("empty", HAT, ("Sale",), "", ())
    assert (wordless.text_class, wordless.cotr, wordless.cotr_literal) == (TextClass.TEXT, 0, 0)


@pytest.mark.parametrize(
    ("name", "cotr", "literal"),
    [("emoji", 1 / 4, 1 / 6), ("repeated", 1, 1 / 4), ("spaces", 1 / 4, 1 / 4), ("case", 1, 1 / 3), ("long", 1 / 3, 0)],
)
def test_rates_of_odd_captions(name: str, cotr: float, literal: float) -> None:
    story = next(story for story in ODD_STORIES if story.name == name)
    assert story.cotr == pytest.approx(cotr)
    assert story.cotr_literal == pytest.approx(literal)


@pytest.mark.parametrize("name", STORIES)
def test_stories_keep_their_promise(name: str) -> None:
    rng = np.random.default_rng(7)
    for _ in range(40):
        story = tell(name, rng)
        drawn = {text.lower() for text in story.texts}
        assert drawn & set(story.caption_words) == set(story.drawn_words)
        assert set(story.misspelt_words) <= set(story.caption_words) - drawn
        assert story.cotr == 1 or name != "parroted"
        assert bool(story.drawn_words) == (name in ("quoted", "half_quoted", "parroted"))
        assert bool(story.texts) == (name not in ("silent", "scenery", "promised"))
        assert (story.fuzzy_cotr > story.cotr) == (name == "misspelt")


def test_shares_sum_to_one() -> None:
    assert sum(STORIES.values()) == pytest.approx(1)


def test_a_misspelling_is_near_its_word_alone() -> None:
    rng = np.random.default_rng(3)
    for word in ("sale", "coffee", "kitchen"):
        changed = misspell(word, rng)
        assert len(changed) == len(word)
        assert 0.75 <= Levenshtein.normalized_similarity(word, changed) < 1


def test_captions_are_dressed_in_three_ways() -> None:
    rng = np.random.default_rng(0)
    dressed = {dress("hat that says sale", ("Sale",), rng) for _ in range(30)}
    assert dressed == {"hat that says sale", "hat that says Sale", "Hat that says “Sale”."}
