import numpy as np
import pytest

from pipeline.demo.evaluation import WEIGHTS, Reader, Report, draw_fresh, evaluate, wipe_words
from pipeline.demo.samples import Kind


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader()


@pytest.fixture(scope="module")
def report(reader: Reader) -> Report:
    return evaluate(reader, count=100, seed=2)


def test_the_file_is_small_enough_to_commit() -> None:
    assert WEIGHTS.stat().st_size <= 20 * 2**20


def test_it_names_objects_and_scenes(report: Report) -> None:
    assert report.object_top1 >= 0.9
    assert report.scene_top1 >= 0.95


def test_it_reads(report: Report) -> None:
    assert report.word_top1_sign >= 0.85
    assert report.word_top1_object_picture >= 0.75


def test_what_it_reads_is_gone_when_the_word_is_wiped(report: Report) -> None:
    assert report.margin_sign > 0.25
    assert report.margin_object_picture > 0.25
    assert abs(report.margin_sign_wiped) < 0.05
    assert abs(report.margin_object_picture_wiped) < 0.05


def test_right_captions_score_above_wrong_ones(reader: Reader) -> None:
    contents, pictures = draw_fresh(Kind.OBJECT_WITH_WORD, 100, seed=5)
    image = reader.embed_pictures([picture.pixels for picture in pictures])
    captions = [f"a {c.thing.colour} {c.thing.name} with the word {c.words[0]}" for c in contents if c.thing]
    text = reader.embed_captions(captions)
    assert np.allclose(np.linalg.norm(image, axis=1), 1, atol=1e-5)
    right = (image * text).sum(axis=1)
    wrong = (image * np.roll(text, 1, axis=0)).sum(axis=1)
    assert (right > wrong).mean() >= 0.97


def test_wiping_touches_the_words_alone() -> None:
    _, pictures = draw_fresh(Kind.SIGN, 5, seed=6)
    for picture in pictures:
        changed = (wipe_words(picture) != picture.pixels).any(axis=2)
        assert 0 < changed.mean() < 0.8
