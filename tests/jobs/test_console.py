"""Hostile names, error texts and URLs become one plain line without secrets."""

import io

import pytest

from jobs.console import make_console, printable, say, shown_url


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("\x1b[2J\x1b[31mA.tar", "\\x1b[2J\\x1b[31mA.tar"),
        ("a\x9b31m\x07\x7f", "a\\x9b31m\\x07\\x7f"),
        ("first\r\n   last\tword", "first last word"),
        ("  two blanks  stay", "  two blanks  stay"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\udcff.tar", "\\udcff.tar"),
        ("été 猫 🙂", "été 猫 🙂"),
        ("no https://u:p@h/a?sig=x", "no https://h/a?…"),
    ],
)
def test_printable(text: str, line: str) -> None:
    assert printable(text) == line


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:secret@host/a.tar?sig=x&y=z", "https://host/a.tar?…"),
        ("https://user:sec@ret@host:80/a@b.tar", "https://host:80/a@b.tar"),
        ("s3://bucket/a@b.tar", "s3://bucket/a@b.tar"),
        ("simplecache::https://u@h/a?t=1", "simplecache::https://h/a?…"),
        ("[Errno 2] 'https://h/a?t=1,2', and s3://k:s@b/c.", "[Errno 2] 'https://h/a?…', and s3://b/c."),
        ("data/what?.tar", "data/what?.tar"),
        ("://" * 3, "://" * 3),
    ],
)
def test_urls_are_shown_without_secrets(url: str, shown: str) -> None:
    assert shown_url(url) == shown


def test_a_console_takes_strings_as_they_are(monkeypatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr("sys.stdout", out)
    console = make_console()
    say(console, "[bold]:smile:[/x] \x1b[31m" + "long " * 60)
    console.print("[bold]:smile:[/x]")
    said, printed = out.getvalue().splitlines()
    assert said.startswith("[bold]:smile:[/x] \\x1b[31mlong")
    assert printed == "[bold]:smile:[/x]"
