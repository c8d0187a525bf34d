"""The command line: every mistake is one sentence and status 1; light commands stay light."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from pipeline import schema

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
    assert invoke("extract", "quickstart", "--only", "ocr").exit_code == 2


def test_schema_prints_every_column_and_reason() -> None:
    output = invoke("schema").output
    for column in (*schema.PROFILES, *schema.REJECTS, *schema.SHARDS, *schema.embeddings(512)):
        assert f" {column.name} " in output
    for reason in schema.RejectReason:
        assert reason in output


@pytest.mark.parametrize("module", ["jobs.cli", "jobs.status", "jobs.table1", "jobs.chain"])
def test_the_driver_loads_no_model_library(module) -> None:
    """The head node of a cluster plans and counts; torch and the spotters are for its workers."""
    heavy = "{'torch', 'open_clip', 'openvino', 'rapidocr', 'easyocr'}"
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.strip() == "[]"
