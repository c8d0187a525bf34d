from itertools import combinations

import numpy as np
from rapidfuzz.distance import Levenshtein

from pipeline.demo.vocabulary import (
    COLOURS,
    OBJECTS,
    SCENES,
    TEMPLATE_WORDS,
    WORDS,
    describe_object,
    describe_object_with_word,
    describe_scene,
    describe_sign,
    is_held_out,
    with_article,
)


def test_sizes() -> None:
    assert (len(OBJECTS), len(COLOURS), len(set(WORDS))) == (31, 8, 156)


def test_no_word_is_a_near_miss_of_another_name() -> None:
    others = {*OBJECTS, *COLOURS, *TEMPLATE_WORDS, *" ".join(SCENES.values()).split()}
    assert others.isdisjoint(WORDS)
    pairs = [*combinations(WORDS, 2), *((word, name) for word in WORDS for name in others)]
    near = [pair for pair in pairs if min(map(len, pair)) >= 4 and Levenshtein.normalized_similarity(*pair) >= 0.75]
    assert near == []


def test_one_pair_in_ten_is_held_out() -> None:
    held = np.array([[is_held_out(name, word) for word in WORDS] for name in OBJECTS])
    assert 0.09 < held.mean() < 0.11
    assert held.any(axis=0).all()
    assert held.any(axis=1).all()


def test_articles() -> None:
    assert with_article("orange star") == "an orange star"
    assert with_article("red apple") == "a red apple"


def test_captions_are_made_of_known_words() -> None:
    rng = np.random.default_rng(0)
    captions = [
        *(describe_object("hat", "blue", rng) for _ in range(20)),
        *(describe_object_with_word("hat", "blue", "sale", rng) for _ in range(20)),
        *(describe_sign(("sale", "open"), rng) for _ in range(20)),
        *(describe_scene("grass", rng) for _ in range(20)),
    ]
    known = {*OBJECTS, *COLOURS, *WORDS, *TEMPLATE_WORDS, "grass"}
    assert {word for caption in captions for word in caption.split()} <= known
    assert "a blue hat with the word sale" in captions
