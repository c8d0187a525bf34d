"""Recall and precision of spotters on words that a person read (../shared/data/truth)."""

import shutil
from pathlib import Path

import pytest

from pipeline.schema import SpotStatus
from pipeline.spotting import load_spotter
from pipeline.spotting.config import RapidOCRConfig, SpotterConfig, TesseractConfig
from tests.pipeline.spotting.truth import Score, score, tokens, truth


@pytest.mark.parametrize(
    ("config", "least_recall", "least_precision"),
    [
        (RapidOCRConfig(), 0.91, 0.935),
        pytest.param(
            *(TesseractConfig(), 0.68, 0.91),
            marks=pytest.mark.skipif(shutil.which("tesseract") is None, reason="Tesseract is not installed"),
        ),
    ],
    ids=["rapidocr", "tesseract"],
)
def test_recall_and_precision_on_real_images(
    shared_data: Path, config: SpotterConfig, least_recall: float, least_precision: float
):
    rows, images = zip(*truth(shared_data), strict=True)
    assert len(images) > 100
    spottings = load_spotter(config, threads=2, device="cpu").spot(images)
    assert {spotting.status for spotting in spottings} == {SpotStatus.OK}
    scores = [score(row, [word.text for word in spotting.words]) for row, spotting in zip(rows, spottings, strict=True)]
    found, written, spotted = (sum(getattr(one, name) for one in scores) for name in ("found", "written", "spotted"))
    recall, precision = found / written, found / spotted
    rates = f"recall {recall:.3f}, precision {precision:.3f}"
    print(f"{config.engine}: {rates}: {found} of {written} words, {spotted} spotted")
    assert recall >= least_recall
    assert precision >= least_precision


def test_a_score_counts_words_and_leaves_unsure_ones_out():
    row = {"words": ["Stop", "the", "THE", "press"], "unsure": ["Pross"]}
    assert score(row, ["stop!", "The", "pross", "bird"]) == Score(found=2, written=4, spotted=3)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["Don't", "STOP!"], {"don": 1, "t": 1, "stop": 1}),
        (["ＡＢＣ", "a_b"], {"abc": 1, "a": 1, "b": 1}),
        (["the", "The", "—"], {"the": 2}),
    ],
)
def test_tokens(words: list[str], expected: dict[str, int]):
    assert tokens(words) == expected
