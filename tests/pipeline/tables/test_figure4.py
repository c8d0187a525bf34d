from collections import Counter

import numpy as np
import pytest

from pipeline.tables.figure4 import MOST_WORDS, figure4
from tests.pipeline.tables.rows import failed, profile, table


def tables(*rows: dict) -> dict[str, list[dict]]:
    return {result.name: result.table.to_pylist() for result in figure4(table(*rows))}


def test_words_are_counted_and_long_captions_share_the_last_bin():
    sizes = ((4, 2), (4, 2), (4, 0), (0, 0), (100, 99), (31, 2))
    found = tables(*(profile(words, shared) for words, shared in sizes), failed(words=5))["figure_4a"]
    assert {(row["caption_words"], row["co_emb_words"]): row["images"] for row in found} == {
        (4, 2): 2, (4, 0): 1, (0, 0): 1, (MOST_WORDS, MOST_WORDS): 1, (MOST_WORDS, 2): 1}  # fmt: skip


def test_areas_and_scores_are_counted_for_co_embedded_text_only():
    rows = [
        profile(4, 1, co_emb_area=0.05, clip_score=0.311),
        profile(4, 1, co_emb_area=0.059, clip_score=0.318),
        profile(4, 1, co_emb_area=1.7, clip_score=-0.005),
        profile(4, 1, co_emb_area=0.05, clip_score=None),
        profile(4, 0, co_emb_area=0.0, clip_score=0.3),
        failed(clip_score=0.3),
    ]
    results = {result.name: result for result in figure4(table(*rows))}
    assert results["figure_4b"].table.to_pylist() == [
        {"area_from": 0.04, "score_from": 0.31, "images": 2, "mean_clip_score": pytest.approx(0.3145)},
        {"area_from": 1, "score_from": -0.01, "images": 1, "mean_clip_score": pytest.approx(-0.005)},
    ]
    assert results["figure_4b"].notes == (
        "1 images could not be spotted and are left out.",
        "1 images with co-embedded text have no CLIP score and are left out.",
    )


def test_areas_of_single_words_equal_plain_counting():
    generator = np.random.default_rng(0)
    areas = generator.beta(1, 20, (200, 3)).astype(np.float32)
    flags = generator.random((200, 3)) < 0.4
    rows = [
        profile(4, 1, spotted_area=area.tolist(), spotted_co_emb=flag.tolist())
        for area, flag in zip(areas, flags, strict=True)
    ]
    found = tables(*rows, failed(), profile(spotted_area=[3.0], spotted_co_emb=[False]), profile(text=False))
    expected = Counter(zip(flags.ravel().tolist(), np.floor(areas.ravel() * 1000.0).tolist(), strict=True))
    expected[False, 1000.0] += 1  # larger than the image: a polygon that crosses itself
    assert Counter({(row["co_emb"], round(row["area_from"] * 1000)): row["words"] for row in found["figure_4c"]}) == {
        (flag, int(bin_)): count for (flag, bin_), count in expected.items()}  # fmt: skip
    inside = found["figure_4c_quantiles"][1]
    assert inside["words"] == flags.sum()
    assert inside["mean_area"] == pytest.approx(areas[flags].mean())
    quantiles = [inside[f"area_q{q:02d}"] for q in (5, 25, 50, 75, 95)]
    exact = np.quantile(areas[flags], [0.05, 0.25, 0.5, 0.75, 0.95], method="inverted_cdf")
    np.testing.assert_allclose(quantiles, exact, atol=1e-4)


def test_a_run_without_text_has_empty_tables():
    found = tables(profile(4, 0, text=False))
    assert found["figure_4b"] == found["figure_4c"] == found["figure_4c_quantiles"] == []
    assert all(rows == [] for rows in tables().values())
