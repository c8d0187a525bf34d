"""Text of data as it is shown: bounded, words that stand in the image marked, and nothing unseen in it."""

import unicodedata
from collections.abc import Collection
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

import regex

from pipeline.overlap import tokenize

MAX_CAPTION = 240
"""Characters of a caption; of longer ones an ellipsis stands for the rest."""

# Of a word, by itself or in what NFKC makes of it: "Ⓐ", "㎏" and "™" become letters.
_LETTER = regex.compile(r"[\p{L}\p{N}]")
_JOINING = regex.compile(r"[\p{M}\p{Cf}\p{Default_Ignorable_Code_Point}]")
# Controls, marks that reorder the text around them, halves of surrogate pairs, which no encoding writes.
_UNSEEN = regex.compile(r"(?V1)[[\p{Cc}\p{Cs}\p{Bidi_Control}]--[\t\n\r]]")


class Piece(NamedTuple):
    """A part of a caption; `marked`: a word that is also in the image."""

    text: str
    marked: bool


def marked(caption: str, words: Collection[str], most: int = MAX_CAPTION) -> list[Piece]:
    """A caption cut into pieces, which joined are its first `most` characters.

    Args:
        caption: as it stands.
        words: co-embedded words, as `overlap.normalize` gives them.
        most: characters.
    """
    pieces, room, known = [], most, frozenset(words)
    for in_word, characters in groupby(caption[: 2 * most], _in_word):
        text = "".join(characters)
        pieces.append(Piece(text[:room], in_word and not known.isdisjoint(tokenize(text))))
        room -= len(text)
        if room <= 0:
            break
    if len(caption) > most:
        pieces.append(Piece("…", False))
    return pieces


def visible(text: str) -> str:
    """Text in which control characters and those that reorder text are escapes such as \\x1b; line breaks stay."""
    return str(_UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text))


@lru_cache(1 << 14)
def _in_word(character: str) -> bool:
    """Whether `tokenize` may take it into a word: between two others is at least one word boundary."""
    seen = character + unicodedata.normalize("NFKC", character)
    return _LETTER.search(seen) is not None or _JOINING.match(character) is not None
