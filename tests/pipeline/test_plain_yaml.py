"""Plain YAML: JSON's values come back as they were written; whatever else YAML has is refused where it stands."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.plain_yaml import MAX_DEPTH, NotPlainError, load_plain
from tests.pipeline.shard_factory import FUZZ

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n\r\t \u2028\ufeff:#'\"\\-"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@FUZZ
@given(JSON)
def test_json_values_come_back(value) -> None:
    assert load_plain(yaml.safe_dump(value, sort_keys=False, allow_unicode=True).encode()) == value


@pytest.mark.parametrize(
    ("text", "problem", "line"),
    [
        ("a: 1\nb: &x 2", "no anchor and no alias", 2),
        ("a: *x", "no anchor and no alias", 1),
        ("- !!set {a}", "no tag is read", 1),
        ("- ! a", "no tag is read", 1),
        ("a: 1\n\n5: 2", "a key that is no text", 3),
        ("yes: 1", "a key that is no text", 1),
        ("? {a: b}\n: c", "a key that is no text", 1),
        ("<<: {a: 1}", "a key that is no text", 1),
        ("x: {a: 1,\n a: 2}", "'a' is given twice in one section", 2),
        ("a: .nan", "'.nan' is no finite number", 1),
        ("a: 1.0e+999", "'1.0e+999' is no finite number", 1),
        ("a: 0b_", "'0b_' is no finite number", 1),
        ("a: " + ":".join(["1"] * 200) + ".5", "is no finite number", 1),
        ('a: "\\ud800"', "'\\ud800' has a control character or half a surrogate pair in it", 1),
        ('"\\udfff": a', "'\\udfff' has a control character or half a surrogate pair in it", 1),
        ('a: "b\\0"', "'b\\x00' has a control character", 1),
        ('a: "b\\x85"', "'b\\x85' has a control character", 1),
        ("[" * (MAX_DEPTH + 1), "nested too deep", 1),
    ],
)
def test_what_is_not_plain_is_refused_with_its_line(text: str, problem: str, line: int) -> None:
    with pytest.raises(NotPlainError) as error:
        load_plain(text)
    assert problem in error.value.problem
    assert error.value.problem_mark.line + 1 == line


def test_as_deep_as_it_may_be() -> None:
    text = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert load_plain(text) == json.loads(text)


@pytest.mark.parametrize("text", ["2024-01-02", "2024-99-99", "2024-01-02 03:04:05", "="])
def test_dates_are_text(text: str) -> None:
    assert load_plain(text) == text
