"""A short campaign on fixed seeds in which every kind of fault comes up, and proof that its check sees a wrong run."""

import shutil
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.datasets import SAMPLES
from pipeline.run import Run
from tests.faults.campaign import rounds, stage, told
from tests.faults.plan import KINDS, draw_round

SEED = 1
SHORT = (8, 18, 20, 29, 79, 81)


@pytest.fixture(scope="module")
def scene():
    # Not below tmp_path, for a socket's path has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="faults") as folder, stage(Path(folder), SEED) as scene:
        yield scene


def test_every_kind_of_fault_is_drawn() -> None:
    assert {kind for number in SHORT for kind in draw_round(SEED, number).kinds} == set(KINDS)


def test_a_round_depends_on_its_seed_and_number_alone() -> None:
    assert draw_round(1, 7) == draw_round(1, 7)
    assert len({draw_round(seed, number) for seed in range(5) for number in range(5)}) == 25


@pytest.mark.parametrize("number", SHORT)
def test_disturbed_runs_equal_an_undisturbed_one(scene, number) -> None:
    (result,) = rounds(scene, SEED, [number])
    assert not result.problems, told(result)


def damage_rows(run: Run) -> None:
    path = run.part_path(SAMPLES, "00001")
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)


def double_part(run: Run) -> None:
    shutil.copy(run.part_path(SAMPLES, "00001"), run.part_path(SAMPLES, "00009"))


def lose_part(run: Run) -> None:
    run.remove(SAMPLES, "00001.parquet")


def leave_spool(run: Run) -> None:
    Path(run.path(SAMPLES, ".host~1~2.tmp")).touch()


def leave_error(run: Run) -> None:
    run.write_json({}, "errors", "00001.json")


@pytest.mark.parametrize("damage", [damage_rows, double_part, lose_part, leave_spool, leave_error])
def test_the_check_sees_what_is_wrong(scene, tmp_path, damage) -> None:
    copy = Run(str(shutil.copytree(scene.world.reference.root, tmp_path / "run")))
    assert scene.world.differences(copy, ["profile"]) == []
    damage(copy)
    assert scene.world.differences(copy, ["profile"])
