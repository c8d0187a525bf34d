"""Brace expansion as bash's, by braceexpand, counted before it is made: a short pattern may name billions of shards."""

import re
from collections.abc import Iterable

from braceexpand import braceexpand

_MAX_DEPTH = 20
_MAX_RANGE = 100  # characters; Python converts no number of thousands of digits
# braceexpand's own patterns end in $, which a line break may follow.
_RANGE = re.compile(r"(-?\d+|[A-Za-z])\.\.(-?\d+|[A-Za-z])(?:\.\.-?(\d+))?\n?")


def expand(pattern: str) -> Iterable[str]:
    """The strings that a pattern such as {00..99}.tar or {a,b{1..3}} stands for; a backslash escapes."""
    return braceexpand(pattern) if "{" in pattern else (pattern,)


def count_expansions(pattern: str) -> int:
    """How many strings `expand` would give, at most, without expanding (braceexpand holds every range in memory).

    Raises ValueError for unbalanced braces, and for those nested deeper than 20.
    """
    if "{" not in pattern:
        return 1
    sums, products, starts = [0], [1], [0]
    escaped = False
    for at, character in enumerate(pattern):
        if escaped or character == "\\":
            escaped = not escaped
        elif character == "{":
            sums.append(0)
            products.append(1)
            starts.append(at + 1)
            if len(starts) > _MAX_DEPTH:  # braceexpand recurses
                raise ValueError(f"braces nested too deep in {pattern[:200]}")
        elif character == "," and len(starts) > 1:
            sums[-1] += products[-1]
            products[-1] = 1
        elif character == "}":
            if len(starts) == 1:
                raise ValueError(f"unbalanced braces in {pattern}")
            alternatives = _count_range(pattern[starts.pop() : at]) or sums[-1] + products[-1]
            del sums[-1], products[-1]
            products[-1] *= alternatives
    if len(starts) > 1:
        raise ValueError(f"unbalanced braces in {pattern}")
    return products[0]


def _count_range(text: str) -> int:
    """The length of a braceexpand range such as 00..99 or a..z..2, 0 for what is none."""
    match = _RANGE.fullmatch(text)
    if not match:
        return 0
    if len(text) > _MAX_RANGE:
        raise ValueError(f"the numbers of the range {text[:40]}... are too long")
    first, last = (ord(end) if end.isalpha() else int(end) for end in match.group(1, 2))
    return abs(last - first) // (int(match[3] or 1) or 1) + 1
