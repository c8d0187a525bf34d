"""The command line: whatever is typed, the exit status is one of a few, and mistakes are told without a traceback."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer
from hypothesis import example, given
from hypothesis import strategies as st
from typer.testing import CliRunner

from jobs.cli import app
from jobs.session import SessionError
from pipeline import schema
from pipeline.config_file import parse
from pipeline.datasets import SAMPLES, Dataset
from pipeline.run import Run
from pipeline.shards import Shard
from tests.fuzz import fuzz

ROOT = Path(__file__).resolve().parents[2]
STATUSES = {0, 1, 2, 130}
ERROR_LINES = 6  # of a usage error: two on usage, a blank one, and the error

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
BOMB = "a: &a [x]\n" + "".join(f"{new}: &{new} [*{old}, *{old}]\n" for old, new in zip("abcdef", "bcdefg", strict=True))

NO_RUNS = {
    "file": b"no folder",
    "bare/other.txt": b"no run.yaml",
    "binary/run.yaml": bytes(range(256)),
    "empty/run.yaml": b"",
    "list/run.yaml": b"- a\n- b\n",
    "number/run.yaml": b"5",
    "bomb/run.yaml": BOMB.encode(),
    "loop/run.yaml": b"run: &a [*a]\n",
    "deep/run.yaml": b"[" * 3000,
    "tag/run.yaml": b"run: !!python/object/apply:os.system [id]\n",
    "date/run.yaml": b"run: 2024-99-99\n",
    "bool/run.yaml": b"run: !!bool x\n",
    "keys/run.yaml": b"1: 2\nnull: 3\n",
    "utf16/run.yaml": "run: r\n".encode("utf-16"),
    "wrong/run.yaml": b"run: r\ninput: {shards: x, limits: {max_side: 1.5}}\n",
    "shards/run.yaml": b"run: r\ninput: {shards: x.tar}\n",
    "shards/shards.parquet": b"PAR1 damaged PAR1",
}
"""Files in folders that are no runs."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Iterator[Path]:
    """The working folder: a run, and much that is none. What would start Ray, draw for long or serve fails instead."""
    folder = tmp_path_factory.mktemp("cli")
    for name, content in NO_RUNS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    run = Run(str(folder / "run"))
    run.write_config(parse({"run": "run", "input": {"shards": "*.tar"}}), ())
    run.write_shards([Shard("a", "a.tar", 1, None)])
    with run.part(SAMPLES, "a", schema.SAMPLES) as part:
        part.describe({"counts": {"rows": 3}})
    with run.part(Dataset("profiles", "main"), "a", schema.PROFILES):
        pass

    @contextmanager
    def no_session(*_: object) -> Iterator[None]:
        raise SessionError("no Ray in a fuzz")
        yield

    def no_demo(*_: object) -> None:
        raise OSError("no demo in a fuzz")

    def no_page(*_: object) -> None:
        raise OSError("no explorer in a fuzz")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.execv", no_page)  # the explorer's server takes the place of its process
        patch.chdir(folder)
        patch.setenv("HOME", str(folder))
        patch.delenv("PARROTSCOPE_TRACEBACK", raising=False)
        patch.setattr("jobs.cli.session", no_session)
        patch.setattr("pipeline.demo.shards.draw_demo", no_demo)
        patch.setattr("jobs.quickstart.prepare_demo", no_demo)
        yield folder


JUNK = st.one_of(
    st.sampled_from(
        "- -- --- -x --= = ~ ~nobody . .. / // /dev/null x :smile: [/x] 🙂 main clip spot 0 -1 1e9".split()
    ),
    st.sampled_from("nofs://x s4://x :// memory://x file:// file:///nowhere nowhere::x a::b".split()),
    st.sampled_from("zip://x github://x dir://x data:, reference://x zip://a::b".split()),
    st.sampled_from(["", " ", "a\0b", "\udcff", "\x1b[31m", "a\nb", "x" * 300, "x" * 100_000, "x/" * 3000, "9" * 5000]),
    st.text(max_size=6),
)
NAMES = st.sampled_from([*sorted({name.partition("/")[0] for name in NO_RUNS}), *NO_RUNS])
CONFIGS = st.sampled_from("quickstart cc12m laion2b quickstart.yaml ../configs/quickstart run/run.yaml".split())
SETTINGS = st.one_of(
    st.sampled_from(
        "run=x cluster.k=5 cluster.k=x clip.modle=x run=memory://x input={shards:[} x clip= = run=\udcff".split()
    ),
    st.sampled_from("resources.address=auto spotting.engine=custom input.shards=@list input.shards=*.tar".split()),
    st.builds("{}={}".format, JUNK, JUNK),
)
SUBJECTS = st.one_of(NAMES, CONFIGS, st.just("run"), st.just("quickstart"), JUNK)
VALUES = st.one_of(JUNK, NAMES, CONFIGS, SETTINGS)


@st.composite
def vectors(draw: st.DrawFn) -> list[str]:
    """A command with its arguments and options, mostly of the right number, with anything in them."""
    name = draw(st.sampled_from(sorted(COMMANDS)))
    options = [option for one in COMMANDS[name].params for option in (*one.opts, *one.secondary_opts)]
    words = [name]
    for parameter in COMMANDS[name].params:
        if parameter.param_type_name == "argument":
            words += draw(st.lists(SUBJECTS, min_size=draw(st.integers(0, 9)) > 0, max_size=1))
    for _ in range(draw(st.integers(0, 3))):
        option = draw(st.sampled_from([option for option in options if option.startswith("-")] or ["--set"]))
        value = draw(SETTINGS if option == "--set" else VALUES)
        words += draw(st.sampled_from([[option, value], [f"{option}={value}"], [option], [value]]))
    return draw(st.sampled_from([words, words, words, words[:1] + words[:0:-1]]))


@fuzz(400)
@given(vectors())
@example(["status", ""])
@example(["table1", "run", "--truth", ""])
@example(["compact", "run", "--rows", "9" * 5000])
def test_arguments(folder, arguments) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), arguments
    assert result.exit_code in STATUSES
    assert "Traceback" not in result.output
    if result.exit_code == 1:
        assert result.stderr.startswith("parrotscope: ")
        assert result.stderr.count("\n") == 1
        assert len(result.stderr) < 3000
    elif result.exit_code == 2:
        assert result.stderr.count("\n") <= ERROR_LINES + sum(word.count("\n") for word in arguments)


@pytest.mark.parametrize("command", ["status", "table1", "compact"])
@pytest.mark.parametrize("name", sorted({*NO_RUNS, *(name.partition("/")[0] for name in NO_RUNS)}))
def test_what_is_no_run_is_told_so_in_a_line(folder, command, name) -> None:
    result = CliRunner().invoke(app, [command, name])
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.startswith("parrotscope: ")
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--help"], 0),
        (["profil"], 2),
        (["status"], 2),
        (["status", "nowhere"], 1),
        (["status", "file"], 1),
        (["status", "binary"], 1),
        (["status", "a\udcffb"], 1),
        (["status", "nofs://x"], 1),
        (["status", ""], 2),
        (["table1", "run", "--name", "../x"], 1),
        (["profile", "bomb/run.yaml"], 1),
        (["extract", "quickstart", "--set", "input.shards=\udcff"], 1),
    ],
)
def test_the_real_process(folder, arguments, status) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "jobs.cli", *arguments],
        capture_output=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    assert result.returncode == status
    assert b"Traceback" not in result.stderr
    assert result.stderr.count(b"\n") <= (1 if status == 1 else ERROR_LINES)
