"""The command line: every mistake is one sentence and status 1; light commands stay light."""

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
import yaml
from typer.testing import CliRunner

from jobs.cli import app
from jobs.session import Terminated
from jobs.told import MAX_SENTENCE
from pipeline import schema
from pipeline.config_file import load, parse
from pipeline.datasets import REJECTS, SAMPLES, Dataset
from pipeline.run import Run
from pipeline.shards import Shard

ROOT = Path(__file__).resolve().parents[2]


def invoke(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["profile", "nowhere.yaml"], "No configuration file 'nowhere.yaml'; presets: cc12m, laion2b, quickstart."),
        (["profile", "../configs/quickstart"], "No configuration file"),
        (["extract", "quickstart", "--set", "clip.modle=x"], "clip.modle: no such key; did you mean 'model'?"),
        (["cluster", "quickstart", "--set", "cluster.k=many"], "cluster.k: Input should be a valid integer"),
        (["reprofile", "quickstart", "--set", "cluster"], "expected section.key=value"),
        (["profile", "quickstart", "--set", "resources.address=127.0.0.1:9"], "Ray at 127.0.0.1:9 is out of reach"),
        (["status", "nowhere"], "nowhere is no run: it has no run.yaml."),
        (["table1", "nowhere"], "nowhere has no profiles/main yet."),
        (["table1", "d[/x]"], "d[/x] has no profiles/main yet."),
        (["table1", "nowhere", "--name", "../samples"], "'../samples' is no name of profiles"),
        (["status", "\x1b[31mnowhere"], "\\x1b[31mnowhere is no run"),
        (["extract", "quickstart", "--set", "run=memory://x"], "run: memory://x is within one process"),
        (["status", "nofs://x"], "nofs"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, sentence, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert sentence in result.output
    assert result.output.count("\n") == 1
    assert "Traceback" not in result.output


def test_unknown_commands_and_options_are_usage_errors() -> None:
    assert invoke("profil", "x").exit_code == 2
    assert invoke("status", " ").exit_code == 2  # an unset variable of a shell is not the working folder
    assert invoke("extract", "quickstart", "--only", "ocr").exit_code == 2


def test_schema_prints_every_column_and_reason() -> None:
    output = invoke("schema").output
    for column in (*schema.PROFILES, *schema.REJECTS, *schema.SHARDS, *schema.embeddings(512)):
        assert f" {column.name} " in output
    for reason in schema.RejectReason:
        assert reason in output


@pytest.mark.parametrize(
    "module", ["jobs.cli", "jobs.status", "jobs.table1", "jobs.tables", "jobs.query", "jobs.report", "jobs.chain"]
)
def test_the_driver_loads_no_model_library(module) -> None:
    """The head node of a cluster plans and counts; torch and the spotters are for its workers."""
    heavy = "{'torch', 'open_clip', 'openvino', 'rapidocr', 'easyocr'}"
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("argument", [":smile:", "x\x1b[31m"])
def test_names_reach_the_terminal_as_they_are(argument: str, tmp_path) -> None:
    run = profiled_run(tmp_path / argument, profiled=["a"])
    for output in (invoke("table1", run.url).output, invoke("status", run.url).output):
        assert argument.replace("\x1b", "\\x1b") in output
        assert "\x1b" not in output


def profiled_run(folder: Path, profiled: list[str]) -> Run:
    """Shards a and b, their samples and empty profiles of some."""
    run = Run(str(folder))
    run.write_config(parse({"run": run.url, "input": {"shards": "*.tar"}}), ())
    run.write_shards([Shard(shard, f"{shard}.tar", 1, None) for shard in "ab"])
    for shard in "ab":
        with run.part(SAMPLES, shard, schema.SAMPLES) as part:
            part.describe({"counts": {"rows": 3, "rejects": 2, "reject_no_image": 2}})
    for shard in profiled:
        with run.part(Dataset("profiles", "main"), shard, schema.PROFILES):
            pass
    return run


def test_table1_of_a_part_of_a_run_says_so(tmp_path) -> None:
    half = invoke("table1", profiled_run(tmp_path / "half", ["a"]).url).output
    assert "profiles main of 1 of 2 shards" in half
    assert "This is a part of the run: 1 of its 2 shards" in half
    whole = invoke("table1", profiled_run(tmp_path / "whole", ["a", "b"]).url).output
    assert "profiles main of 2 of 2 shards" in whole
    assert "part of the run" not in whole


def test_a_truth_that_is_none_is_one_sentence(tmp_path) -> None:
    run = profiled_run(tmp_path, ["a"])
    result = invoke("table1", run.url, "--truth", run.part_path(SAMPLES, "a"))
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert "spot_status" in result.output


def test_status_counts_by_the_samples_and_passes_over_damaged_parts(tmp_path) -> None:
    run = profiled_run(tmp_path, [])
    assert not run.done(REJECTS)
    assert "samples: 6 kept, 4 rejects\n  no_image: 4\n" in invoke("status", run.url).output
    Path(run.part_path(SAMPLES, "b")).write_bytes(b"PAR1 damaged PAR1")
    result = invoke("status", run.url)
    assert result.exit_code == 0
    assert "samples: 3 kept, 2 rejects\n  not counted: 1 parts of samples that cannot be read" in result.output


def test_status_shows_stored_errors_as_plain_lines(tmp_path) -> None:
    run = profiled_run(tmp_path, [])
    run.write_json(
        {"shard": "a", "job": "extract", "errors": ["\x1b[2J:smile: https://u:p@h/?s\n"]}, "errors", "a.json"
    )
    assert "  a (extract): \\x1b[2J:smile: https://h/?…" in invoke("status", run.url).output


@pytest.mark.parametrize("content", [b"", b"\xff{", b"[]", b"7", b'{"job": "extract", "errors": []}', b'{"errors": 1}'])
def test_status_passes_over_spoilt_error_files(tmp_path, content) -> None:
    run = profiled_run(tmp_path, [])
    run.write_bytes(content, "errors", "a.json")
    result = invoke("status", run.url)
    assert (result.exit_code, "  a (its error file cannot be read)" in result.output) == (0, True)


def test_the_run_yaml_of_a_run_is_a_configuration(tmp_path) -> None:
    run = profiled_run(tmp_path, ["a"])
    assert load(run.path("run.yaml")) == run.config()


class RayError(Exception):
    __module__ = "ray.exceptions"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ImportError("Install s3fs to access S3"), 1),
        (yaml.YAMLError("no YAML"), 1),
        (duckdb.Error("no table"), 1),
        (RayError("the cluster is gone"), 1),
        (KeyboardInterrupt("stopped; the same command resumes."), 130),
        (Terminated("stopped; the same command resumes."), 143),
    ],
)
def test_what_a_user_can_act_on_is_one_sentence(error, status, monkeypatch) -> None:
    result = failing_status(error, monkeypatch)
    assert (result.exit_code, result.output) == (status, f"parrotscope: {error}\n")


def test_an_error_of_pages_is_cut(monkeypatch) -> None:
    result = failing_status(OSError("\x1b" * 100_000), monkeypatch)
    assert len(result.output) <= len("parrotscope: \n") + MAX_SENTENCE
    assert result.output.count("\n") == 1


def test_a_bug_keeps_its_traceback(monkeypatch) -> None:
    assert isinstance(failing_status(KeyError("x"), monkeypatch).exception, KeyError)


@pytest.mark.parametrize(("value", "shown"), [("0", False), ("", False), ("1", True)])
def test_tracebacks_are_shown_on_request(value: str, shown: bool, monkeypatch) -> None:
    monkeypatch.setenv("PARROTSCOPE_TRACEBACK", value)
    assert isinstance(failing_status(OSError("x"), monkeypatch).exception, OSError) == shown


def failing_status(error: BaseException, monkeypatch):
    def fail(*_) -> None:
        raise error

    monkeypatch.setattr("jobs.status.print_status", fail)
    return invoke("status", "x")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_below_a_printing_command_is_one_sentence(unbuffered) -> None:
    command, environment = [sys.executable, "-m", "jobs.cli", "schema"], os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
    assert result.returncode == 1
    assert result.stderr == "parrotscope: [Errno 28] No space left on device\n"
