"""What goes along with a submitted job, and what is refused before it goes."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from jobs.cli import app
from jobs.submit import _elsewhere, _pack
from pipeline.config_file import load, parse

DASHBOARD = "http://127.0.0.1:9"
REMOTE = {"run": "s3://bucket/run", "input": {"shards": "s3://bucket/{00..99}.tar"}}


def submit(folder: Path, values: dict, *options: str):
    (folder / "c.yaml").write_text(yaml.safe_dump(values))
    return CliRunner().invoke(app, ["submit", str(folder / "c.yaml"), "--address", DASHBOARD, *options])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("run=runs/x", "run: runs/x is a path of this machine"),
        ("input.shards=demo/*.tar", "input.shards: demo/*.tar is a path"),
        ("input.root=/data", "input.root: /data is"),
        ("clip.pretrained=/weights/b32.pt", "clip.pretrained: /weights/b32.pt is"),
        ("clip.model_config_file=m.json", "clip.model_config_file: m.json is"),
        ("clip.imported={format: datacomp, folder: emb}", "clip.imported.folder: emb is"),
        ("cluster.imported={centroids: c.npy, model: ViT-B-32}", "cluster.imported.centroids: c.npy is"),
        ("spotting={engine: easyocr, model_directory: /models}", "spotting.model_directory: /models is"),
        ("spotting.gate=runs/pilot/gate.json", "spotting.gate: runs/pilot/gate.json is"),
    ],
)
def test_a_path_of_this_machine_is_refused_by_its_name(tmp_path, change, told) -> None:
    result = submit(tmp_path, REMOTE, "--set", change)
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert told in result.output
    assert "--shared-disk" in result.output


def test_a_configuration_of_urls_and_tags_goes(tmp_path) -> None:
    result = submit(tmp_path, REMOTE, "--set", "clip.pretrained=openai")
    assert "Ray at 127.0.0.1:9 is out of reach" in result.output


@pytest.mark.parametrize("address", ["ray://127.0.0.1:10001", "127.0.0.1:8265", "os.path://x", "http://"])
def test_the_address_is_that_of_the_dashboard(tmp_path, address) -> None:
    result = submit(tmp_path, REMOTE, "--address", address)
    assert (result.exit_code, "expected the dashboard's" in result.output) == (1, True)


@pytest.mark.parametrize("options", [("--only", "clip"), ("--job", "reprofile", "--partial")])
def test_options_of_another_command_are_usage_errors(tmp_path, options) -> None:
    assert submit(tmp_path, REMOTE, *options).exit_code == 2


def test_on_a_shared_disk_paths_become_absolute(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shards.txt").write_text("a/{0..3}.tar\ns3://bucket/*.tar\n")
    config = _elsewhere(parse({"run": "file://runs/x", "input": {"shards": "@shards.txt"}}), shared_disk=True)
    assert config.run == str(tmp_path / "runs/x")
    assert config.input.shards == (str(tmp_path / "a/{0..3}.tar"), "s3://bucket/*.tar")
    assert config.clip.pretrained == "openai"
    assert config.resources.address == "auto"


def test_what_goes_along_is_code_configuration_and_the_users_own_spotter(tmp_path, monkeypatch) -> None:
    (tmp_path / "my_spotter.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    config = parse(REMOTE | {"spotting": {"engine": "custom", "target": "my_spotter:QRSpotter"}})
    folder = tmp_path / "packed"
    folder.mkdir()
    _pack(config, folder)
    assert {path.name for path in folder.iterdir()} == {"pipeline", "jobs", "my_spotter.py", "submitted.yaml"}
    assert load(folder / "submitted.yaml") == config
    assert not list(folder.rglob("__pycache__"))
    assert not list(folder.rglob("*.safetensors"))
    # The spotter's models go along: nodes could not fetch them.
    assert {path.suffix for path in (folder / "pipeline/spotting/models").iterdir()} == {".onnx", ".txt", ".md"}
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 10_000_000


def test_secrets_of_urls_are_not_shown(tmp_path) -> None:
    signed = {"run": "runs/x", "input": {"shards": "https://host/a.tar?X-Signature=the-secret"}}
    for values in (signed, signed | {"run": "s3://id:the-secret@bucket/x"}):
        assert "the-secret" not in submit(tmp_path, values).output
