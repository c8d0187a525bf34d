"""How a command ends in an error: what tells a user something becomes one sentence, and an exit status."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer
import yaml

from jobs.console import make_console, printable, say
from jobs.session import Terminated
from pipeline.config_file import shortened

MAX_SENTENCE = 2_000
"""Characters of an error: storage and libraries may answer with pages."""

EXPECTED = (ValueError, RuntimeError, OSError, MemoryError, ImportError, yaml.YAMLError)
"""Errors that tell a user something; others are mistakes of this program, and their traceback is wanted."""

EXPECTED_FROM = {"ray", "duckdb", "_duckdb", "aiohttp", "botocore", "google", "azure"}
"""Libraries of whose own errors the same is true. By name: light commands import none of them."""


@contextmanager
def told() -> Iterator[None]:
    """Turn an expected error into one sentence and exit status 1; PARROTSCOPE_TRACEBACK=1 shows the whole."""
    try:
        yield
    except KeyboardInterrupt as stop:
        say(make_console(stderr=True), "parrotscope: stopped; the same command resumes.")
        # As shells number the signals.
        raise typer.Exit(143 if isinstance(stop, Terminated) else 130) from None
    except Exception as error:
        if os.environ.get("PARROTSCOPE_TRACEBACK", "0") not in ("", "0") or not _is_expected(error):
            raise
        text = printable(str(error).strip() or type(error).__name__)
        say(make_console(stderr=True), f"parrotscope: {shortened(text, MAX_SENTENCE)}")
        _give_up_output()
        raise typer.Exit(1) from None


def _give_up_output() -> None:
    """Drop what cannot be printed: Python would try again as it ends, and exit with a status of its own."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_expected(error: Exception) -> bool:
    return isinstance(error, EXPECTED) or type(error).__module__.partition(".")[0] in EXPECTED_FROM
