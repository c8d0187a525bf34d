"""Samples that are known to crash are left out without moving others, and a search runs what it announces."""

from itertools import pairwise

import numpy as np
import pytest

from pipeline import schema
from pipeline.config import ResourcesConfig
from pipeline.crashes import Crashes, Place
from pipeline.datasets import REJECTS, SAMPLES, embeddings_of, spotted_of
from pipeline.extract import Extractor
from pipeline.run import Run
from pipeline.shards import list_shards
from tests.pipeline.shard_factory import picture, samples, tar
from tests.pipeline.test_extract import MeanClip, SizeSpotter, config

BAD = [("000000002.jpg", b"no picture"), ("000000002.txt", b"c")]
MEMBERS = [*samples(2), *BAD, *samples(8, start=3)]
"""Eleven samples, of which the third is undecodable."""


class Told(SizeSpotter):
    """Remembers the sizes of its batches."""

    def __init__(self) -> None:
        self.batch_sizes: list[int] = []

    def spot(self, images):
        self.batch_sizes.append(len(images))
        return super().spot(images)


@pytest.fixture
def pass_over(tmp_path):
    """A pass over the shard: its run, and the models with the batches they saw."""
    (tmp_path / "a.tar").write_bytes(tar(MEMBERS))
    settings = config(tmp_path, batch_size=3)
    (shard,) = list_shards(settings.input.shards)

    def extract(name: str, crashes: Crashes, lacking=None) -> tuple[Run, MeanClip, Told]:
        run, clip, spotter = Run(str(tmp_path / name)), MeanClip(), Told()
        everything = [SAMPLES, embeddings_of(settings), spotted_of(settings)]
        Extractor(settings, clip, spotter).extract(run, shard, lacking or everything, lambda *_: None, crashes)
        return run, clip, spotter

    return extract


def test_a_crashed_sample_is_a_reject_and_every_other_row_is_as_without_it(tmp_path, pass_over) -> None:
    settings = config(tmp_path)
    whole, clip, _ = pass_over("whole", Crashes())
    run, same_clip, spotter = pass_over("run", Crashes({0: "died", 6: "died too"}))
    assert same_clip.batch_sizes == clip.batch_sizes == spotter.batch_sizes == [3, 3, 3, 1]
    for dataset in (SAMPLES, embeddings_of(settings), spotted_of(settings)):
        rows = whole.read_part(dataset, "a").to_pylist()
        assert run.read_part(dataset, "a").to_pylist() == [row for row in rows if row["index"] not in (0, 6)]
    rejects = {row["index"]: row for row in run.read_part(REJECTS, "a").to_pylist()}
    assert {index: row["reason"] for index, row in rejects.items()} == {
        0: "crashed",
        2: "undecodable_image",
        6: "crashed",
    }
    assert (rejects[6]["key"], rejects[6]["message"]) == ("000000006", "died too")
    shard = (tmp_path / "a.tar").read_bytes()
    assert shard[rejects[6]["offset"] :].startswith(picture(6))
    assert run.footer(SAMPLES, "a")["counts"]["reject_crashed"] == 2


def test_a_later_pass_leaves_rejects_alone_and_makes_failed_rows(tmp_path, pass_over) -> None:
    settings = config(tmp_path)
    pass_over("run", Crashes({0: "died"}), [SAMPLES])
    run, _, _ = pass_over("run", Crashes({6: "died too"}), [embeddings_of(settings), spotted_of(settings)])
    indexes = run.read_part(SAMPLES, "a")["index"].to_pylist()
    embeddings, spotted = (run.read_part(name(settings), "a").to_pylist() for name in (embeddings_of, spotted_of))
    assert [row["index"] for row in embeddings] == [row["index"] for row in spotted] == indexes
    at = indexes.index(6)
    assert (spotted[at]["spot_status"], spotted[at]["spot_message"], spotted[at]["spotted"]) == (
        "failed",
        "died too",
        None,
    )
    assert embeddings[at].pop("clip_status") == schema.ClipStatus.FAILED
    values = ("clip_score", "caption_truncated", "image_embedding", "text_embedding")
    assert [embeddings[at][name] for name in values] == [None] * 4
    assert {row["clip_status"] for row in [*embeddings[:at], *embeddings[at + 1 :]]} == {"ok"}
    assert all(len(row["image_embedding"]) == 4 for row in [*embeddings[:at], *embeddings[at + 1 :]])


def test_a_batch_too_large_runs_as_single_samples(tmp_path, pass_over) -> None:
    settings = config(tmp_path)
    whole, _, _ = pass_over("whole", Crashes())
    run, clip, spotter = pass_over("run", Crashes({}, frozenset({4})))
    assert clip.batch_sizes == spotter.batch_sizes == [3, 1, 1, 1, 3, 1]
    for dataset in (SAMPLES, spotted_of(settings)):
        assert run.read_part(dataset, "a").equals(whole.read_part(dataset, "a"))
    scores = [each.read_part(embeddings_of(settings), "a")["clip_score"] for each in (run, whole)]
    np.testing.assert_allclose(*scores, atol=1e-6)


def test_reports_say_where_the_next_batch_begins(tmp_path) -> None:
    (tmp_path / "a.tar").write_bytes(tar(MEMBERS))
    settings = config(tmp_path, batch_size=3)
    (shard,) = list_shards(settings.input.shards)
    told: list[int] = []
    Extractor(settings, None, SizeSpotter()).extract(
        Run(settings.run), shard, [SAMPLES], lambda *beat: told.append(beat[3])
    )
    assert told == [4, 7, 10, 11]


def test_a_search_runs_what_it_announces_and_ends_after_two_batches(tmp_path) -> None:
    (tmp_path / "a.tar").write_bytes(tar(MEMBERS))
    settings = config(tmp_path, batch_size=3)
    (shard,) = list_shards(settings.input.shards)
    steps: list[Place | int | None] = []

    class Stepping(SizeSpotter):
        def spot(self, images):
            steps.append(len(images))
            return super().spot(images)

    extractor = Extractor(settings, None, Stepping())
    crashes = Crashes({3: "died"}, frozenset({5}))
    extractor.search(shard, [spotted_of(settings)], 1, crashes, steps.append)
    # What is known to crash has its place and is not run; the undecodable one is announced. A batch is known to be
    # full by the sample after it, which comes first.
    assert [place.index for place in steps if isinstance(place, Place) and place.what == "alone"] == list(range(1, 9))
    assert [place.index for place in steps if isinstance(place, Place) and place.what == "batch"] == [1]
    ran = [(place.index, size) for place, size in pairwise(steps) if isinstance(place, Place) and size]
    assert ran == [(1, 1), (4, 1), (5, 1), (1, 3), (6, 1), (7, 1), (8, 1)]
    assert not (tmp_path / "run").exists()
    steps.clear()
    extractor.search(shard, [SAMPLES], 9, crashes, steps.append)
    assert 1 not in steps


@pytest.mark.parametrize(("threads", "searched"), [(0, [0, 1]), (2, [0, 1, 3, 4])])
def test_a_search_goes_as_far_as_threads_may_have_opened_images(tmp_path, threads, searched) -> None:
    (tmp_path / "a.tar").write_bytes(tar(MEMBERS))
    settings = config(tmp_path, batch_size=1)
    settings = settings.model_copy(update={"resources": ResourcesConfig(decode_threads=threads)})
    (shard,) = list_shards(settings.input.shards)
    steps: list[Place | None] = []
    Extractor(settings, None, SizeSpotter()).search(shard, [spotted_of(settings)], 0, Crashes(), steps.append)
    assert [place.index for place in steps if place and place.what == "batch"] == searched
