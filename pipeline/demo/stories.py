"""What each demo sample shows and says, and what must therefore be found in it.

A story is told before anything is drawn, and it knows which of its caption's words it puts into the picture. The
expected rates are counted from that knowledge; nothing here calls `pipeline.overlap`, which they serve to check.
"""

from dataclasses import dataclass

import numpy as np
from rapidfuzz.distance import Levenshtein

from pipeline.demo.drawing import Thing, set_case
from pipeline.demo.samples import Kind, choose_content
from pipeline.demo.vocabulary import (
    COLOURS,
    OBJECTS,
    TEMPLATE_WORDS,
    WORDS,
    describe_object,
    describe_object_with_word,
    describe_scene,
    describe_sign,
)
from pipeline.schema import TextClass

STORIES = {
    "scenery": 0.18,  # a photograph without text
    "silent": 0.11,  # an object without text
    "promised": 0.04,  # the caption quotes a word that the picture lacks
    "unmentioned": 0.14,  # text in the picture, none of it in the caption
    "quoted": 0.23,  # the caption names the object and quotes the word
    "half_quoted": 0.07,  # two words in the picture, one in the caption
    "parroted": 0.17,  # the caption is the text
    "misspelt": 0.06,  # the drawn word is one letter off the caption's
}
"""Name of a story → its share of the samples."""

SILHOUETTES = tuple("heart square sun boat fish flower cup bottle umbrella apple hat flag anchor".split())
"""The objects of the demo: those that text spotters seldom take for a character, as they do a ring for an O."""


@dataclass(frozen=True)
class Story:
    """One sample in words.

    Attributes:
        thing: the object in the picture, if any.
        texts: words to draw, in their drawn case, from top to bottom.
        caption: as written into the shard.
        caption_words: its distinct words, case-folded, in order.
        drawn_words: those of them that the picture shows.
        misspelt_words: those of them, of four letters or more, that the picture shows with one letter changed.
        scene: the photograph that is all there is to see, if so.
        unspaced: the caption has a script written without spaces.
    """

    name: str
    thing: Thing | None
    texts: tuple[str, ...]
    caption: str
    caption_words: tuple[str, ...]
    drawn_words: tuple[str, ...] = ()
    misspelt_words: tuple[str, ...] = ()
    scene: str | None = None
    unspaced: bool = False

    @property
    def text_class(self) -> TextClass:
        """The class of the picture by its text, exact words counting."""
        if not self.texts:
            return TextClass.NONE
        return TextClass.CO_EMB if self.drawn_words else TextClass.TEXT

    @property
    def cotr(self) -> float:
        """Distinct caption words that are drawn over distinct caption words; 0 for a caption without words."""
        return len(self.drawn_words) / max(1, len(self.caption_words))

    @property
    def fuzzy_cotr(self) -> float:
        """As `cotr`, misspelt words counting."""
        return (len(self.drawn_words) + len(self.misspelt_words)) / max(1, len(self.caption_words))

    @property
    def cotr_literal(self) -> float:
        """The paper's Algorithm 1 to the letter: tokens between white space, case and punctuation kept."""
        tokens = set(self.caption.split())
        return len(tokens & set(self.texts)) / max(1, len(tokens))


def misspell(word: str, rng: np.random.Generator) -> str:
    """Change one letter of a word of four letters or more, so that it is near to no other name of the demo."""
    others = {*OBJECTS, *COLOURS, *WORDS, *TEMPLATE_WORDS} - {word}
    while True:
        place, letter = int(rng.integers(1, len(word))), str(rng.choice([*"abdehkmnoprstu"]))
        changed = word[:place] + letter + word[place + 1 :]
        if changed != word and all(Levenshtein.normalized_similarity(changed, name) < 0.75 for name in others):
            return changed


def dress(plain: str, texts: tuple[str, ...], rng: np.random.Generator) -> str:
    """Write a lower-case caption as people do: as it is, with drawn words in their drawn case, or as a sentence."""
    style = rng.choice(3, p=(0.45, 0.3, 0.25))
    if style == 0:
        return plain
    drawn = {text.lower(): text for text in texts}
    tokens = [drawn.get(token, token) for token in plain.split()]
    if style == 1:
        return " ".join(tokens)
    quoted = [f"“{token}”" if token.lower() in drawn else token for token in tokens]
    return f"{quoted[0][0].upper()}{' '.join(quoted)[1:]}."


def tell(name: str, rng: np.random.Generator) -> Story:
    """Make up a story of the given name."""
    sign = rng.random() < 0.5
    if name == "scenery":
        kind = Kind.SCENE
    elif name in ("silent", "promised"):
        kind = Kind.OBJECT
    elif name == "half_quoted":
        kind = Kind.TWO_WORD_SIGN
    elif name in ("unmentioned", "quoted") or not sign:
        kind = Kind.OBJECT_WITH_WORD
    else:
        kind = Kind.TWO_WORD_SIGN if name == "parroted" and rng.random() < 0.5 else Kind.SIGN
    thing, words, scene = choose_content(kind, rng, objects=SILHOUETTES)
    if name in ("scenery", "silent", "unmentioned"):
        mentioned: tuple[str, ...] = ()
    elif name == "promised":
        mentioned = (str(rng.choice(WORDS)),)
    elif name == "half_quoted":
        mentioned = (words[rng.integers(2)],)
    elif name == "misspelt":
        mentioned = words = (str(rng.choice([word for word in WORDS if len(word) >= 4])),)
    else:
        mentioned = words

    if name == "parroted":
        plain = " ".join(mentioned)
    elif scene:
        plain = describe_scene(scene, rng)
    elif thing is None:
        plain = describe_sign(mentioned, rng)
    elif mentioned:
        plain = describe_object_with_word(*thing, mentioned[0], rng)
    else:
        plain = describe_object(*thing, rng)

    misspelt = mentioned if name == "misspelt" else ()
    shown = tuple(misspell(word, rng) if word in misspelt else word for word in words)
    texts = tuple(set_case(word, rng) for word in shown)
    return Story(
        name,
        thing,
        texts,
        caption=dress(plain, texts, rng),
        caption_words=tuple(dict.fromkeys(plain.split())),
        scene=scene,
        drawn_words=tuple(word for word in mentioned if word in shown),
        misspelt_words=misspelt,
    )


FISH = Thing("fish", "red")

ODD_STORIES = (
    Story("html", FISH, (), '<script>alert("fish")</script>', ("script", "alert", "fish")),
    Story("emoji", FISH, ("HELLO",), "HELLO 👋🏽 a red fish 🐟", ("hello", "a", "red", "fish"), drawn_words=("hello",)),
    Story("emoji_only", FISH, (), "🐟👋🏽", ()),
    Story("right_to_left", FISH, (), "سمكة حمراء - a red fish", ("سمكة", "حمراء", "a", "red", "fish")),
    Story("nul", FISH, (), "a red\0fish", ("a", "red", "fish")),
    Story("cjk", FISH, (), "红色的鱼 a red fish", ("红色的鱼", "a", "red", "fish"), unspaced=True),
    Story("empty", FISH, ("Sale",), "", ()),
    Story("punctuation", FISH, ("Sale",), "?! … --", ()),
    Story("repeated", None, ("Sale",), "sale SALE Sale sale!", ("sale",), drawn_words=("sale",)),
    Story("long", FISH, ("Sale",), "red fish " * 400 + "sale", ("red", "fish", "sale"), drawn_words=("sale",)),
    Story(
        "spaces",
        None,
        ("OPEN",),
        "\tsign  that\n says\r\n OPEN ",
        ("sign", "that", "says", "open"),
        drawn_words=("open",),
    ),
    Story("case", None, ("Pizza",), "PIZZA pizza, Pizza", ("pizza",), drawn_words=("pizza",)),
)
"""Sound samples whose captions break careless readers."""
