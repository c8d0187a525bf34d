"""`parrotscope report`: where the page is written, over which runs, and what is refused."""

from pathlib import Path

import fsspec
import pytest
from typer.testing import CliRunner

from jobs.cli import app
from pipeline import schema
from pipeline.datasets import Dataset
from tests.pipeline.runs import FAILED, profile, write_run
from tests.s3_server import s3_server

ROW = profile("a", 0, cluster_id=0, clip_score=0.3, cluster_distance=0.1)


def report(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(app, ["report", *arguments])
    assert result.exit_code == status, result.output
    return result.output


def test_the_page_lies_in_the_run_or_where_it_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_run("run", [ROW], dataset=Dataset("profiles", "exact"))
    write_run("run", [ROW])
    assert report("run/").startswith("run/report.html: ")
    assert report("run", "--name", "exact").startswith("run/report-exact.html: ")
    assert report("run", "--output", "new folder/ü.html").startswith("new folder/ü.html: ")
    assert report("run", "--output", "here.html", "--clusters", "0").startswith("here.html: ")
    pages = ["run/report.html", "run/report-exact.html", "new folder/ü.html", "here.html"]
    for page in pages:
        text = Path(page).read_text()
        assert text.startswith("<!DOCTYPE html>")
        assert text.rstrip().endswith("</html>")
    assert {path.name for path in Path("run").iterdir()} >= {"run.yaml", "profiles", "report.html"}


@pytest.mark.parametrize(
    "rows",
    [
        [profile("a", 0, **FAILED)],
        [profile("a", 0, cluster_id=3, **FAILED), profile("b", 0, clip_status="missing")],
    ],
)
def test_runs_of_failures_have_a_report(rows) -> None:
    report(write_run("memory://report/run", rows).url)
    with fsspec.open("memory://report/run/report.html", "rt") as file:
        assert "</html>" in file.read()


def test_a_run_of_no_sample_has_a_report(tmp_path) -> None:
    run = write_run(str(tmp_path / "run"))
    with run.part(Dataset("profiles", "main"), "a", schema.PROFILES) as part:
        part.write([])
    report(run.url)
    text = Path(run.path("report.html")).read_text()
    assert "No image has a cluster." in text
    assert "Nothing was rejected." in text


def test_a_run_on_s3() -> None:
    with s3_server():
        run = write_run("s3://bucket/run", [ROW])
        assert "s3://bucket/run/report.html" in report(run.url)
        assert b"</html>" in run.fs.cat_file(run.path("report.html"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "nowhere has no profiles/main yet."),
        (["nowhere", "--name", "../x"], "'../x' is no name of profiles"),
        (["run", "--output", "run/run.yaml"], "'run/run.yaml' does not end in .html: a report is a page."),
    ],
)
def test_a_mistake_is_one_sentence(arguments, sentence, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    write_run("run", [ROW])
    before = Path("run/run.yaml").read_text()
    output = report(*arguments, status=1)
    assert sentence in output
    assert output.count("\n") == 1
    assert Path("run/run.yaml").read_text() == before
    assert CliRunner().invoke(app, ["report", "run", "--output", " "]).exit_code == 2
