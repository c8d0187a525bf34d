"""The demo drawn once, and one undisturbed run of the whole chain over it."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.demo.shards import draw_demo
from pipeline.run import Run
from tests.e2e.command import parrotscope, truth_spotter, write_config


@dataclass(frozen=True)
class Chain:
    """A finished run: where it lies, its config, its shards and what the command printed."""

    run: Run
    config: Path
    demo: Path
    output: str


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    draw_demo(folder)
    return folder


@pytest.fixture(scope="session")
def chain(demo, tmp_path_factory) -> Chain:
    """`parrotscope profile` over the demo with the spotter replaced by the truth."""
    folder = tmp_path_factory.mktemp("chain")
    config = write_config(folder, f"{demo}/*.tar", truth_spotter(demo))
    output = parrotscope("profile", str(config), folder=folder)
    return Chain(Run(str(folder / "run")), config, demo, output)
