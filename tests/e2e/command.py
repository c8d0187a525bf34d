"""Run the console command as a user does, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]


def start(*arguments: str, folder: Path) -> subprocess.Popen[str]:
    """`parrotscope ARGUMENTS` in `folder`; its workers can import the tests' spotters."""
    return subprocess.Popen(
        [sys.executable, "-m", "jobs.cli", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def parrotscope(*arguments: str, folder: Path, status: int = 0) -> str:
    """What the command prints; asserts on its exit status."""
    process = start(*arguments, folder=folder)
    out, error = process.communicate(timeout=600)
    assert process.returncode == status, f"exit {process.returncode}\n{out}\n{error}"
    return out if status == 0 else out + error


def write_config(folder: Path, shards: str, spotting: dict, run: str = "run", **sections: dict) -> Path:
    """A configuration of the embedded CLIP and a spotter of the tests."""
    values = {
        "run": str(folder / run),
        "input": {"shards": shards},
        "clip": {"model": "embedded"},
        "spotting": spotting,
        "cluster": {"k": 4, "pca_dim": 16, "sample_size": 1000},
        **sections,
    }
    file = folder / f"{run}.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def truth_spotter(demo: Path, seconds: float = 0.0) -> dict:
    settings = {"demo": str(demo), "seconds": seconds}
    return {"engine": "custom", "target": "tests.e2e.truth_spotter:TruthSpotter", "settings": settings}


BLANK = {"engine": "custom", "target": "tests.e2e.blank_spotter:BlankSpotter"}
