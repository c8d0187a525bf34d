"""The console: what a job, a shard or an error says becomes one plain line, whatever is in it."""

import re
import sys

from rich.console import Console
from rich.text import Text

from pipeline.secrets import without_secrets

PIPE_WIDTH = 140
"""Columns where there is no terminal to ask; tables want more than the customary 80."""

_WHITESPACE = re.compile(r"\s+")
# C0 and C1, marks that reorder text, and lone surrogates, which no encoding writes.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def make_console(stderr: bool = False) -> Console:
    """A console that takes strings as they are: no markup, no emoji names, no colours of its own."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(
        stderr=stderr,
        width=None if stream.isatty() else PIPE_WIDTH,
        soft_wrap=True,
        highlight=False,
        markup=False,
        emoji=False,
    )


def say(console: Console, line: str) -> None:
    """Print one line, made `printable`."""
    console.print(Text(printable(line)), soft_wrap=True)


def printable(text: str) -> str:
    """Text as one line that moves no cursor and tells no secret.

    Line breaks and tabs, with the blanks around them, become one blank; control characters become escapes such
    as \\x1b; URLs are as in `without_secrets`.
    """
    line = _WHITESPACE.sub(lambda run: " " if run[0].strip(" ") else run[0], without_secrets(text))
    return _CONTROL.sub(_escaped, line)


def inert(text: str) -> str:
    """Text whose lines stay as they are, but in which no other control character reaches a terminal."""
    return "\n".join(_CONTROL.sub(_escaped, line) for line in text.split("\n"))


def _escaped(character: re.Match[str]) -> str:
    return character[0].encode("unicode_escape").decode()
