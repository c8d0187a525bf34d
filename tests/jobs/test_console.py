"""Hostile names, error texts and URLs become one plain line without secrets."""

import io

import pytest

from jobs.console import make_console, printable, say


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


def test_a_console_takes_strings_as_they_are(monkeypatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr("sys.stdout", out)
    console = make_console()
    say(console, "[bold]:smile:[/x] \x1b[31m" + "long " * 60)
    console.print("[bold]:smile:[/x]")
    said, printed = out.getvalue().splitlines()
    assert said.startswith("[bold]:smile:[/x] \\x1b[31mlong")
    assert printed == "[bold]:smile:[/x]"
