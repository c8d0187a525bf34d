"""What the demo can draw and say: objects, colours, scenes, words, and the caption templates that join them.

No word is a near miss of another name of this module (normalised Levenshtein similarity below 0.75 wherever both
have four letters or more), so the truth of a drawn sample holds for exact and for fuzzy overlap alike.
"""

import numpy as np

OBJECTS = tuple(  # one text is easier to read and to change than a list
    """
    star heart circle square triangle ring cross moon sun cloud tree house car boat fish flower
    mushroom cup bottle key umbrella arrow lightning leaf apple hat bell flag ladder crown anchor
    """.split()
)

COLOURS = {
    "red": (214, 32, 36),
    "orange": (246, 134, 20),
    "yellow": (248, 220, 40),
    "green": (34, 150, 60),
    "blue": (32, 84, 208),
    "purple": (122, 44, 160),
    "pink": (250, 140, 190),
    "brown": (122, 74, 36),
}
"""Colour name → sRGB, 0-255."""

SCENES = {
    "brick": "a brick wall",
    "chelsea": "a cat",
    "coffee": "an espresso",
    "grass": "grass",
    "gravel": "pebbles",
    "hubble_deep_field": "a nebula",
    "ihc": "stained tissue",
    "moon": "craters",
    "retina": "a retina",
    "rocket": "a rocket",
    "china": "a pagoda",
    "flower": "a dahlia",
}
"""Photograph → what it shows, in a caption's words."""

WORDS = tuple(
    """
    sale open exit hello welcome stop pizza coffee music market hotel taxi school bank library
    museum cinema garden kitchen bakery summer winter spring autumn monday friday happy love peace
    dream magic power energy racing soccer tennis golf hockey yoga fitness health doctor lawyer
    teacher student science history physics poetry mystery romance comedy drama western vintage
    modern deluxe premium new best big hot fresh organic vegan sugar honey lemon banana mango bread
    butter cheese chicken burger sushi noodle pasta salad soup juice water milk tea london paris
    tokyo berlin madrid texas brazil canada india europe ocean beach island river forest desert
    jungle safari travel ticket airport station bridge castle palace temple gallery studio concert
    party dance jazz rock disco opera piano guitar violin radio video photo phone laptop network
    design fashion beauty baby kids family queen knight dragon wizard zombie robot alien galaxy
    planet bonus lucky prize silver tiger lion eagle panda monkey rabbit turtle dolphin shark
    """.split()
)

TEMPLATE_WORDS = ("a", "an", "the", "with", "word", "words", "that", "says", "sign", "picture", "photograph", "of")
"""What captions say around the names."""


def is_held_out(name: str, word: str) -> bool:
    """Whether this object is never drawn with this word in training: one pair in ten, spread evenly."""
    return (OBJECTS.index(name) * 7 + WORDS.index(word) * 3) % 10 == 0


def with_article(noun: str) -> str:
    """Put "a" or "an" before a noun phrase."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def describe_scene(scene: str, rng: np.random.Generator) -> str:
    """Caption a photograph: `a cat`, `a photograph of a cat` or `a picture of a cat`."""
    phrase = SCENES[scene]
    return str(rng.choice((phrase, f"a photograph of {phrase}", f"a picture of {phrase}"), p=(0.3, 0.5, 0.2)))


def describe_object(name: str, colour: str, rng: np.random.Generator) -> str:
    """Caption an object: `a red star`, `red star`, `a star` or `a picture of a red star`."""
    phrase = f"{colour} {name}"
    templates = (with_article(phrase), phrase, with_article(name), f"a picture of {with_article(phrase)}")
    return str(rng.choice(templates, p=(0.4, 0.2, 0.25, 0.15)))


def describe_object_with_word(name: str, colour: str, word: str, rng: np.random.Generator) -> str:
    """Caption an object beside a word, the word being quoted from the picture."""
    phrase = f"{colour} {name}"
    templates = (
        f"{with_article(phrase)} with the word {word}",
        f"{with_article(phrase)} that says {word}",
        f"{with_article(name)} that says {word}",
        f"{word} {phrase}",
    )
    return str(rng.choice(templates, p=(0.35, 0.25, 0.15, 0.25)))


def describe_sign(words: tuple[str, ...], rng: np.random.Generator) -> str:
    """Caption a picture that shows one or two words and no object."""
    joined = " ".join(words)
    article = "the word" if len(words) == 1 else "the words"
    templates = (f"{joined} sign", f"{article} {joined}", joined, f"a sign that says {joined}")
    return str(rng.choice(templates, p=(0.25, 0.35, 0.25, 0.15)))
