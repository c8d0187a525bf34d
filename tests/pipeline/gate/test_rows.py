"""Drawing rows: those of the smallest hashes, both datasets aligned, and no learning from what a gate has hidden."""

import numpy as np
import pytest

from pipeline.datasets import Dataset
from pipeline.fingerprint import digest
from pipeline.gate import GateError
from pipeline.gate.rows import draw_rows
from pipeline.run import Run, RunError
from tests.pipeline.gate.drawn import CLIP, DIM, SPOTTER, draw_run, write

EMBEDDINGS, SPOTTED = Dataset("embeddings", "main"), Dataset("spotted", "main")


def test_at_most_so_many_rows_of_the_smallest_hashes_are_drawn(tmp_path) -> None:
    run = draw_run(str(tmp_path / "run"), 400)
    every, some = (draw_rows(run, EMBEDDINGS, SPOTTED, most) for most in (1_000, 100))
    assert (len(every.hashes), len(some.hashes)) == (400, 100)
    assert some.hashes.max() == np.sort(every.hashes)[99]
    order = np.argsort(every.hashes)[:100]
    assert every.embeddings.dtype == np.float16
    np.testing.assert_array_equal(every.embeddings[np.sort(order)], some.embeddings)
    np.testing.assert_array_equal(every.words[np.sort(order)] > 0, some.has_text)


def test_only_shards_that_have_both_are_read(tmp_path) -> None:
    run = draw_run(str(tmp_path / "run"), 400)
    run.remove(SPOTTED, "00001.parquet")
    assert len(draw_rows(run, EMBEDDINGS, SPOTTED).hashes) == 300
    for shard in ("00000", "00002", "00003"):
        run.remove(EMBEDDINGS, f"{shard}.parquet")
    with pytest.raises(GateError, match=r"No shard of .* has both embeddings/main and spotted/main"):
        draw_rows(run, EMBEDDINGS, SPOTTED)


def test_datasets_that_are_not_there_or_were_gated_are_refused(tmp_path) -> None:
    run = draw_run(str(tmp_path / "run"), 40, spotter={**SPOTTER, "gate": {"digest": "x"}})
    with pytest.raises(GateError, match="has no spotted/pilot yet"):
        draw_rows(run, EMBEDDINGS, Dataset("spotted", "pilot"))
    with pytest.raises(GateError, match=r"spotted/main of .* was spotted through a gate, which hides what it missed"):
        draw_rows(run, EMBEDDINGS, SPOTTED)


def add(run: Run, rows: int, clip: str = digest(CLIP)) -> None:
    """A fifth shard of a drawn run."""
    write(run, EMBEDDINGS, SPOTTED, "x", np.eye(DIM)[np.arange(rows)], np.ones(rows), 0, 0, clip, digest(SPOTTER))


def test_parts_of_other_samples_are_refused(tmp_path) -> None:
    run, other = (draw_run(str(tmp_path / name), 40) for name in "ab")
    add(run, 10)
    add(other, 9)
    run.write_bytes(other.fs.cat_file(other.part_path(SPOTTED, "x")), SPOTTED, "x.parquet")
    with pytest.raises(RunError, match="Shard x: embeddings/main and spotted/main hold different samples"):
        draw_rows(run, EMBEDDINGS, SPOTTED)


def test_a_part_that_was_made_otherwise_than_its_dataset_is_refused(tmp_path) -> None:
    run = draw_run(str(tmp_path / "run"), 40)
    add(run, 10, clip=digest({"model": "other"}))
    with pytest.raises(RunError, match=r"embeddings/main/x\.parquet was made under other settings"):
        draw_rows(run, EMBEDDINGS, SPOTTED)
