"""A gate at work in a pass over a shard: who is skipped, by which embeddings, and that nobody else is touched."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline import schema
from pipeline.claims import claim
from pipeline.config import Config
from pipeline.crashes import Crashes, Place
from pipeline.datasets import SAMPLES, Dataset, embeddings_of, spotted_of
from pipeline.extract import Extractor
from pipeline.fingerprint import digest
from pipeline.gate.file import Gate, clip_part, scores
from pipeline.gate.spotting import StoredEmbeddings, TextGate
from pipeline.overlap import has_text
from pipeline.run import Run, RunError
from pipeline.shards import list_shards
from pipeline.vectors import to_column, to_matrix
from tests.pipeline.gate.test_file import gate
from tests.pipeline.shard_factory import samples, tar
from tests.pipeline.test_crashes import Told
from tests.pipeline.test_extract import MeanClip, SizeSpotter, config

DARK = [0, 1, 4, 5, 6]
"""Pictures with little red in them: those that the gate skips. Number of the sample in MEMBERS."""
MEMBERS = [*samples(2), *samples(2, start=240), *samples(3, start=2), *samples(3, start=242)]

RED = gate(clip=clip_part(MeanClip().fields()), spotter=SizeSpotter().fingerprint(), threshold=0.5, bias=0.0,
           weights=(1.0, 0.0, 0.0, 0.0))  # fmt: skip


@pytest.fixture
def settings(tmp_path) -> Config:
    (tmp_path / "a.tar").write_bytes(tar(MEMBERS))
    return config(tmp_path, batch_size=3)


def extract(settings: Config, name: str, lacking: list[Dataset], red: Gate | None = RED, clip=None, **crashes):
    """One pass: the run, the spotter, and the counts. Without a clip no embeddings are computed."""
    (shard,) = list_shards(settings.input.shards)
    run, spotter, embeddings = Run(f"{settings.run}-{name}"), Told(), embeddings_of(settings)
    extractor = Extractor(settings, clip, spotter, red and TextGate(red, run, embeddings))
    for dataset, fields in extractor.fields().items():
        if dataset in lacking:
            claim(run, settings, dataset, fields)
    counts = extractor.extract(run, shard, lacking, lambda *_: None, Crashes(**crashes))
    return run, spotter, counts


def in_one_pass(settings: Config, name: str = "one", red: Gate | None = RED, **crashes):
    everything = [SAMPLES, embeddings_of(settings), spotted_of(settings)]
    return extract(settings, name, everything, red, MeanClip(), **crashes)


def in_two_passes(settings: Config, name: str = "two", red: Gate | None = RED):
    extract(settings, name, [SAMPLES, embeddings_of(settings)], None, MeanClip())
    return extract(settings, name, [spotted_of(settings)], red)


def spotted(run: Run, settings: Config) -> pa.Table:
    return run.read_part(spotted_of(settings), "a")


def test_skipped_images_are_told_apart_and_the_others_are_as_without_a_gate(settings) -> None:
    run, spotter, counts = in_one_pass(settings)
    whole, _, _ = in_one_pass(settings, "whole", red=None)
    gated, open_ = (spotted(each, settings).to_pylist() for each in (run, whole))
    for number, (row, without) in enumerate(zip(gated, open_, strict=True)):
        if number in DARK:
            assert (row.pop("spot_status"), row.pop("spotted"), row["spot_message"]) == ("skipped", [], None)
            assert without.pop("spot_status") == "ok"
            assert len(without.pop("spotted")) == 1
        assert row == without
    assert spotter.batch_sizes == [1, 1, 2, 1]
    assert counts["spot_skipped"] == len(DARK)
    assert run.footer(spotted_of(settings), "a")["counts"]["spot_skipped"] == len(DARK)
    assert not has_text(spotted(run, settings)["spotted"])[DARK].any()
    assert "spot_skipped" not in whole.footer(spotted_of(settings), "a")["counts"]


def test_the_gate_is_part_of_the_fingerprint_and_its_absence_of_none(settings) -> None:
    run, _, _ = in_one_pass(settings)
    whole, _, _ = in_one_pass(settings, "whole", red=None)
    fields = Extractor(settings, None, SizeSpotter(), TextGate(RED, run, embeddings_of(settings))).fields()
    assert fields[spotted_of(settings)]["gate"] == RED.fields()
    assert run.footer(spotted_of(settings), "a")["fingerprint"] == digest(fields[spotted_of(settings)])
    without = {name: value for name, value in fields[spotted_of(settings)].items() if name != "gate"}
    assert whole.footer(spotted_of(settings), "a")["fingerprint"] == digest(without)


def test_one_pass_and_two_decide_alike(settings) -> None:
    one, spotter, _ = in_one_pass(settings)
    two, later, _ = in_two_passes(settings)
    assert spotted(one, settings).equals(spotted(two, settings))
    assert spotter.batch_sizes == later.batch_sizes


def test_it_is_the_stored_embedding_that_decides(settings) -> None:
    """A threshold between the score of an embedding as it is computed and as it is stored in float16."""
    run, _, _ = in_one_pass(settings, "stored", red=None)
    stored = to_matrix(run.read_part(embeddings_of(settings), "a")["image_embedding"])
    weights = np.array([0.3, -1.0, 0.7, 0.2])
    rounded = scores(stored, weights, 0.0)
    pixels = _pictures(settings)
    exact = scores(MeanClip()(pixels, [""] * len(pixels)).image, weights, 0.0)
    assert (rounded != exact).all()
    for number in range(len(rounded)):
        between = RED.model_copy(update={"weights": tuple(weights), "threshold": (rounded[number] + exact[number]) / 2})
        one, _, _ = in_one_pass(settings, f"one{number}", between)
        two, _, _ = in_two_passes(settings, f"two{number}", between)
        assert spotted(one, settings).equals(spotted(two, settings))
        status = spotted(one, settings)["spot_status"][number].as_py()
        assert status == ("skipped" if rounded[number] < exact[number] else "ok")


def _pictures(settings: Config) -> list[np.ndarray]:
    seen: list[np.ndarray] = []

    class Keeping(SizeSpotter):
        def spot(self, images):
            seen.extend(images)
            return super().spot(images)

    (shard,) = list_shards(settings.input.shards)
    Extractor(settings, None, Keeping()).extract(
        Run(f"{settings.run}-pictures"), shard, [SAMPLES, spotted_of(settings)], lambda *_: None
    )
    return seen


def test_samples_without_an_embedding_are_spotted(settings) -> None:
    """As of an import that lacks some."""
    extract(settings, "imported", [SAMPLES, embeddings_of(settings)], None, MeanClip())
    run, embeddings = Run(f"{settings.run}-imported"), embeddings_of(settings)
    table, footer = run.read_part(embeddings, "a"), run.footer(embeddings, "a")
    missing = np.isin(np.arange(len(table)), [0, 4, 7])
    column = to_column(to_matrix(table["image_embedding"]), "float16", ~missing)
    at = table.column_names.index("image_embedding")
    with run.part(embeddings, "a", schema.embeddings(4)) as part:
        part.write(table.set_column(at, "image_embedding", column))
        part.describe(footer)
    run, _, counts = extract(settings, "imported", [spotted_of(settings)])
    status = spotted(run, settings)["spot_status"].to_pylist()
    assert [number for number, each in enumerate(status) if each == "skipped"] == [1, 5, 6]
    assert counts["spot_skipped"] == 3


def test_a_crashed_sample_is_failed_or_rejected_and_never_skipped(settings) -> None:
    whole, _, _ = in_one_pass(settings)
    run, _, counts = in_one_pass(settings, "crashed", samples={0: "died", 2: "died"})
    rows = spotted(whole, settings).to_pylist()
    assert spotted(run, settings).to_pylist() == [row for row in rows if row["index"] not in (0, 2)]
    assert counts["spot_skipped"] == len(DARK) - 1
    extract(settings, "later", [SAMPLES, embeddings_of(settings)], None, MeanClip())
    run, _, counts = extract(settings, "later", [spotted_of(settings)], samples={0: "died"})
    assert spotted(run, settings)["spot_status"].to_pylist()[:3] == ["failed", "skipped", "ok"]
    assert counts["spot_skipped"] == len(DARK) - 1


@pytest.mark.parametrize("computed", [True, False])
def test_a_search_spots_what_the_pass_would(settings, computed) -> None:
    run = Run(f"{settings.run}-two")
    if not computed:
        in_two_passes(settings)
    steps: list[Place | int | None] = []

    class Stepping(SizeSpotter):
        def spot(self, images):
            steps.append(len(images))
            return super().spot(images)

    text_gate = TextGate(RED, run, embeddings_of(settings))
    extractor = Extractor(settings, MeanClip() if computed else None, Stepping(), text_gate)
    lacking = [spotted_of(settings), *([embeddings_of(settings)] if computed else [])]
    (shard,) = list_shards(settings.input.shards)
    extractor.search(shard, lacking, 0, Crashes(), steps.append)
    ran = [(place.index, size) for place, size in pairwise(steps) if isinstance(place, Place) and size]
    # Alone 0 to 3, then the batch of 0 to 2; 4 to 6, and the batch of 3 to 5: dark ones never.
    assert ran == [(2, 1), (3, 1), (0, 1), (3, 1)]


def test_embeddings_made_under_other_settings_are_refused(settings) -> None:
    extract(settings, "two", [SAMPLES, embeddings_of(settings)], None, MeanClip())
    run = Run(f"{settings.run}-two")
    part = Path(run.part_path(embeddings_of(settings), "a"))
    table = run.read_part(embeddings_of(settings), "a")
    part.unlink()
    with run.part(embeddings_of(settings), "a", schema.embeddings(4)) as again:
        again.write(table)
        again.describe({"fingerprint": "other"})
    with pytest.raises(RunError, match="was made under other settings"):
        extract(settings, "two", [spotted_of(settings)])
    assert run.done(spotted_of(settings)) == set()


def tables(indexes: list[list[int]]):
    for each in indexes:
        vectors = np.array(each)[:, None] * np.ones((1, 2))
        yield pa.table({"index": pa.array(each, pa.int32()), "image_embedding": to_column(vectors, "float16")})


def test_stored_embeddings_are_found_across_tables_with_gaps_and_a_step_back() -> None:
    stored = StoredEmbeddings(tables([[0, 1, 3], [4, 7, 8], [9, 20, 21], [30]]))

    def of(*indexes: int) -> list[float | None]:
        return [None if row is None else row[0] for row in stored.of(indexes).to_pylist()]

    assert of(0, 1, 2) == [0, 1, None]
    assert of(3, 4) == [3, 4]
    assert of(7) == [7]
    assert of(1, 3, 4) == [1, 3, 4]
    assert of(8, 9, 10) == [8, 9, None]
    assert of(15) == [None]
    assert of(21, 22, 29) == [21, None, None]
    assert of(30, 31) == [30, None]
    assert of(40) == [None]
    assert StoredEmbeddings(iter(())).of([1, 2]).to_pylist() == [None, None]
