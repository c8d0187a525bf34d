"""Extract: row-aligned parts from one pass, in batches that depend on the shard alone."""

import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline import schema
from pipeline.batches import Sample, batches
from pipeline.clip import ClipBatch
from pipeline.config import Config, ResourcesConfig
from pipeline.config_file import parse
from pipeline.datasets import REJECTS, SAMPLES, embeddings_of, spotted_of
from pipeline.extract import Extractor
from pipeline.images import DecodedImage
from pipeline.run import Run, RunError
from pipeline.samples import Reject
from pipeline.shards import list_shards
from pipeline.spotting import Spotting, Word
from tests.pipeline.shard_factory import encode, picture, sample, samples, tar

DIM = 4


class MeanClip:
    """Embeds a picture as its mean colour and a caption as its length; remembers its batches."""

    dim = DIM

    def __init__(self) -> None:
        self.batch_sizes: list[int] = []

    def fields(self) -> dict:
        return {"model": "mean", "precision": "fp32"}

    device = "cpu"
    least_side = None

    def crop(self, image):
        return image.mean((0, 1))

    def __call__(self, images, captions) -> ClipBatch:
        return self.embed([self.crop(image) for image in images], captions)

    def embed(self, crops, captions) -> ClipBatch:
        self.batch_sizes.append(len(crops))
        image = np.array([[*colour, 1.0] for colour in crops], np.float32)
        image /= np.linalg.norm(image, axis=1, keepdims=True)
        text = np.array([[len(c), 0, 0, 1.0] for c in captions], np.float32)
        text /= np.linalg.norm(text, axis=1, keepdims=True)
        return ClipBatch(image, text, (image * text).sum(1), np.array([len(c) > 9 for c in captions]))


class SizeSpotter:
    """Reads the picture's width as its only word, and fails on pictures 13 pixels wide."""

    def fingerprint(self) -> dict:
        return {"engine": "size"}

    def spot(self, images) -> list[Spotting]:
        return [self._spot(image.shape[1], image.shape[0]) for image in images]

    def _spot(self, width: int, height: int) -> Spotting:
        if width == 13:
            return Spotting(schema.SpotStatus.FAILED, (), "unlucky")
        corners = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1]], np.int16)
        return Spotting(schema.SpotStatus.OK, (Word(str(width), 0.5, corners),))


def config(tmp_path: Path, **clip) -> Config:
    return parse(
        {
            "run": str(tmp_path / "run"),
            "input": {"shards": str(tmp_path / "*.tar"), "metadata": {"note": "string", "n": "int64"}},
            "clip": clip,
        }
    )


def extract(tmp_path: Path, members, settings: Config | None = None, lacking=None, clip=None):
    """Extract one shard; returns the run, its shard, the counts and what was reported."""
    (tmp_path / "a.tar").write_bytes(tar(members))
    settings = settings or config(tmp_path)
    run, (shard,) = Run(settings.run), list_shards(settings.input.shards)
    extractor = Extractor(settings, clip or MeanClip(), SizeSpotter())
    reports: list[tuple[int, int, int]] = []
    lacking = lacking or [SAMPLES, embeddings_of(settings), spotted_of(settings)]
    counts = extractor.extract(run, shard, lacking, lambda *beat: reports.append(beat))
    return run, shard, counts, reports


def test_parts_are_row_aligned_and_hold_what_the_shard_holds(tmp_path) -> None:
    settings = config(tmp_path)
    bad = ("000000001.jpg", b"no picture")
    run, _, counts, reports = extract(
        tmp_path, [*sample(0), bad, ("000000001.txt", b"x"), *sample(2), ("000000003.jpg", picture(3))]
    )
    kept = run.read_part(SAMPLES, "a").to_pylist()
    assert [(row["index"], row["key"], row["caption"]) for row in kept] == [
        (0, "000000000", "caption 0"),
        (2, "000000002", "caption 2"),
    ]
    assert {row["url"] for row in kept} == {"http://x/0", "http://x/2"}
    assert {(row["width"], row["height"], row["image_format"]) for row in kept} == {(8, 6, "JPEG")}
    rejects = run.read_part(REJECTS, "a").to_pylist()
    assert [(row["index"], row["reason"]) for row in rejects] == [
        (1, "undecodable_image"),
        (3, "missing_caption"),
    ]
    for dataset in (embeddings_of(settings), spotted_of(settings)):
        part = run.read_part(dataset, "a")
        for column in ("shard", "index", "key", "uid"):
            assert part[column].to_pylist() == [row[column] for row in kept]
    assert (counts["rows"], counts["rejects"], counts["reject_undecodable_image"]) == (2, 2, 1)
    assert (sum(r[0] for r in reports), sum(r[1] for r in reports)) == (2, 2)
    assert 0 < reports[-1][2] <= (tmp_path / "a.tar").stat().st_size


def test_the_stored_offset_and_size_are_those_of_the_image(tmp_path) -> None:
    run, *_ = extract(tmp_path, samples(3))
    shard = (tmp_path / "a.tar").read_bytes()
    for number, row in enumerate(run.read_part(SAMPLES, "a").to_pylist()):
        assert shard[row["image_offset"] :][: row["image_size"]] == picture(number)


def test_embeddings_are_float16_and_scores_float32(tmp_path) -> None:
    settings = config(tmp_path)
    run, *_ = extract(tmp_path, samples(2))
    part = run.read_part(embeddings_of(settings), "a")
    image = np.array(part["image_embedding"].to_pylist(), np.float32)
    text = np.array(part["text_embedding"].to_pylist(), np.float32)
    assert str(part["image_embedding"].type) == "fixed_size_list<element: halffloat not null>[4]"
    np.testing.assert_allclose(np.linalg.norm(image, axis=1), 1, atol=1e-3)
    np.testing.assert_allclose(part["clip_score"], (image * text).sum(1), atol=1e-3)


def test_embeddings_may_be_stored_as_float32(tmp_path) -> None:
    settings = config(tmp_path, stored_as="float32")
    run, *_ = extract(tmp_path, samples(2), settings)
    part = run.read_part(embeddings_of(settings), "a")
    assert str(part["text_embedding"].type) == "fixed_size_list<element: float not null>[4]"
    assert part["clip_status"].to_pylist() == ["ok", "ok"]
    image, text = (np.array(part[name].to_pylist(), np.float32) for name in ("image_embedding", "text_embedding"))
    np.testing.assert_allclose(part["clip_score"], (image * text).sum(1), atol=1e-6)


def test_a_failed_spotting_is_a_row_with_null_words_and_the_reason(tmp_path) -> None:
    settings = config(tmp_path)
    from PIL import Image

    unlucky = encode(Image.new("RGB", (13, 6)))
    run, *_ = extract(tmp_path, [*sample(0), ("1.jpg", unlucky), ("1.txt", b"c")])
    first, second = run.read_part(spotted_of(settings), "a").to_pylist()
    assert (first["spot_status"], first["spot_message"]) == ("ok", None)
    assert first["spotted"] == [
        {
            "text": "8",
            "confidence": 0.5,
            "polygon": [{"x": 0, "y": 0}, {"x": 7, "y": 0}, {"x": 7, "y": 5}],
        }
    ]
    assert (second["spot_status"], second["spot_message"], second["spotted"]) == ("failed", "unlucky", None)


def test_parts_that_are_there_are_not_made_again(tmp_path) -> None:
    settings = config(tmp_path)
    run, *_ = extract(tmp_path, samples(3), lacking=[SAMPLES, embeddings_of(settings)])
    assert run.done(spotted_of(settings)) == set()
    before = Path(run.part_path(SAMPLES, "a")).stat().st_mtime_ns
    extract(tmp_path, samples(3), lacking=[spotted_of(settings)])
    assert run.done(spotted_of(settings)) == {"a"}
    assert Path(run.part_path(SAMPLES, "a")).stat().st_mtime_ns == before


def test_a_later_pass_that_sees_other_samples_is_refused(tmp_path) -> None:
    settings = config(tmp_path)
    run, *_ = extract(tmp_path, samples(3), lacking=[SAMPLES])
    with pytest.raises(RunError, match="this pass kept 2 samples, the samples part holds 3"):
        extract(tmp_path, samples(2), lacking=[spotted_of(settings)])
    assert run.done(spotted_of(settings)) == set()


def test_kept_json_keys_are_typed_and_a_misfit_is_told(tmp_path) -> None:
    members = [
        ("0.jpg", picture()), ("0.txt", b"c"), ("0.json", b'{"note": "hi", "n": 7}'),
        ("1.jpg", picture()), ("1.txt", b"c"), ("1.json", b'{"n": "seven"}'),
        ("2.jpg", picture()), ("2.txt", b"c"), ("2.json", b"{"),
        ("3.jpg", picture()), ("3.txt", b"c"),
    ]  # fmt: skip
    run, *_ = extract(tmp_path, members)
    rows = run.read_part(SAMPLES, "a").to_pylist()
    assert [(r["note"], r["n"], r["metadata_status"]) for r in rows] == [
        ("hi", 7, "ok"),
        (None, None, "mismatch"),
        (None, None, "invalid"),
        (None, None, "absent"),
    ]


def test_footers_say_how_the_part_was_made(tmp_path) -> None:
    settings = config(tmp_path)
    run, shard, counts, _ = extract(tmp_path, samples(2))
    footer = run.footer(embeddings_of(settings), "a")
    assert footer["source"] == {"id": "a", "url": shard.url, "size": shard.size, "etag": shard.etag}
    milliseconds = {f"{stage}_ms": round(seconds * 1000) for stage, seconds in footer["seconds"].items()}
    assert footer["counts"] | milliseconds == counts
    assert footer["schema_version"] == schema.VERSION
    assert {"decode", "clip", "spot"} <= set(footer["seconds"])
    assert footer["fingerprint"] != run.footer(SAMPLES, "a")["fingerprint"]


def test_clip_batches_are_full_but_the_last(tmp_path) -> None:
    clip = MeanClip()
    extract(tmp_path, samples(7), config(tmp_path, batch_size=3), clip=clip)
    assert clip.batch_sizes == [3, 3, 1]


def test_threads_that_open_images_change_no_row(tmp_path) -> None:
    members = [*samples(20), ("000000020.jpg", b"no picture"), ("000000020.txt", b"x"), *samples(20, 21)]
    found = []
    for threads in (0, 3):
        (folder := tmp_path / str(threads)).mkdir()
        settings = config(folder, batch_size=4)
        settings = settings.model_copy(update={"resources": ResourcesConfig(decode_threads=threads)})
        run, *_ = extract(folder, members, settings)
        datasets = (SAMPLES, REJECTS, embeddings_of(settings), spotted_of(settings))
        found.append([run.read_part(dataset, "a") for dataset in datasets])
    assert found[0] == found[1]
    assert [part.num_rows for part in found[0]] == [40, 1, 40, 40]


def test_a_gpu_has_threads_that_open_images(tmp_path) -> None:
    opening: set[str] = set()

    class WatchedClip(MeanClip):
        def crop(self, image):
            opening.add(threading.current_thread().name)
            return super().crop(image)

    clip = WatchedClip()
    for device in ("cpu", "cuda"):
        clip.device = device
        (folder := tmp_path / device).mkdir()
        opening.clear()
        extract(folder, samples(20), clip=clip)
        assert (opening == {threading.current_thread().name}) == (device == "cpu")


def test_reduced_images_give_the_same_embeddings_whether_or_not_text_is_spotted(tmp_path) -> None:
    members = [
        member
        for number, grain in enumerate((30, 60, 90))
        for member in (
            (f"{number}.jpg", encode(Image.effect_noise((80 + number, 60), grain).convert("RGB"))),
            (f"{number}.txt", b"noise"),
        )
    ]

    class ReducedClip(MeanClip):
        least_side = 15

    found = []
    for name, clip, spots in (
        ("both", ReducedClip(), True),
        ("clip", ReducedClip(), False),
        ("whole", MeanClip(), False),
    ):
        (folder := tmp_path / name).mkdir()
        settings = config(folder)
        lacking = [SAMPLES, embeddings_of(settings), *([spotted_of(settings)] if spots else [])]
        run, *_ = extract(folder, members, settings, lacking, clip)
        sizes = run.read_part(SAMPLES, "a").select(["width", "height"]).to_pylist()
        assert sizes == [{"width": 80 + number, "height": 60} for number in range(3)]
        found.append(run.read_part(embeddings_of(settings), "a"))
        if spots:  # whole images: the spotter of this test reads their width
            words = run.read_part(spotted_of(settings), "a")["spotted"].to_pylist()
            assert [word["text"] for (word,) in words] == ["80", "81", "82"]
    assert found[0] == found[1]
    assert found[1] != found[2]


def test_an_empty_shard_has_empty_parts(tmp_path) -> None:
    settings = config(tmp_path)
    run, _, counts, _ = extract(tmp_path, [])
    assert counts["rows"] == 0
    for dataset in (SAMPLES, REJECTS, embeddings_of(settings), spotted_of(settings)):
        assert run.read_part(dataset, "a").num_rows == 0


def _sample(height: int, width: int) -> Sample:
    # A view, so that a large picture costs no memory here.
    pixels = np.broadcast_to(np.uint8(0), (height, width, 3))
    return Sample(None, DecodedImage(pixels, "PNG"), "")  # type: ignore[arg-type]


def test_batches_are_bounded_in_samples_pixels_and_rejects() -> None:
    huge, small = _sample(8000, 7000), _sample(10, 10)
    assert [len(s) for s, _ in batches([small] * 5, 2)] == [2, 2, 1]
    assert [len(s) for s, _ in batches([huge, huge, small, small, huge], 64)] == [1, 3, 1]
    reject = Reject(0, "k", schema.RejectReason.HALF_SAMPLE, "", 0)
    assert [len(r) for _, r in batches([reject] * 2500, 64)] == [1024, 1024, 452]
    assert list(batches([], 64)) == []
