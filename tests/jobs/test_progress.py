"""What a job says without a terminal, and the errors it keeps."""

import io

from rich.console import Console

from jobs.progress import Reporter
from jobs.stragglers import Flight
from jobs.tasks import Task
from pipeline.run import Run
from pipeline.shards import Shard

SHARDS = [Shard("a", "a.tar", 300, None), Shard("b", "b.tar", 100, None)]


def reporter(tmp_path) -> tuple[Reporter, io.StringIO, Run]:
    run, out = Run(str(tmp_path)), io.StringIO()
    return Reporter("extract", run, SHARDS, Console(file=out, width=200)), out, run


def test_lines_count_finished_and_running_shards(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("jobs.progress.LOG_SECONDS", 0.0)
    now = iter(range(1000, 10_000, 5))
    monkeypatch.setattr("jobs.progress.time.monotonic", lambda: float(next(now)))
    report, out, _ = reporter(tmp_path)
    with report:
        report.running({}, 0, 0, [])
        report.running({"a": (0, 0, 0), "b": (0, 0, 0)}, 2, 0, [Flight("a", 300, 0, 5), Flight("b", 100, 0, 5)])
        report.finished(Task("b", ()), {"rows": 40, "rejects": 2})
        report.running({"a": (60, 1, 100)}, 1, 1, [Flight("a", 300, 100, 15)])
    loading, _, middle, last = out.getvalue().splitlines()
    assert loading == "extract: loading models"
    assert middle.startswith("extract: 100 samples, ")
    assert "3 rejects, 1/2 shards, 1 at work, 1 idle, ETA " in middle
    assert middle.endswith(", slowest a at 33% after 15 s (0.0 MB/s)")
    assert last.startswith("extract: 40 samples, ")


def test_errors_are_kept_and_gone_when_the_shard_succeeds(tmp_path) -> None:
    report, out, run = reporter(tmp_path)
    task = Task("a", (), errors=["OSError: :smile: [bold]\x1b[2J https://u:p@h/?sig"])
    with report:
        report.retried(task)
        assert run.failed() == {"a"}
        task.errors.append("OSError: again")
        report.failed(task)
        kept = ["OSError: :smile: [bold]\x1b[2J https://h/?…", "OSError: again"]  # without what opens the URL
        assert run.read_json("errors", "a.json")["errors"] == kept
    assert "shard a: OSError: :smile: [bold]\\x1b[2J https://h/?…; to be tried again" in out.getvalue()
    assert "set aside after 2 tries: OSError: again" in out.getvalue()
    # A later job succeeds at its first try.
    later, _, _ = reporter(tmp_path)
    with later:
        later.finished(Task("a", ()), {"rows": 1})
    assert run.failed() == set()


def test_storage_that_fails_an_error_file_ends_no_job(tmp_path) -> None:
    report, out, _ = reporter(tmp_path)
    (tmp_path / "errors").write_text("no folder")
    task = Task("a", (), errors=["OSError: x"])
    report.retried(task)
    report.finished(task, {"rows": 1})
    assert out.getvalue().count("the error file of shard a is not as it should be: ") == 2
