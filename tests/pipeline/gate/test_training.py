"""Learning a gate: a known signal is found, the recall holds on rows it has not seen, and too little is refused."""

import numpy as np
import pytest
from scipy.stats import binom

from pipeline.datasets import Dataset
from pipeline.gate import GateError
from pipeline.gate.file import clip_part, scores, spotter_part
from pipeline.gate.rows import Rows, draw_rows
from pipeline.gate.training import CONFIDENCE, allowed_misses, clopper_pearson, learn, needed
from tests.pipeline.gate.drawn import CLIP, DIM, SPOTTER, draw_run

EMBEDDINGS, SPOTTED = Dataset("embeddings", "main"), Dataset("spotted", "main")


def drawn(n: int, seed: int = 0, text_share: float = 0.5, apart: float = 3.0) -> Rows:
    """Rows of the same kind as `draw_run`'s, without a run."""
    rng = np.random.default_rng(seed)
    has_text = rng.random(n) < text_share
    vectors = rng.normal(size=(n, DIM))
    vectors[:, 0] += apart * has_text
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    hashes = rng.integers(0, 1 << 63, n).astype(np.uint64)
    words, made = has_text * rng.integers(1, 4, n), (clip_part(CLIP), spotter_part(SPOTTER))
    return Rows(vectors.astype(np.float16), has_text, words, hashes, {}, *made)


def test_a_clear_signal_saves_most_of_the_spotting_and_misses_little(tmp_path) -> None:
    run = draw_run(str(tmp_path / "run"), 8_000, text_share=0.3, apart=12.0, missing=2, failed=3)
    rows = draw_rows(run, EMBEDDINGS, SPOTTED)
    assert len(rows.has_text) == 8_000 - 4 * 5
    assert rows.left_out == {"without_embedding": 8, "spotting_failed": 12}
    gate = learn(rows, 0.98)
    assert (gate.clip, gate.spotter) == ({"model": "drawn", "precision": "fp32"}, {"engine": "drawn"})
    assert gate.rows["training"] + gate.rows["choosing"] + gate.rows["measuring"] == len(rows.has_text)
    assert 0.55 < gate.rows["training"] / len(rows.has_text) < 0.65
    assert gate.measured.images == gate.rows["measuring"]
    assert gate.measured.recall >= 0.98
    assert 0.6 < gate.measured.skipped < 0.72
    # What was measured is what the gate does: counted again, over the same rows.
    held_out = rows.hashes % np.uint64(10) >= 8
    kept = scores(rows.embeddings[held_out], np.array(gate.weights), gate.bias) >= gate.threshold
    assert gate.measured.missed == np.sum(~kept & rows.has_text[held_out])
    assert gate.measured.skipped == np.mean(~kept)
    assert gate.measured.word_recall == rows.words[held_out][kept].sum() / rows.words[held_out].sum()


def test_the_wanted_recall_is_met_in_the_population_as_often_as_is_claimed() -> None:
    fresh = drawn(60_000, seed=1_000)
    fresh_text = fresh.embeddings[fresh.has_text]
    met = 0
    for seed in range(60):
        gate = learn(drawn(3_000, seed=seed), 0.95)
        met += np.mean(scores(fresh_text, np.array(gate.weights), gate.bias) >= gate.threshold) >= 0.95
    # At 95 % confidence fewer than 52 of 60 would be a chance of 0.5 %; all of 60 one of 5 %.
    assert binom.cdf(51, 60, CONFIDENCE) < 0.01
    assert met >= 52


def test_measured_intervals_hold_the_true_recall() -> None:
    fresh = drawn(60_000, seed=1_000)
    held = 0
    for seed in range(40):
        gate = learn(drawn(2_000, seed=seed), 0.95)
        kept = scores(fresh.embeddings[fresh.has_text], np.array(gate.weights), gate.bias) >= gate.threshold
        held += gate.measured.recall_low_95 <= np.mean(kept) <= gate.measured.recall_high_95
    assert held >= 34


@pytest.mark.parametrize("recall", [0.9, 0.95, 0.99, 0.995])
@pytest.mark.parametrize("n", [59, 299, 598, 2_000])
def test_misses_are_as_many_as_the_exact_interval_allows(n, recall) -> None:
    misses = allowed_misses(n, recall)
    if misses >= 0:
        # One-sided: the two-sided interval of twice the tail.
        assert binom.cdf(misses, n, 1 - recall) <= 0.05
    else:
        assert n < needed(recall)
    assert binom.cdf(misses + 1, n, 1 - recall) > 0.05
    assert allowed_misses(needed(recall), recall) == 0
    assert allowed_misses(needed(recall) - 1, recall) == -1


def test_the_exact_interval_of_textbooks() -> None:
    assert clopper_pearson(10, 10) == pytest.approx((0.6915, 1.0), abs=1e-4)
    assert clopper_pearson(81, 263) == pytest.approx((0.2527, 0.3676), abs=1e-4)
    assert clopper_pearson(0, 5)[0] == 0.0


def test_without_a_signal_the_gate_saves_little_and_says_so() -> None:
    gate = learn(drawn(6_000, apart=0.0), 0.98)
    assert gate.measured.skipped < 0.05
    assert gate.measured.recall > 0.95


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (drawn(3_000, text_share=0.0), "Too few images to learn from: of 3,000 usable images 0 have text, and 20 with"),
        (drawn(3_000, text_share=1.0), "of 3,000 usable images 3,000 have text"),
        (drawn(30), "Too few images to learn from: of 30 usable"),
        (drawn(0), "of 0 usable images 0 have text"),
        (drawn(900), r"A recall of 99.50% cannot be shown: .* show 9\d.\d+% at most, .* takes 598, in all some 2,990"),
    ],
)  # fmt: skip
def test_too_little_is_refused_with_what_it_takes(rows, told) -> None:
    with pytest.raises(GateError, match=told):
        learn(rows, 0.995)


def test_the_same_rows_give_the_same_gate() -> None:
    assert learn(drawn(2_000), 0.95) == learn(drawn(2_000), 0.95)
