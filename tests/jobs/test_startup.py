"""Mistakes that a job cannot survive are one sentence and status 1 before any work, and leave nothing behind."""

import shutil

import fsspec
import pytest
import torch

from jobs.startup import StartupError, check_storage, low_disk
from pipeline.run import Run
from tests.e2e.command import BLANK, parrotscope, write_config
from tests.pipeline.shard_factory import samples, tar
from tests.s3_server import s3_server


def test_storage_that_takes_the_run_is_left_as_it_was(tmp_path) -> None:
    check_storage(Run(str(tmp_path / "new" / "run")))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["file", "file/run", "file/deep/run"])
def test_a_file_where_the_run_is_to_be(tmp_path, place) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match=r"^run: \S+ cannot be written to: Not a directory\.$"):
        check_storage(Run(str(tmp_path / place)))
    assert [path.name for path in tmp_path.rglob("*")] == ["file"]


def test_a_bucket(tmp_path) -> None:
    with s3_server():
        check_storage(Run("s3://bucket/runs/x"))
        assert fsspec.filesystem("s3").find("bucket") == []
        with pytest.raises(StartupError, match=r"^run: s3://nowhere/x cannot be written to: .*bucket does not exist"):
            check_storage(Run("s3://nowhere/x"))


def test_a_disk_nearly_full_is_a_warning(tmp_path, monkeypatch) -> None:
    run = Run(str(tmp_path / "new" / "run"))
    free = shutil.disk_usage(tmp_path).free
    assert low_disk(run, 5 * free) is None
    assert low_disk(run, 20 * free).endswith(
        f"GB are free for {run.url}, and {20 * free / 1e9:,.1f} GB of shards may give {2 * free / 1e9:,.1f} GB"
    )
    assert low_disk(Run("https://host/run"), 20 * free) is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("input.shards={folder}/none-*.tar", "none-*.tar matches nothing"),
        ("run=/sys/parrots", "run: /sys/parrots cannot be written to: "),
        ("clip={model: ViT-B-32-quickgelu, pretrained: /nowhere/b32.pt}", "'/nowhere/b32.pt' is neither a file nor"),
        ("clip.device=cuda", "clip.device is cuda, but torch sees no CUDA device here."),
        ("resources.gpus_per_actor=1", "No node has the 1 CPUs and 1 GPUs of one actor"),
        ("resources.cpus_per_actor=512", "No node has the 512 CPUs and 0 GPUs of one actor"),
    ],
)
def test_the_command_ends_at_once_and_leaves_nothing(tmp_path, change, told) -> None:
    if ("cuda" in told or "1 GPUs" in told) and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    (tmp_path / "a.tar").write_bytes(tar(samples(2)))
    config = write_config(tmp_path, f"{tmp_path}/*.tar", BLANK)
    before = sorted(tmp_path.rglob("*"))
    said = parrotscope(
        "extract", str(config), "--set", change.replace("{folder}", str(tmp_path)), folder=tmp_path, status=1
    )
    errors = [line for line in said.splitlines() if line.startswith("parrotscope: ")]
    assert len(errors) == 1
    assert told in errors[0]
    assert "Traceback" not in said
    assert sorted(tmp_path.rglob("*")) == before
