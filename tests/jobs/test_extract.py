"""Extract with an import: which models the passes over the shards hold, and when the import comes."""

import pytest

from jobs import extract
from jobs.console import make_console
from jobs.job import JobError
from pipeline.config import Config
from pipeline.config_file import parse


@pytest.fixture
def steps(monkeypatch) -> list[tuple]:
    """What was done, in order."""
    done: list[tuple] = []
    monkeypatch.setattr(extract, "_run_pass", lambda config, console, parts, gate=None: done.append(("pass", *parts)))
    monkeypatch.setattr(extract, "run_import", lambda config, console: done.append(("import",)))
    return done


def config(**clip) -> Config:
    return parse({"run": "r", "input": {"shards": "x"}, "clip": clip})


IMPORTED = config(imported={"format": "datacomp", "folder": "f"})


@pytest.mark.parametrize(
    ("settings", "parts", "expected"),
    [
        (config(), ("clip", "spot"), [("pass", "clip", "spot")]),
        (IMPORTED, ("clip", "spot"), [("pass", "spot"), ("import",)]),
        (IMPORTED, ("clip",), [("pass",), ("import",)]),
        (IMPORTED, ("spot",), [("pass", "spot")]),
    ],
)
def test_an_import_takes_the_place_of_clip(steps, settings, parts, expected) -> None:
    extract.run_extract(settings, make_console(), parts)
    assert steps == expected


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (("clip", "spot"), [("pass",), ("import",), ("pass", "spot")]),
        (("clip",), [("pass",), ("import",)]),
        (("spot",), [("pass", "spot")]),
    ],
)
def test_a_gate_waits_for_the_embeddings_that_are_imported(steps, monkeypatch, parts, expected) -> None:
    monkeypatch.setattr(extract, "load_gate", lambda run, config: "gate")
    extract.run_extract(IMPORTED, make_console(), parts)
    assert steps == expected


def test_shards_set_aside_keep_no_other_from_its_embeddings(steps, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise JobError("1 of 2 shards were set aside")

    monkeypatch.setattr(extract, "_run_pass", fail)
    with pytest.raises(JobError, match="1 of 2 shards were set aside"):
        extract.run_extract(IMPORTED, make_console())
    assert steps == [("import",)]
