"""The command `gate`: where its file goes, what it shows, and what it refuses."""

import uuid

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from pipeline.gate.file import read_gate
from tests.pipeline.gate.drawn import draw_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return draw_run(str(tmp_path_factory.mktemp("pilot") / "run"), 2_000, apart=12.0, missing=1, failed=2)


def gate(*arguments: str):
    return CliRunner().invoke(app, ["gate", *arguments], env={"COLUMNS": "200"})


@pytest.mark.parametrize("place", [None, "{tmp}/new/other.json", "memory://gates/{uuid}.json"])
def test_the_file_is_a_gate_wherever_it_goes(run, tmp_path, place) -> None:
    output = place and place.format(tmp=tmp_path, uuid=uuid.uuid4().hex)
    said = gate(run.url, "--recall", "0.95", *(["--output", output] if output else []))
    assert said.exit_code == 0, said.output
    learnt = read_gate(output or run.path("gate.json"))
    assert f"{learnt.measured.skipped:.2%}" in said.output
    assert "4, 8" in said.output  # left out
    assert f"--set spotting.gate={output or run.url + '/gate.json'}" in said.output


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["--recall", "1"], 2, ""),
        (["--output", "run.yaml"], 1, "'run.yaml' does not end in .json"),
        (["--spotted", "pilot"], 1, "has no spotted/pilot yet: extract a part of the shards"),
        (["--recall", "0.999"], 1, "A recall of 99.90% cannot be shown"),
    ],
)
def test_mistakes_are_one_sentence(run, arguments, status, told) -> None:
    said = gate(run.url, *arguments)
    assert (said.exit_code, told in said.output) == (status, True)
    assert status == 2 or said.output.count("\n") == 1


def test_a_folder_that_is_no_run(tmp_path) -> None:
    assert "is no run: it has no run.yaml" in gate(str(tmp_path)).output
