"""Configuration files and overrides: a valid one with mistakes is a Config or one sentence, and a Config survives."""

import copy
import datetime
import re
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.config import SPOTTERS, Config
from pipeline.config_file import MAX_SENTENCE, PRESETS, ConfigError, load, parse, parse_yaml
from tests.fuzz import fuzz

TEXTS = [path.read_text() for path in sorted(PRESETS.glob("*.yaml"))]

CUSTOM = {
    "engine": "custom",
    "target": "package.module:Class",
    "settings": {"weights": "a.pt", "sizes": [1, 2.5, None, True], "deep": {"er": {}}},
}

IMPORTED = {
    "clip": {"imported": {"format": "datacomp", "folder": "s3://bucket/metadata"}},
    "cluster": {"imported": {"centroids": "centroids.npy", "model": "ViT-B-32"}},
}

# Words of pydantic's and Python's that tell a user nothing.
JARGON = re.compile(
    r"pydantic|Traceback|\btype=|https?://|instance of|discriminator|Input tag|\btuple\b|\bdict|NoneType|"
    r"[A-Z]\w+(?:Config|Settings|Limits)\b|<byte string>|<unicode string>"
)


def full(spotting: dict[str, Any], **sections: Any) -> dict[str, Any]:
    """Every key of a configuration, written out."""
    given = {"run": "runs/x", "input": {"shards": ["a/{0..9}.tar", "b/*.tar"]}, "spotting": spotting, **sections}
    return parse(given).model_dump(mode="json")


WHOLE = [full({"engine": engine} if engine != "custom" else CUSTOM, **IMPORTED) for engine in SPOTTERS]
TREES: list[dict[str, Any]] = [*WHOLE, *map(yaml.safe_load, TEXTS)]

NUMBERS = st.one_of(
    st.sampled_from([0, -1, 1, 10**10, -(10**30), 10**400, 1e308, 5e-324, -0.0, float("nan"), float("inf")]),
    st.integers(),
    st.floats(),
)
WORDS = st.one_of(
    st.sampled_from("~ ~/x = << null yes 1e5 0x_ 12:30 2024-01-01 2024-99-99 rapidocr custom engine name 🙂".split()),
    st.sampled_from(["", " ", "a\0b", "\ufeffa", "\x85 \u2028", "x" * 5000]),
    st.text(max_size=8),
    st.text(st.characters(), max_size=8),  # lone surrogates too
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    NUMBERS,
    WORDS,
    st.binary(max_size=4),
    st.dates(datetime.date(1, 1, 1)),
    st.datetimes(),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(WORDS, inner, max_size=3), st.dictionaries(NUMBERS, inner)
    ),
    max_leaves=6,
)


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Every container of a tree with each of its keys."""
    inside = list(tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ())
    return [(tree, key) for key, _ in inside] + [place for _, value in inside for place in places(value)]


@st.composite
def mutated_trees(draw: st.DrawFn) -> dict[str, Any]:
    """A valid configuration with one to three mistakes, each at any place."""
    tree = copy.deepcopy(draw(st.sampled_from(TREES)))
    for _ in range(draw(st.integers(1, 3))):
        container, key = draw(st.sampled_from(places(tree)))
        value = container[key]
        how = draw(st.sampled_from(["replace", "remove", "add", "misspell", "wrap", "deepen", "move"]))
        if how == "replace":
            container[key] = draw(VALUES)
        elif how == "remove":
            del container[key]
        elif how == "wrap":
            container[key] = draw(st.sampled_from([[value], {"x": value}, {key: value}, [value, value]]))
        elif how == "deepen":
            for _ in range(draw(st.sampled_from([5, 30, 31, 32, 33, 100]))):
                value = [value]
            container[key] = value
        elif isinstance(container, list):
            container.insert(key, draw(VALUES))
        elif how == "add":
            container[draw(st.one_of(WORDS, SCALARS))] = draw(VALUES)
        elif how == "misspell":
            at = draw(st.integers(0, len(str(key))))
            container[str(key)[:at] + draw(st.sampled_from("xA_ ")) + str(key)[at + 1 :]] = container.pop(key)
        else:
            other, place = draw(st.sampled_from(places(tree)))
            other[place] = copy.deepcopy(value)
        if not places(tree):
            break
    return tree


def one_sentence(error: ConfigError) -> str:
    sentence = str(error)
    assert 0 < len(sentence) <= MAX_SENTENCE
    assert len(sentence.splitlines()) == 1
    assert not JARGON.search(sentence)
    return sentence


def survives(config: Config) -> None:
    """As a run keeps its configuration."""
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    assert parse(parse_yaml(text.encode())) == config
    assert parse(yaml.safe_load(text)) == config


def check(file: Path, overrides: tuple[str, ...] = ()) -> str:
    """Load; what is refused is refused in a sentence, which is returned."""
    try:
        config = load(file, overrides)
    except ConfigError as error:
        return one_sentence(error)
    survives(config)
    return ""


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("config") / "config.yaml"


@fuzz(600)
@given(mutated_trees(), st.booleans())
def test_mistakes_in_values_and_keys(file, tree, flow) -> None:
    file.write_text(yaml.dump(tree, sort_keys=False, allow_unicode=flow, default_flow_style=flow, width=1000))
    check(file)
    try:
        parse(tree)
    except ConfigError as error:
        one_sentence(error)


INDICATORS = (
    "- |? |: |, |#|{|}|[|]|'|\"|>|=|`|@x|*.tar|-\n|---\n|...\n|%YAML 9.9\n---\n|\t|\n|\n  |run: a\n|input:\n|clip: []\n"
)
NOT_PLAIN = (
    "&a |*a|<<: *a|<<: {run: x}|!!python/object/apply:os.system [id]|!!binary /w==|!!set {a}|!!int x|!!timestamp x|"
    '.nan|.inf|1.0e+999|0b_|null|"\\ud800"|"\\0"|"\\u2028"'
)
FRAGMENTS = st.one_of(
    st.sampled_from([*INDICATORS.split("|"), *NOT_PLAIN.split("|"), "|"]).map(str.encode),
    st.sampled_from(["\0", "\ufeff", "\x85", "9" * 5000, "[" * 2000, "x" * 2000]).map(str.encode),
    st.sampled_from([b"\xed\xa0\x80", b"\xff"]) | st.binary(max_size=3),
)
CUTS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 30), FRAGMENTS), min_size=1, max_size=4)


@fuzz(500)
@given(st.sampled_from(TEXTS + [yaml.safe_dump(tree) for tree in WHOLE]), CUTS, st.sampled_from(["utf-8", "utf-16"]))
def test_mistakes_in_the_text(file, text, cuts, encoding) -> None:
    data = text.encode(encoding)
    for place, removed, fragment in cuts:
        at = int(place * len(data))
        data = data[:at] + fragment + data[at + removed :]
    file.write_bytes(data)
    check(file)


PATHS = st.one_of(
    st.sampled_from(
        "run input input.shards input.limits.max_side input.metadata.x clip clip.name clip.imported".split()
    ),
    st.sampled_from("spotting spotting.engine spotting.settings spotting.settings.a.b spotting.longest_side".split()),
    st.sampled_from(["overlap", "cluster.k", "resources.address", "", ".", "run.", "x.y", "a." * 40 + "b"]),
    WORDS,
)
TYPED = st.one_of(WORDS, SCALARS, FRAGMENTS.map(lambda data: data.decode(errors="surrogateescape")))
OVERRIDES = st.one_of(
    st.builds("{}={}".format, PATHS, TYPED),
    st.builds(lambda path, value: f"{path}={yaml.dump(value, default_flow_style=True)}", PATHS, VALUES),
    WORDS,
)


@fuzz(400)
@given(st.sampled_from(TEXTS + [yaml.safe_dump(tree) for tree in WHOLE]), st.lists(OVERRIDES, min_size=1, max_size=3))
def test_mistakes_in_overrides(file, text, overrides) -> None:
    file.write_text(text)
    check(file, tuple(overrides))


@fuzz(100)
@given(WORDS)
@example("x" * 5000)
@example("/dev/null")
@example("configs/quickstart.yaml/x")
def test_names_of_files(name) -> None:
    try:
        load(name)
    except ConfigError as error:
        one_sentence(error)


DOUBLINGS = list(pairwise("abcdefghijklmnopqrst"))


@pytest.mark.parametrize(
    "bomb",
    [
        "a: &a [x]\n" + "".join(f"{new}: &{new} [*{old}, *{old}]\n" for old, new in DOUBLINGS),
        "a: &a {x: 1}\n" + "".join(f"{new}: &{new} {{<<: [*{old}, *{old}]}}\n" for old, new in DOUBLINGS),
        "a: &a [*a]",
        "a: &a {b: *a}",
        "[" * 100_000,
        "a: " * 100_000,
        "? " * 10_000,
        "- " * 10_000,
        "run: " + ":".join(["59"] * 400) + ".5",
        "run: " + "9" * 100_000,
    ],
    ids=lambda bomb: bomb[:12],
)
def test_bombs_are_refused_at_once(file, bomb) -> None:
    file.write_text(bomb)
    start = time.perf_counter()
    assert check(file)
    assert time.perf_counter() - start < 10
