"""The notebooks: stored without outputs, and executed as they stand on a finished demo run."""

import base64
import io
import re
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

from pipeline.datasets import Dataset
from pipeline.run import Run
from tests.e2e.command import REPOSITORY
from tests.e2e.conftest import Chain

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def run(chain: Chain, tmp_path_factory) -> Run:
    """A copy of the run where notebooks look for it by default: ../runs/quickstart."""
    folder = tmp_path_factory.mktemp("notebooks")
    (folder / "notebooks").mkdir()
    shutil.copytree(chain.run.url, folder / "runs/quickstart")
    return Run(str(folder / "runs/quickstart"))


class Executed:
    """What the cells of a notebook put out, by id: as text and as images."""

    def __init__(self, notebook: NotebookNode) -> None:
        self._outputs = {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}

    def text(self, cell: str) -> str:
        return "\n".join(
            part
            for output in self._outputs[cell]
            for part in (output.get("text", ""), *map(output.get("data", {}).get, ("text/plain", "text/html")))
            if part
        )

    def images(self) -> list[Image.Image]:
        data = [output.get("data", {}).get("image/png") for outputs in self._outputs.values() for output in outputs]
        return [Image.open(io.BytesIO(base64.b64decode(png))) for png in data if png]


def execute(name: str, folder: Path) -> Executed:
    """Run a notebook in `folder` by a kernel of this Python; an error in a cell is one here."""
    notebook = nbformat.read(REPOSITORY / f"notebooks/{name}.ipynb", as_version=4)
    NotebookClient(notebook, timeout=180, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    return Executed(notebook)


@pytest.fixture(autouse=True)
def environment(monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.delenv("PARROTSCOPE_RUN", raising=False)


@pytest.fixture
def rows(run: Run) -> list[dict]:
    return run.dataset(Dataset("profiles", "main")).to_table().to_pylist()


def test_there_are_three() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["first_look", "fuzzy_threshold", "laion_tables"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_without_outputs_and_as_nbformat_writes_it(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert re.fullmatch("[a-z][a-z0-9-]*", cell.id)
        assert cell.metadata == {}
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    assert notebook.metadata.keys() == {"kernelspec", "language_info"}
    assert nbformat.writes(notebook) + "\n" == path.read_text()


def test_a_first_look(run: Run, rows) -> None:
    executed = execute("first_look", Path(run.root).parents[1] / "notebooks")
    headline = executed.text("headline")
    assert f"{len(rows)}" in headline
    assert f"{100 * np.mean([row['text_class'] != 'none' for row in rows]):.4g}" in headline
    assert f"{100 * np.mean([row['cotr'] for row in rows]):.4g}" in headline
    assert "15.42" in headline
    assert len(executed.images()) == 1
    captions = {row["caption"] for row in rows if row["spotted"]}
    assert sum(caption in executed.text("captions") for caption in captions) >= 6
    assert executed.text("clusters").count("<tr>") >= 4


def test_the_tables_of_laion(run: Run, rows, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PARROTSCOPE_RUN", run.url)
    executed = execute("laion_tables", tmp_path)
    table = executed.text("table1")
    for value in (np.mean([row["cotr"] for row in rows]), np.mean([row["fuzzy_cotr"] for row in rows]), 0.1542, 0.3046):
        assert f"{value:.2%}" in table
    assert "LAION-2B (published)" in table
    assert "images could not be spotted" in executed.text("notes")
    assert [image.size for image in executed.images()] == [(1500, 870)] * 5


def test_thresholds(run: Run, rows, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PARROTSCOPE_RUN", run.url)
    executed = execute("fuzzy_threshold", tmp_path)
    exact, fuzzy = (np.mean([row[name] for row in rows]) for name in ("cotr", "fuzzy_cotr"))
    sweep = executed.text("sweep")
    assert f"{exact:.4f}" in sweep
    assert f"{fuzzy:.4f}" in sweep
    loose = run.dataset(Dataset("profiles", "loose")).to_table()["fuzzy_cotr"].to_numpy().mean(dtype=float)
    assert loose > fuzzy > exact
    for text in (f"{fuzzy:.2%}", f"{loose:.2%}", "30.46%", "15.42%"):
        assert text in executed.text("compared")
    assert len(executed.images()) == 1
