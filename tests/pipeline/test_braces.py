"""Brace expansion: what is counted is what braceexpand makes, and bombs are told from their text alone."""

import pytest
from braceexpand import braceexpand

from pipeline.braces import count_expansions, expand


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("{00..99}", 100),
        ("{9..0}", 10),
        ("{0..9..3}", 4),
        ("{9..0..-3}", 4),
        ("{0..9..0}", 10),
        ("{a..e}", 5),
        ("{a,b,c}", 3),
        ("{a,{1..3},b{1..2}}", 6),
        ("{a}{b}", 1),
        ("{{1..2}}", 2),
        (r"{a\,b,c}", 2),
        ("{,}", 2),
        ("{-3..3}", 7),
        ("{1..3\n}", 3),
        ("{a..c\n}", 3),
        ("{1..3\n\n}", 1),
        ("{١..٣}", 3),
        ("no braces \\", 1),
    ],
)
def test_expansions_are_counted_as_they_are_made(pattern: str, expected: int) -> None:
    assert count_expansions(pattern) == expected == len(list(expand(pattern)))


@pytest.mark.parametrize("pattern", ["{", "{0..3", "a{b}{", r"\{1..3}", "{1,2}}"])
def test_unbalanced_braces_are_refused_as_by_braceexpand(pattern: str) -> None:
    for read in (count_expansions, braceexpand):
        with pytest.raises(ValueError, match="nbalanced braces"):
            list(read(pattern))  # type: ignore[call-overload]


@pytest.mark.parametrize("digits", [100, 5000])
def test_numbers_too_long_for_a_range(digits: int) -> None:
    with pytest.raises(ValueError, match=r"the range 1\.\.9+\.\.\. are too long"):
        count_expansions(f"{{1..{'9' * digits}}}")
