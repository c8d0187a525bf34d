"""A gate learnt from a finished run, and runs through it: on a real local Ray, with the embedded CLIP."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from jobs.extract import run_extract
from jobs.gate import run_gate
from jobs.job import JobError
from jobs.report import run_report
from pipeline.config import Config
from pipeline.config_file import load
from pipeline.datasets import SAMPLES, Dataset
from pipeline.fingerprint import FingerprintError
from pipeline.gate import GateError
from pipeline.gate.file import Gate, read_gate
from pipeline.report.gallery import GallerySettings
from pipeline.run import Run
from pipeline.tables.table1 import check_identities, table1
from tests.e2e.command import parrotscope, truth_spotter, write_config
from tests.pipeline.imported.foreign import Foreign

EMBEDDINGS, SPOTTED, PROFILES = Dataset("embeddings", "main"), Dataset("spotted", "main"), Dataset("profiles", "main")
RECALL = "0.9"
"""What the demo's some 67 images with text of the part that chooses the threshold can show."""


@pytest.fixture(scope="module")
def learnt(chain, tmp_path_factory) -> tuple[Path, str]:
    """The gate of the chain's run, and what was said of it."""
    folder = tmp_path_factory.mktemp("gate")
    file = folder / "gate.json"
    return file, parrotscope("gate", chain.run.url, "--recall", RECALL, "--output", str(file), folder=folder)


@pytest.fixture(scope="module")
def gate(learnt) -> Gate:
    return read_gate(str(learnt[0]))


def gated_config(demo: Path, folder: Path, file: Path | str, run: str = "run", **sections) -> Path:
    return write_config(folder, f"{demo}/*.tar", {**truth_spotter(demo), "gate": str(file)}, run, **sections)


@pytest.fixture(scope="module")
def gated(demo, learnt, tmp_path_factory) -> tuple[Run, str]:
    """`parrotscope profile` over the demo through the gate: the run, and what was said."""
    folder = tmp_path_factory.mktemp("gated")
    config = gated_config(demo, folder, learnt[0])
    output = parrotscope("profile", str(config), folder=folder)
    return Run(str(folder / "run")), output


def test_the_command_says_what_it_measured(learnt, gate) -> None:
    _, said = learnt
    for shown in (
        f"{gate.measured.recall:.2%}",
        f"{gate.measured.recall_low_95:.2%} to {gate.measured.recall_high_95:.2%}",
        f"{gate.measured.word_recall:.2%}",
        f"{gate.measured.skipped:.2%}",
    ):
        assert shown in said
    assert sum(gate.rows[part] for part in ("training", "choosing", "measuring")) == 500
    assert gate.clip["weights"]
    assert gate.spotter["engine"] == "truth"


def learn(url: str, recall: float = float(RECALL), output: str | None = None) -> str:
    """What `parrotscope gate` says, in this process."""
    out = io.StringIO()
    run_gate(url, recall, None, output, Console(file=out, width=200))
    return out.getvalue()


def test_what_cannot_be_shown_or_would_replace_a_part_is_refused(chain, tmp_path) -> None:
    with pytest.raises(GateError, match=r"A recall of 99.50% cannot be shown: of 500 usable images 334 .* takes 598"):
        learn(chain.run.url, 0.995, str(tmp_path / "gate.json"))
    with pytest.raises(ValueError, match=r"run.yaml' does not end in .json"):
        learn(chain.run.url, output=chain.run.path("run.yaml"))
    assert not list(tmp_path.iterdir())
    assert not chain.run.fs.exists(chain.run.path("gate.json"))


def test_rows_that_are_not_skipped_are_those_of_the_run_without_a_gate(chain, gated, gate) -> None:
    run, _ = gated
    open_, through = (each.dataset(SPOTTED).to_table().sort_by("uid").to_pylist() for each in (chain.run, run))
    skipped = [row for row in through if row["spot_status"] == "skipped"]
    assert len(through) == 500
    assert 20 < len(skipped) < 250
    for row, without in zip(through, open_, strict=True):
        if row["spot_status"] == "skipped":
            assert (row["uid"], row["spotted"], row["spot_message"]) == (without["uid"], [], None)
        else:
            assert row == without
    missed = sum(bool(without["spotted"]) for row, without in zip(through, open_, strict=True) if row in skipped)
    # Of all its rows, those it was learnt from included.
    assert missed / 334 < 1 - gate.wanted_recall


def test_tables_count_the_skipped_and_tell_of_the_recall(chain, gated, gate) -> None:
    run, said = gated
    table, without = table1(run.dataset(PROFILES)), table1(chain.run.dataset(PROFILES))
    check_identities(table)
    skipped = run.dataset(SPOTTED).to_table()["spot_status"].to_pylist().count("skipped")
    assert (table.spot_skipped, without.spot_skipped, table.measured) == (skipped, 0, 500)
    assert without.with_text >= table.with_text >= gate.wanted_recall * without.with_text
    told = f"through a gate, which lets through {gate.measured.recall:.2%} of images with text"
    assert told in said
    assert "Skipped by the text gate (as without text)" in said
    assert "through a gate" not in chain.output
    page = Path(run.root).parent / "report.html"
    run_report(run.url, "main", str(page), GallerySettings(clusters=1, images=1), Console(file=io.StringIO()))
    assert told in page.read_text()


def test_the_fingerprint_holds_digest_and_recall(gated, gate) -> None:
    run, _ = gated
    assert run.read_json(SPOTTED, "_dataset.json")["fields"]["gate"] == gate.fields()
    with pytest.raises(GateError, match=r"spotted/main of \S+ was spotted through a gate, which hides what it missed"):
        learn(run.url)


pytest_ray = pytest.mark.usefixtures("local_ray")


def extract(file: Path, parts=("clip", "spot"), *overrides: str) -> tuple[Run, str]:
    config: Config = load(str(file), overrides)
    out = io.StringIO()
    run_extract(config, Console(file=out, width=1000), parts)
    return Run(config.run), out.getvalue()


def parts_of(run: Run) -> dict[str, pa.Table]:
    return {shard: run.read_part(SPOTTED, shard) for shard in sorted(run.done(SPOTTED))}


@pytest_ray
def test_two_passes_make_the_parts_of_one(demo, learnt, gated, gate, tmp_path) -> None:
    file = gated_config(demo, tmp_path, learnt[0])
    with pytest.raises(JobError, match="4 shards have no embeddings yet, 00000 first, and the text gate goes by them"):
        extract(file, ("spot",))
    assert not (tmp_path / "run").exists()
    extract(file, ("clip",))
    run, said = extract(file, ("spot",))
    assert gate.told() in said
    one, two = parts_of(gated[0]), parts_of(run)
    assert one.keys() == two.keys()
    assert all(one[shard].equals(two[shard]) for shard in one)
    run.remove(EMBEDDINGS, "00002.parquet")
    run.remove(SPOTTED, "00002.parquet")
    run.remove(SPOTTED, "00003.parquet")
    with pytest.raises(JobError, match="1 shards have no embeddings yet, 00002 first"):
        extract(file, ("spot",))
    assert run.done(SPOTTED) == {"00000", "00001", "00003"}
    extract(file)
    assert all(one[shard].equals(part) for shard, part in parts_of(run).items())
    assert "extract: 4 shards, 0 to do" in extract(file)[1]


@pytest_ray
def test_a_gate_that_does_not_fit_is_refused_before_a_worker_starts(demo, learnt, gate, chain, tmp_path) -> None:
    def changed(name: str, **changes) -> str:
        file = tmp_path / f"{name}.json"
        file.write_text(gate.model_copy(update=changes).model_dump_json())
        return f"spotting.gate={file}"

    file = gated_config(demo, tmp_path, tmp_path / "nowhere.json")
    here = f"run={chain.run.url}"
    another = "spotting.name=another"
    with pytest.raises(GateError, match=r"there is no file \S+nowhere.json"):
        extract(file)
    # No embeddings are there: a worker looks, once its CLIP is loaded.
    with pytest.raises(Exception, match="learnt from embeddings of precision = 'none'"):
        extract(file, ("clip", "spot"), changed("precision", clip={**gate.clip, "precision": "none"}))
    assert not (tmp_path / "run").exists()
    for change, told in (
        (changed("model", clip={**gate.clip, "model": "ViT-B-32"}), "learnt from embeddings of model = 'ViT-B-32'"),
        (changed("dim", weights=gate.weights[1:]), "weights for 127 dimensions, and embeddings have 128"),
    ):
        with pytest.raises(GateError, match=told):
            extract(file, ("clip", "spot"), here, another, change)
    with pytest.raises(GateError, match="learnt from text of engine = 'easyocr', here it is 'truth'"):
        extract(file, ("clip", "spot"), here, changed("spotter", spotter={"engine": "easyocr"}))
    with pytest.raises(FingerprintError, match=r"spotted/main was made with gate = None, now it is .*another name"):
        extract(file, ("clip", "spot"), here, f"spotting.gate={learnt[0]}")
    assert chain.run.done(Dataset("spotted", "another")) == set()


@pytest_ray
def test_another_gate_does_not_continue_what_one_began(gated, demo, gate, tmp_path) -> None:
    run, _ = gated
    other = tmp_path / "other.json"
    other.write_text(gate.model_copy(update={"threshold": gate.threshold - 1}).model_dump_json())
    file = gated_config(demo, tmp_path, other)
    for change, field in ((f"spotting.gate={other}", r"gate\.digest"), ("spotting.gate=null", "gate")):
        with pytest.raises(Exception, match=f"spotted/main was made with {field} = "):
            extract(file, ("spot",), f"run={run.url}", change)


@pytest_ray
def test_imported_embeddings_decide_and_those_that_lack_one_are_spotted(chain, demo, tmp_path) -> None:
    samples = [row for shard in chain.run.shards() for row in chain.run.read_part(SAMPLES, shard.id).to_pylist()]
    vectors = [row for shard in chain.run.shards() for row in chain.run.read_part(EMBEDDINGS, shard.id).to_pylist()]
    image, text = (np.array([row[f"{kind}_embedding"] for row in vectors], np.float32) for kind in ("image", "text"))
    theirs = Foreign([row["uid"] for row in samples], [row["caption"] for row in samples], image, text)
    theirs.take(range(480)).write_datacomp(str(tmp_path / "import"), per_file=120, dtype="float32")
    clip = {"model": "embedded", "imported": {"format": "datacomp", "folder": str(tmp_path / "import")}}
    file = write_config(tmp_path, f"{demo}/*.tar", truth_spotter(demo), "pilot", clip=clip)
    pilot, _ = extract(file)
    learn(pilot.url)
    gate = read_gate(pilot.path("gate.json"))
    assert gate.rows["without_embedding"] == 20
    run, said = extract(gated_config(demo, tmp_path, pilot.path("gate.json"), clip=clip))
    assert said.index("import: 4 shards") < said.index(gate.told())
    status = {row["uid"]: row["spot_status"] for row in run.dataset(SPOTTED).to_table().to_pylist()}
    assert len(status) == 500
    assert all(status[row["uid"]] == "ok" for row in samples[480:])
    assert 20 < list(status.values()).count("skipped") < 250
    without = pilot.dataset(SPOTTED).to_table().to_pylist()
    through = {row["uid"]: row for row in run.dataset(SPOTTED).to_table().to_pylist()}
    assert all(through[row["uid"]] == row for row in without if status[row["uid"]] == "ok")
